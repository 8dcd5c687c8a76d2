"""What a client's connection takes from the server that made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError
from gateway.http.bounds import ClientBounds
from gateway.http.memory_budget import Memory
from gateway.http.message import Head, Request
from gateway.http.reply import Answer, Reply

if TYPE_CHECKING:
    from gateway.http.fast_lane.connection import LaneConnection


class LaneServer(Protocol):
    """The server as its connections see it.

    Read anew each time, since a reload changes some of it.
    """

    handler: Callable[[Request], Awaitable[Reply]]
    bounds: Callable[[], ClientBounds]  # those that hold now
    memory: Memory
    retiring: bool  # from then on every answer asks its client to go elsewhere

    def serves(self, head: Head) -> bool:
        """Whether the lane serves this request; else the application server does."""

    def may_upgrade(self, head: Head) -> bool:
        """Whether what this request asks for may upgrade its connection."""

    def render_error(self, fault: GatewayError, path: str) -> Answer:
        """Render a fault found in parsing, in its path's shape."""

    def when_application_is_there(self, connection: LaneConnection) -> None:
        """Call `begin_passage` once the application server is loaded."""

    def joined(self, connection: LaneConnection) -> None: ...

    def left(self, connection: LaneConnection) -> None: ...

    def made_a_mistake(self) -> None: ...
