"""A request to relay: its operation, body, caller and model."""

from __future__ import annotations

from typing import NamedTuple

from gateway.access.companions import Companion, are_served_at
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.limits import Terms
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, Endpoint, Model, id_text


class Ask(NamedTuple):
    """A request to relay: its operation, body, caller and model."""

    operation: Operation
    body: openai.RequestBody
    caller: Caller
    access: Access
    catalogue: Catalogue
    terms: Terms
    companions: tuple[Companion, ...] = ()  # one for each of the body's mentions
    streams_by_query: bool = False  # the URL asks for a stream

    @property
    def wants_stream(self) -> bool:
        """Whether the client asks for a stream, in whichever way."""
        fields = self.body.fields
        return fields.get("stream") is True or fields.get("stream_format") == "sse" or self.streams_by_query

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
