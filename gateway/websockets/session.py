"""One client's socket, and what the requests on it share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

import aiohttp
from aiohttp import web

from gateway.access.authenticate import Shown, is_credential, subprotocols
from gateway.api.middleware import require_ai
from gateway.api.router import Hit
from gateway.api.runtime import Runtime
from gateway.dialects import openai
from gateway.errors import (
    GatewayError,
    InsufficientScope,
    InvalidKey,
    InvalidRequest,
    IpNotAllowed,
    MissingKey,
    ShuttingDown,
    StoreUnavailable,
)
from gateway.http.memory_budget import Held
from gateway.observability.calls import Call
from gateway.observability.ended import access_line
from gateway.types import Caller
from gateway.websockets.frames import content_of, error_event
from gateway.websockets.sockets import Sockets

# The closing handshake with a client: one that does not answer it in time is cut.
CLOSE_SECONDS = 2.0
FRAME_HEAD_BYTES = 14  # at most
GOING_AWAY, UNSUPPORTED, REVOKED, BROKEN, RESTART = 1001, 1003, 1008, 1011, 1012
# What an upstream may close with that says nothing but that it has closed.
PASSED_CODES = frozenset((1000, GOING_AWAY, 1009, RESTART, 1013))
_LOST_KEY = (InvalidKey, MissingKey, InsufficientScope, InvalidRequest, IpNotAllowed)


class Session:
    """A client's socket from its handshake to its end.

    A subclass takes its messages (`take`), and gives back what it holds (`release`).
    """

    def __init__(self, sockets: Sockets, hit: Hit) -> None:
        self.sockets = sockets
        self.request = hit.request
        self.opened_by = hit.call
        self.log = hit.runtime.log
        self.ending = False  # nothing new is taken on
        self.running = 0  # requests
        self._passed = hit.passed
        self._known = hit.caller  # of the last request
        self._shown = Shown.of(hit.request.headers, is_websocket=True)
        server = hit.runtime.settings.server
        self.most_bytes = server.max_body_mb * 2**20
        self._ping_seconds = server.stream_heartbeat_seconds
        self._next_ping = self._loop.time() + self._ping_seconds
        self._ws = web.WebSocketResponse(timeout=CLOSE_SECONDS, compress=False, max_msg_size=self.most_bytes + 1)
        self._over: asyncio.Future[int] = self._loop.create_future()  # the code of an ending of our own
        held = hit.request.held
        self._held_at_first = held.size if held is not None else 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._checking = self._pinging = False

    # -- for subclasses

    async def take(self, content: bytes, *, is_text: bool) -> None:
        """Take a client's message. May raise GatewayError, which ends the socket."""
        raise NotImplementedError

    async def begun(self) -> None:
        """Begin what runs beside the client's messages."""

    async def release(self) -> None:
        """Close upstreams and settle requests: the socket is over."""

    def watch(self, now: float) -> None:
        """Look after upstreams that say nothing."""

    # -- from handshake to end

    async def converse(self, asked: web.Request) -> web.StreamResponse:
        """Serve the socket; what the application server hands the connection over to."""
        ws = self._ws
        ws.headers["x-request-id"] = self.opened_by.request_id
        chosen = next((one for one in subprotocols(self.request.headers) if not is_credential(one)), None)
        if chosen is not None:
            ws.headers["sec-websocket-protocol"] = chosen
        try:
            await ws.prepare(asked)
            self.sockets.add(self)
            reader: asyncio.Future[Any] = self.spawn(self._read())
            await self.begun()
            await asyncio.wait([reader, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.sockets.discard(self)
            await self._finish()
        return ws

    async def _read(self) -> None:
        while True:
            message = await self._ws.receive()
            content = content_of(message)
            if content is None:
                return
            self._let_go(len(content) + FRAME_HEAD_BYTES)
            await self.take(content, is_text=message.type is aiohttp.WSMsgType.TEXT)

    def _let_go(self, size: int) -> None:
        """Count a message no more as arriving: whoever takes it holds it."""
        held = self.request.held
        if held is not None:
            held.shrink(min(size, max(0, held.size - self._held_at_first)))

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self.release()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            code = self._over.result() if self._over.done() else None
            if code is not None:
                with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._ws.close(code=code)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work beside the socket; a mistake in it ends both."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, ConnectionError):
            self.log.error("a mistake of the gateway", request_id=self.opened_by.request_id, exc_info=error)
        self.close_soon(BROKEN)

    def close_soon(self, code: int) -> None:
        """End the socket; the first code counts."""
        self.ending = True
        if not self._over.done():
            self._over.set_result(code)

    # -- messages

    async def send(self, content: bytes, *, is_text: bool = True) -> None:
        """Send a message, and wait while the client takes none. Raises ConnectionError."""
        if is_text:
            await self._ws.send_str(content.decode("utf-8", "surrogatepass"))
        else:
            await self._ws.send_bytes(content)

    async def refuse(self, fault: GatewayError, lane: str | None, request_id: str) -> None:
        """Answer a response's message with an error; the socket goes on."""
        if not self._over.done():
            await self.send(error_event(fault, lane=lane, request_id=request_id))

    async def parsed(self, content: bytes, held: Held) -> openai.RequestBody:
        """Read a message that is a JSON object.

        Raises InvalidJson, FieldNotAllowed, InvalidRequest or Overloaded.
        """
        runtime = self.sockets.current.runtime
        held.grow(len(content))
        return await runtime.intake.parsed(content, held, runtime.settings.routing.refuse_fields)

    def hold(self) -> Held:
        """Hold memory for a message or more."""
        held = self.sockets.current.runtime.memory.hold()
        held.owner = self._known.user.id
        return held

    # -- requests

    async def begin(self, *, is_new: bool = True) -> Hit:
        """Take a request on, as a call with its caller. Raises GatewayError.

        `is_new` False: the upstream has begun it already.
        """
        runtime, opened = self.sockets.current.runtime, self.opened_by
        call = Call(opened.method, opened.path, opened.peer, opened.client_request_id)
        call.route, call.trace, call.via = opened.route, opened.trace, opened.via
        hit = Hit(runtime, self.request, call, {}, self._passed)
        self.running += 1
        try:
            if is_new:
                await self._admit(hit)
            else:
                with contextlib.suppress(GatewayError):
                    await self._admit(hit)
            call.caller = call.caller or self._known
        except GatewayError as fault:
            self.finish(hit, fault)
            raise
        except BaseException:
            self.finish(hit)
            raise
        return hit

    def finish(self, hit: Hit, fault: GatewayError | None = None) -> None:
        """End a request that `begin` has begun."""
        runtime, call = hit.runtime, hit.call
        if fault is not None:
            call.status, call.code = call.status or fault.status, fault.code
        runtime.calls.leave(call)
        now = perf_counter()
        runtime.counters.finished(call, now)
        runtime.log.info(access_line(call, now))  # type: ignore[arg-type]  # ours take it, as structlog any object
        self.running -= 1
        if isinstance(fault, _LOST_KEY) and call.caller is None:
            self.close_soon(REVOKED)
        elif self.ending and self.running == 0:
            self.close_soon(GOING_AWAY)

    async def _admit(self, hit: Hit) -> None:
        """Ask as for any request: feature, room, key."""
        runtime, call = hit.runtime, hit.call
        runtime.lookups.begin()
        if self.ending:
            raise ShuttingDown
        await require_ai(runtime)
        runtime.calls.enter(call, runtime.settings.server.max_in_flight)
        call.caller = self._known = await self.caller(runtime)

    async def caller(self, runtime: Runtime) -> Caller:
        """Authenticate anew, by what the handshake has shown. Raises as `Authenticator.caller`."""
        authenticator = runtime.authenticator
        shown, address = self._shown, self.opened_by.peer
        return authenticator.remembered(shown, "ai:use", address) or await authenticator.caller(
            shown, "ai:use", address
        )

    # -- once a moment

    def tick(self, now: float) -> None:
        """Look after key, pings and silence."""
        runtime = self.sockets.current.runtime
        runtime.lookups.begin()
        try:
            known = runtime.authenticator.remembered(self._shown, "ai:use", self.opened_by.peer)
            if known is None and not self._checking:
                self._checking = True
                self.spawn(self._check_key())
        except _LOST_KEY:
            self.close_soon(REVOKED)
            return
        if self._ping_seconds and now >= self._next_ping and not self._pinging:
            self._next_ping = now + self._ping_seconds
            self._pinging = True
            self.spawn(self._ping())
        self.watch(now)

    async def _check_key(self) -> None:
        try:
            await self.caller(self.sockets.current.runtime)
        except _LOST_KEY:
            self.close_soon(REVOKED)
        except StoreUnavailable:  # the last known record holds
            pass
        finally:
            self._checking = False

    async def _ping(self) -> None:
        try:
            await self.ping()
        finally:
            self._pinging = False

    async def ping(self) -> None:
        """Keep middleboxes from forgetting the connection."""
        await self._ws.ping()

    def end(self) -> None:
        """Close when nothing runs, or after what still does."""
        self.ending = True
        if self.running == 0:
            self.close_soon(RESTART)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.opened_by.peer}, {self.running} running>"
