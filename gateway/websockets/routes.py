"""The rows of the two handshakes, and where they may be."""

from __future__ import annotations

from functools import partial

from gateway.api.router import AZURE_PREFIXES, OPENAI_PREFIXES, Hit, Route
from gateway.api.runtime import Current
from gateway.dialects.openai.operations import REALTIME, RESPONSES
from gateway.http.reply import Reply
from gateway.websockets.sockets import Sockets


def socket_routes(current: Current) -> list[Route]:
    """The rows that are found where a client wants a WebSocket."""
    sockets = Sockets(current)
    rows = ((RESPONSES, partial(responses, sockets)), (REALTIME, partial(realtime, sockets)))
    return [
        Route("GET", prefix + operation.path[1:], handler, operation=operation)
        for prefix in (*(f"{each}/" for each in OPENAI_PREFIXES), *AZURE_PREFIXES)
        for operation, handler in rows
    ]


class SocketPaths:
    """The paths that may be upgraded now.

    None while WebSockets are switched off: a connection goes on after a refusal then.
    """

    __slots__ = ("_current", "_paths")

    def __init__(self, paths: frozenset[str], current: Current) -> None:
        self._paths = paths
        self._current = current

    def __contains__(self, path: object) -> bool:
        return path in self._paths and self._current.runtime.settings.server.websockets


# What they need is loaded with the first of them: aiohttp, and a dozen of our modules.


async def responses(sockets: Sockets, hit: Hit) -> Reply:
    from gateway.websockets import handshakes

    return await handshakes.responses(sockets, hit)


async def realtime(sockets: Sockets, hit: Hit) -> Reply:
    from gateway.websockets import handshakes

    return await handshakes.realtime(sockets, hit)
