"""The two handshakes, answered or refused as HTTP."""

from __future__ import annotations

from gateway.api.openai_routes import ask_for
from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.openai.operations import REALTIME
from gateway.errors import FieldNotAllowed, ModelNotFound
from gateway.http.app_server import Upgrade
from gateway.http.reply import Reply
from gateway.types import Endpoint, Model
from gateway.websockets.realtime_session import RealtimeSession
from gateway.websockets.responses_session import ResponsesSession
from gateway.websockets.sockets import Sockets
from gateway.websockets.upstream_choice import Opening
from gateway.websockets.waiting import SocketTurn, of_opening


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
