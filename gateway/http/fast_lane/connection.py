"""One client connection, served by the lane or aiohttp in turn."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable
from typing import cast

from gateway.errors import GatewayError, InvalidHttp
from gateway.http.fast_lane.incoming_body import ArrivingBody
from gateway.http.fast_lane.lane_server import LaneServer
from gateway.http.fast_lane.patience import IdlePatience
from gateway.http.fast_lane.reading import LINGERING_BYTES, MAX_AHEAD_BYTES, NOTHING_MORE, Reading
from gateway.http.fast_lane.writing import JOIN_BELOW_BYTES
from gateway.http.message import Body, Head, Headers, Request
from gateway.http.reply import head_bytes, with_answer_fields
from gateway.http.write_watch import WriteWatch

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class LaneConnection(Reading):
    """Implements `http.message.Connection` for the requests that the lane serves.

    What most requests take is here: their bytes, the turn of each, its answer. The rest is in `Reading` and `Writing`.
    """

    __slots__ = ("_awaited", "_idle_patience", "_on_gone", "_task", "client")

    def __init__(self, server: LaneServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self.client = ""  # its address
        self._task: asyncio.Task[None] | None = None
        self._idle_patience: IdlePatience | None = None
        self._on_gone = False  # a client that leaves cancels the request
        self._awaited: Head | None = None  # the last head, while nothing but a request that repeats it is expected

    def data_received(self, data: bytes) -> None:
        """Take bytes: most often a request that repeats the last head."""
        head, self._awaited = self._awaited, None
        idle = self._idle
        if head is not None and idle is not None and not idle.done():
            last = self._repetition
            start, _, body = data.partition(last.after)
            size = len(body)
            if size and start == last.before + b"%d" % size:
                self._idle, self._bounds = None, self._server.bounds()
                idle.set_result(Request(self, head, NOTHING_MORE, size, body, head.keep_alive))
                return
        self._take(data)

    async def _run(self, turn: asyncio.Future[Request] | None) -> None:
        """Serve what comes, the first by `turn`; cancelled where the client goes."""
        server = self._server
        while turn is not None:
            request = await turn
            try:
                if server.retiring:
                    request.keep_alive = False
                reply = await server.handler(request)
                reply.send_to(request)
                if self._paused:
                    await self.drained()
            except ConnectionError:
                break
            except asyncio.CancelledError:
                self._close_transport()
                raise
            except Exception:
                server.made_a_mistake()
                self.abort()
                break
            finally:
                self._settle(request)
            if (self._arriving is not None or self.ends_here) and not await self._may_follow():
                break
            turn = self._next_turn() if reply.keep_alive else None
            del request, reply  # nothing of them is kept until the next one
        self._close_transport()

    def _settle(self, request: Request) -> None:
        """Give back what the request held, and watch its client no more."""
        self._on_gone, self._on_pressure = False, None
        held = request.held
        if held is None:
            return
        if held.is_upload:
            held.release()
        else:
            held.memory.held -= held.size
            held.size = held.spare = 0

    def _next_turn(self) -> asyncio.Future[Request]:
        """Return what gives the next request, which may be here already."""
        turn = self._idle = self._loop.create_future()
        if self._idle_patience is not None:
            self._idle_patience.since = self._loop.time()
        if self._ahead:
            self._go_on()
        else:
            self._awaited = self._repetition.head
        return turn

    def send_answer(self, request: Request, status: int, fields: Headers, body: bytes, *, close: bool) -> None:
        """Send a whole answer; of a HEAD the head alone."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if self.answer_fields:
            fields = with_answer_fields(fields, self.answer_fields)
        asked = request.head
        framing = f"content-length: {len(body)}\n" if status != 204 else ""  # which a 204 must not have
        head = head_bytes(status, fields, framing, close=close, http11=asked.http11)
        if asked.method == "HEAD":
            transport.write(head)
        elif len(body) < JOIN_BELOW_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    # -- what a route asks of the connection (http.message.Connection)

    def watch(self, on_pressure: Callable[[bool], None] | None) -> None:
        """Cancel the request when its client leaves; report its pressure.

        `on_pressure(paused)` as its answer piles up or drains.
        """
        self._on_pressure = on_pressure
        self._on_gone = True
        if self.half_closed:
            self._client_left()
        elif on_pressure is not None and self._paused:
            on_pressure(True)

    def unwatch(self) -> None:
        """End what `watch` began."""
        self._on_gone, self._on_pressure = False, None

    def ask_for_body(self) -> None:
        """Send `100 Continue` to a client that awaits it."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_CONTINUE)

    # -- what its reading half asks of it

    def ask_for_application(self) -> None:
        """Have `begin_passage` called as soon as the application server is loaded."""
        self._server.when_application_is_there(self)

    def request(self, head: Head, content: Body, length: int | None, body: bytes | None = None) -> Request:
        """Make a request of this connection."""
        return Request(self, head, content, length, body, head.keep_alive)

    # -- what the server asks of it

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come of a next request."""
        return not self._is_at_work and not self._ahead

    def has_unread_bytes(self) -> bool:
        """Whether the kernel holds bytes not yet read."""
        if self.transport is None:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """End the connection: at once if idle, else after its answer."""
        self.ends_here = True
        if not self._is_at_work:
            self._close_transport()

    def force_close(self) -> None:
        """End the connection at once; what was written already may still leave."""
        self.ends_here = True
        self._cancel()
        self._close_transport()

    # -- the rest of a request's body

    async def _may_follow(self) -> bool:
        """Read the rest of the body; True if a request may follow."""
        body = self._arriving
        if body is not None and not body.at_end and not await self._rest_of_body(body):
            return False
        self._arriving = None
        return not self.ends_here

    async def _rest_of_body(self, body: ArrivingBody) -> bool:
        """Read the rest of a body for a while.

        Closing at once could destroy the answer on its way.
        """
        self._linger_bytes = LINGERING_BYTES
        with contextlib.suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(self._linger):
                while self._linger_bytes > 0 and await body.read():
                    pass
        return body.at_end

    # -- what the application server asks of it

    @property
    def passed(self) -> Request:
        """The request that the application has."""
        if self._passage.request is None:
            raise RuntimeError("the application has no request of this connection")
        return self._passage.request

    async def application_answered(self, *, keep_alive: bool) -> None:
        """Go on after the application's answer, or end the connection.

        Once the present request's body is over.
        """
        self.unwatch()
        if await self._may_follow() and keep_alive:
            self._passage.request = None
            if self._idle_patience is not None:
                self._idle_patience.since = self._loop.time()
            self._go_on()
        else:
            self._close_transport()

    def application_upgraded(self) -> None:
        """Pass all bytes from now on to the application.

        They are not HTTP.
        """
        self._passage.upgraded = True
        ahead, self._ahead = self._ahead, b""
        if len(ahead) > MAX_AHEAD_BYTES:
            self._pause(False)
        if ahead:
            self._passage.give(ahead)

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._watch = WriteWatch(self.transport, self._loop)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = str(peer[0])
        self._idle_patience = IdlePatience(
            self._loop, lambda: self._server.bounds().keepalive_seconds, lambda: self.is_idle, self._close_transport
        )
        self._idle = self._loop.create_future()
        self._task = self._loop.create_task(self._run(self._idle))
        self._server.joined(self)

    def eof_received(self) -> bool:
        """Cancel a relay on FIN; answer others, then end."""
        self.half_closed = self.ends_here = True
        if self._passage.upgraded or self._on_gone:
            self._client_left()
            return False
        if self._arriving is not None and not self._arriving.whole:
            self.give_up_on_body()
            self._arriving.fail(unfinished())
        return self._is_at_work

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        if self._idle_patience is not None:
            self._idle_patience.end()
        self._server.left(self)
        super().connection_lost(exc)
        self._cancel()
        self.unwatch()
        self._passage.lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._passage.pressed(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._passage.pressed(False)

    # -- time and pace

    def _client_left(self) -> None:
        """Cancel the present request.

        aiohttp cancels its own as the connection is lost, so that is lost at once.
        """
        if self._passage.busy:
            self.abort()
        else:
            self._cancel()

    def _cancel(self) -> None:
        self._awaited = None
        if self._task is not None:
            self._task.cancel()

    def __repr__(self) -> str:
        state = "idle" if self.is_idle else "at work"
        return f"<LaneConnection of {self.client}, {state}{', half closed' if self.half_closed else ''}>"


def unfinished() -> InvalidHttp:
    """Return the error of a body cut by a FIN."""
    return InvalidHttp("The request's body ended before it was whole.", headers=(("connection", "close"),))
