"""A request to relay: its route, body, caller and model."""

from __future__ import annotations

from typing import NamedTuple

from gateway.access.companions import Companion, are_served_at
from gateway.dialects import openai
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, Endpoint, Model, id_text


class RelayRoute(NamedTuple):
    """One relayed path and what is special about it."""

    path: str  # what is appended to an endpoint's base URL
    is_text: bool = False  # its results are text: an unknown model may be served by the assigned one
    asks_usage: bool = False  # streams get `stream_options.include_usage`
    has_fallbacks: bool = True  # vectors of another model would be worthless
    names_errors: bool = False  # an error in a stream is an `event: error`, numbered as all its events are

    @property
    def end_signs(self) -> tuple[bytes, ...]:
        """What to look for in the last event of a stream."""
        return openai.CHAT_END_SIGNS if self.asks_usage else openai.END_SIGNS


class Ask(NamedTuple):
    """A request to relay: its body, caller, route and model."""

    route: RelayRoute
    body: openai.RequestBody
    caller: Caller
    access: Access
    catalogue: Catalogue
    companions: tuple[Companion, ...] = ()  # one for each of the body's mentions

    def endpoints_left_out(self, model: Model) -> set[str]:
        """List endpoints that lack what the request names besides the model.

        Ids of endpoints of `model`, as text.
        """
        if not self.companions:
            return set()
        return {id_text(one.id) for one in model.endpoints if not are_served_at(self.companions, one)}

    def body_for(self, endpoint: Endpoint, model: Model, *, include_usage: bool) -> bytes:
        """The body as it goes to this endpoint of `model`."""
        name = endpoint.provider_model or model.provider_model or model.name
        mentioned = [each.provider_model_at(endpoint) or each.model.name for each in self.companions]
        return self.body.rewritten(name, include_usage=include_usage, mentioned=mentioned)
