"""Both WebSockets: responses on lanes, and sessions of realtime in text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from gateway.demo.upstream.bodies import MAX_BODY_BYTES
from gateway.demo.upstream.desk import Desk, Json, Refused, desk_of, new_id
from gateway.demo.upstream.response_shapes import events_of
from gateway.demo.upstream.responses import respond
from gateway.demo.upstream.words import MODEL, count_words, response_usage
from gateway.http.sse import events_data

_TEXT = "Hello! I am the demo model, and I have heard you."


async def responses(request: web.Request) -> web.StreamResponse:
    """Answer each `response.create` on its lane, one after another."""
    desk, socket = desk_of(request), await _opened(request)
    async for asked in _events(socket):
        lane = {"stream_id": asked["stream_id"]} if isinstance(asked.get("stream_id"), str) else {}
        try:
            told = _told(desk, asked)
        except Refused as refused:
            await _say(socket, {"type": "error", "status": refused.status, "error": refused.body} | lane)
            continue
        for each in told:
            await _say(socket, each | lane)
            await asyncio.sleep(desk.pause_seconds)
    return socket


def _told(desk: Desk, asked: Json) -> list[Json]:
    """Return what follows a client's event. Raises Refused."""
    if asked.get("type") == "response.steer":
        steer = {name: asked.get(name) for name in ("input", "previous_response_id")}
        error = {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "Demos cannot be steered.",
        }
        return [{"type": "response.steer.failed", "sequence_number": 0, "steer": steer, "error": error}]
    if asked.get("type") != "response.create":
        raise Refused(f"Unknown event type: '{asked.get('type')}'.", param="type")
    # A socket's chains are known on it though nothing is stored; the demo does not tell the two apart.
    whole = respond(desk, {**asked, "store": True})
    whole["store"] = asked.get("store") is not False
    if asked.get("generate") is False:
        whole["output"], whole["usage"] = [], response_usage(0, 0)
    return [orjson.loads(data) for data in events_data(b"".join(events_of(whole)))]


async def realtime(request: web.Request) -> web.StreamResponse:
    """Keep a session in text, whatever is said."""
    desk, socket = desk_of(request), await _opened(request)
    session: Json = {"type": "realtime", "id": new_id("sess_"), "model": request.query.get("model", MODEL)}
    heard = 0
    await _tell(socket, {"type": "session.created", "session": session})
    async for asked in _events(socket):
        kind, item = asked.get("type"), asked.get("item")
        if kind == "session.update":
            session |= asked["session"] if isinstance(asked.get("session"), dict) else {}
            await _tell(socket, {"type": "session.updated", "session": session})
        elif kind == "conversation.item.create" and isinstance(item, dict):
            heard += count_words([item])
            for stage in ("added", "done"):
                await _tell(socket, {"type": f"conversation.item.{stage}", "item": {"id": new_id("item_"), **item}})
        elif kind == "input_audio_buffer.commit":
            await _transcribe(socket)
        elif kind == "response.create":
            await _speak(socket, heard, desk.pause_seconds)
        elif kind not in ("input_audio_buffer.append", "input_audio_buffer.clear", "response.cancel"):
            error = {"type": "invalid_request_error", "message": f"Unknown event type: '{kind}'.", "param": "type"}
            await _tell(socket, {"type": "error", "error": error})
    return socket


async def _speak(socket: web.WebSocketResponse, heard: int, pause_seconds: float) -> None:
    response: Json = {"object": "realtime.response", "id": new_id("resp_"), "output": [], "usage": None}
    await _tell(socket, {"type": "response.created", "response": response | {"status": "in_progress"}})
    where = {"response_id": response["id"], "item_id": new_id("item_"), "output_index": 0, "content_index": 0}
    for word in _TEXT.split():
        await _tell(socket, {"type": "response.output_text.delta", "delta": f"{word} ", **where})
        await asyncio.sleep(pause_seconds)
    await _tell(socket, {"type": "response.output_text.done", "text": _TEXT, **where})
    used = len(_TEXT.split())
    usage = {"input_tokens": max(1, heard), "output_tokens": used, "total_tokens": max(1, heard) + used}
    await _tell(socket, {"type": "response.done", "response": response | {"status": "completed", "usage": usage}})


async def _transcribe(socket: web.WebSocketResponse) -> None:
    about = {"item_id": new_id("item_"), "content_index": 0}
    await _tell(socket, {"type": "input_audio_buffer.committed", **about})
    usage = {"type": "tokens", "input_tokens": 4, "output_tokens": 3, "total_tokens": 7}
    kind = "conversation.item.input_audio_transcription.completed"
    await _tell(socket, {"type": kind, "transcript": "What you said.", "usage": usage, **about})


async def _opened(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_BODY_BYTES + 1)
    if not socket.can_prepare(request):
        raise Refused("Ask for a WebSocket here.", status=426)
    await socket.prepare(request)
    return socket


async def _events(socket: web.WebSocketResponse) -> AsyncIterator[Json]:
    """Yield the client's events; what is none is answered with an error."""
    async for message in socket:
        found: Any = None
        if message.type is WSMsgType.TEXT:
            try:
                found = orjson.loads(message.data)
            except orjson.JSONDecodeError:
                found = None
        if isinstance(found, dict):
            yield found
        else:
            error = {"type": "invalid_request_error", "message": "That is no JSON object."}
            await _say(socket, {"type": "error", "status": 400, "error": error})


async def _say(socket: web.WebSocketResponse, event: Json) -> None:
    await socket.send_str(orjson.dumps(event).decode())


async def _tell(socket: web.WebSocketResponse, event: Json) -> None:
    await _say(socket, {"event_id": new_id("event_"), **event})


ROUTES = [web.get("/responses", responses), web.get("/realtime", realtime)]
