"""What is asked of the relay: the route, and the request that may go that way."""

from __future__ import annotations

from typing import NamedTuple

from gateway import openai
from gateway.grants.base import Catalogue
from gateway.types import Access, Caller


class RelayRoute(NamedTuple):
    """One relayed path and what is special about it."""

    path: str  # what is appended to an endpoint's base URL
    is_text: bool = False  # its results are text: an unknown model may be served by the assigned one
    asks_usage: bool = False  # streams get `stream_options.include_usage`
    has_fallbacks: bool = True  # vectors of another model would be worthless
    names_errors: bool = False  # an error in a stream is an `event: error`


class Ask(NamedTuple):
    """A request that may be relayed: its body, whose it is and what it is served by."""

    route: RelayRoute
    body: openai.RequestBody
    caller: Caller
    access: Access
    catalogue: Catalogue
