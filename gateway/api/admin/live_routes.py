"""Requests as they run, as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Literal, get_args

import msgspec

from gateway.access.authenticate import Shown
from gateway.admin_records.editor import refuse_long_id
from gateway.api.router import Hit, Route
from gateway.api.signed_in import token_of
from gateway.errors import (
    InsufficientScope,
    InvalidKey,
    InvalidRequest,
    IpNotAllowed,
    MissingKey,
    StoreUnavailable,
)
from gateway.http.reply import Answer, EventStream, Reply
from gateway.observability.live_requests import Listener, LiveOutcome, LiveRequest, Wanted

CHECK_SECONDS = 0.5  # so often it is looked whether the reader's key or session still stands
HEARTBEAT_SECONDS = 10.0
SCOPE: Literal["usage:read"] = "usage:read"
_FIELDS = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_HEARTBEAT = b": still here\n\n"
_GONE = (InvalidKey, MissingKey, InsufficientScope, InvalidRequest, IpNotAllowed)
_encode = msgspec.json.Encoder().encode


async def live_requests(hit: Hit) -> Reply:
    """`?model=…&user=…&outcome=…`, each of which may be left out."""
    wanted = wanted_of(hit)
    if hit.request.method == "HEAD":
        return Answer(200, _FIELDS, b"")
    stream = EventStream()
    stream.start(hit.request, 200, [*_FIELDS, ("x-request-id", hit.call.request_id)])
    connection = hit.request.connection
    connection.watch(None)
    with hit.runtime.live.listening(wanted) as listener:
        guard = asyncio.create_task(_guarded(hit, stream, listener))
        try:
            await _poured(hit, stream, listener)
        finally:
            guard.cancel()
            connection.unwatch()
    stream.finish()
    return stream


async def _poured(hit: Hit, stream: EventStream, listener: Listener) -> None:
    """Send what there is until the listener is over."""
    live, clock = hit.runtime.live, asyncio.get_running_loop().time
    stream.send(b'data: {"type":"begun"}\n\n')
    was_partial, next_beat = False, clock() + HEARTBEAT_SECONDS
    while not listener.over.is_set():
        requests, lost = await listener.take(CHECK_SECONDS)
        parts = [_event(b'{"type":"lost","requests":%d}' % lost)] if lost else []
        parts += [_event(b'{"type":"request",' + _encode(request)[1:]) for request in requests]
        if live.is_partial != was_partial:
            was_partial = live.is_partial
            parts.append(_event(b'{"type":"partial","partial":%s}' % (b"true" if was_partial else b"false")))
        if parts or clock() >= next_beat:
            next_beat = clock() + HEARTBEAT_SECONDS
            stream.send(b"".join(parts) or _HEARTBEAT)
            await stream.drained()


async def _guarded(hit: Hit, stream: EventStream, listener: Listener) -> None:
    """End the stream with its reader's key or session, or by draining."""
    while not listener.over.is_set():
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await listener.over.wait()
        except TimeoutError:
            if not await _still_may(hit):
                listener.end()
    await asyncio.sleep(CHECK_SECONDS)
    stream.cut()  # a reader that takes nothing cannot be told


async def _still_may(hit: Hit) -> bool:
    """Whether the reader may still listen.

    While that cannot be known, it may.
    """
    runtime, call, request = hit.runtime.latest(), hit.call, hit.request
    runtime.lookups.begin()
    shown = Shown.of(request.headers)
    try:
        if shown.presented is None and (token := token_of(runtime, request)) is not None:
            await runtime.sessions.caller(token, SCOPE, call.peer, is_use=False)
        elif runtime.authenticator.remembered(shown, SCOPE, call.peer) is None:
            await runtime.authenticator.caller(shown, SCOPE, call.peer)
    except _GONE:
        return False
    except StoreUnavailable:
        pass
    return True


def wanted_of(hit: Hit) -> Wanted:
    """Raise InvalidRequest for an outcome that does not exist."""
    query = hit.request.query
    model, user, outcome = query.get("model"), query.get("user"), query.get("outcome")
    outcomes = get_args(LiveOutcome)
    if outcome is not None and outcome not in outcomes:
        raise InvalidRequest(f"outcome: must be one of {', '.join(outcomes)}")
    for name, given in (("model", model), ("user", user)):
        refuse_long_id(given or "", name)
    return Wanted(model, user, outcome)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


ROUTES = [
    Route(
        "GET",
        "/api/admin/ai/requests",
        live_requests,
        SCOPE,
        answer=LiveRequest,
        summary="Requests of all workers as they run and end, as server-sent events, without their content",
    ),
]
