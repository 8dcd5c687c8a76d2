"""The two handshakes, answered or refused as HTTP."""

from __future__ import annotations

from functools import partial

from gateway.api.openai_routes import ask_for
from gateway.api.router import AZURE_PREFIXES, OPENAI_PREFIXES, Hit, Route
from gateway.api.runtime import Current
from gateway.dialects import openai
from gateway.dialects.openai.operations import REALTIME, RESPONSES
from gateway.errors import FieldNotAllowed, ModelNotFound
from gateway.http.app_server import Upgrade
from gateway.http.reply import Reply
from gateway.types import Endpoint, Model
from gateway.websockets.realtime_session import RealtimeSession
from gateway.websockets.responses_session import ResponsesSession
from gateway.websockets.sockets import Sockets
from gateway.websockets.upstream_choice import Opening
from gateway.websockets.waiting import SocketTurn, of_opening


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


async def responses(sockets: Sockets, hit: Hit) -> Reply:
    """Open a socket for responses; its first message names the model."""
    return Upgrade(ResponsesSession(sockets, hit).converse)


async def realtime(sockets: Sockets, hit: Hit) -> Reply:
    """Open a session with the model of the query, its upstream first.

    Without one, with the first that names `realtime` in its operations.
    """
    query = hit.request.query
    if "call_id" in query:
        raise FieldNotAllowed("Calls that began elsewhere cannot be joined here.", param="call_id")
    name = query.get("model") or query.get("deployment")
    ask = await ask_for(hit, REALTIME, openai.RequestBody(b"{}", {"model": name} if name else {}))
    if not any(endpoint.websocket for endpoint in ask.access.model.endpoints):
        raise ModelNotFound("No endpoint of this model speaks Realtime.", param="model")
    most_bytes = hit.runtime.settings.server.max_body_mb * 2**20
    connection = hit.request.connection
    connection.watch(None)
    turn = SocketTurn.of(hit, ask, of_opening)
    try:
        if turn is not None:
            await turn.wait()
            ask = turn.ask
        opened = await Opening(hit, ask, REALTIME.path, _named, most_bytes, turn=turn).open()
    finally:
        connection.unwatch()
        if turn is not None:
            turn.release()
    session = RealtimeSession(sockets, hit, ask, opened)
    return Upgrade(session.converse, session.abandon)


def _named(endpoint: Endpoint, model: Model) -> dict[str, str]:
    return {"model": endpoint.provider_model or model.provider_model or model.name}
