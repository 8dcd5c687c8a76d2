"""What a route answers in a state of the gallery."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import orjson
from aiohttp import web

REQUEST_ID = "5f2c9a7be4d14c0f8a3d6b1e9c7f2a58"


class Fault(NamedTuple):
    """A refusal with its code, as the route's family writes it."""

    status: int
    code: str
    message: str = ""
    retry_after: int | None = None
    more: Mapping[str, Any] = {}


class Stream(NamedTuple):
    """Events, and what follows them: their end, silence, or a broken connection.

    `every`: seconds from one event to the next, by the clock: late ones come together.
    """

    events: tuple[Any, ...]
    then: Literal["end", "silence", "break"] = "end"
    every: float = 0


class InTurn(NamedTuple):
    """One answer after the other; the last one stays."""

    answers: tuple[Any, ...]


class Silence(NamedTuple):
    """No answer at all, as long as the reader waits."""


class Broken(NamedTuple):
    """The connection closes without an answer: the reader is offline."""


def words(*pieces: str, then: Literal["end", "silence", "break"] = "end") -> Stream:
    """Return a stream of chat completion chunks."""
    chunks: list[Any] = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces
    ]
    if then == "end":
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 164, "completion_tokens": 248, "total_tokens": 412}
        return Stream((*chunks, {"choices": [], "usage": usage}, "[DONE]"))
    return Stream(tuple(chunks), then)


async def respond(request: web.Request, answer: Any) -> web.StreamResponse:
    """Answer a request as a gateway in this state would."""
    if isinstance(answer, Fault):
        return _refusal(request.path, answer)
    if isinstance(answer, Stream):
        return await _stream(request, answer)
    if isinstance(answer, Silence):
        await asyncio.Event().wait()
    if isinstance(answer, Broken):
        _break(request)
        return web.Response(status=503)  # nobody hears it
    return web.Response(body=orjson.dumps(answer), content_type="application/json", headers=_headers())


def _headers(retry_after: int | None = None) -> dict[str, str]:
    own = {"x-request-id": REQUEST_ID, "cache-control": "no-store"}
    return own if retry_after is None else own | {"retry-after": str(retry_after)}


def _refusal(path: str, fault: Fault) -> web.Response:
    flat = {"error": fault.code, "message": fault.message, **fault.more}
    own = {"error": {"message": fault.message, "type": "error", "param": None, "code": fault.code, **fault.more}}
    body = orjson.dumps(own if path.startswith("/v1/") else flat)
    headers = _headers(fault.retry_after)
    return web.Response(status=fault.status, body=body, content_type="application/json", headers=headers)


async def _stream(request: web.Request, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers=_headers() | {"content-type": "text/event-stream"})
    await response.prepare(request)
    began = asyncio.get_running_loop().time()
    for number, event in enumerate(stream.events):
        await _due(began + number * stream.every)
        data = event.encode() if isinstance(event, str) else orjson.dumps(event)
        await response.write(b"data: " + data + b"\n\n")
    if stream.then == "silence":
        await asyncio.Event().wait()
    if stream.then == "break":
        await asyncio.sleep(0.1)  # what was written goes out first
        _break(request)
    return response


async def _due(at: float) -> None:
    left = at - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)


def _break(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
