"""What a request takes of its client's connection, byte to byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from gateway.errors import GatewayError
from gateway.http.fast_lane.heads import asked_path
from gateway.http.fast_lane.incoming_body import ArrivingBody
from gateway.http.fast_lane.lane_server import LaneServer
from gateway.http.fast_lane.patience import IdlePatience
from gateway.http.fast_lane.reading import LINGERING_BYTES, NOTHING_MORE, Reading
from gateway.http.fast_lane.writing import JOIN_BELOW_BYTES
from gateway.http.message import Body, Head, Headers, Request
from gateway.http.reply import Answer, EventStream, Reply, with_answer_fields

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_pair = ": ".join


class Answering(Reading):
    """Implements `http.message.Connection` for the requests that the lane serves.

    What nearly every request takes is here, in the order in which it takes it. What is rarer is in the classes around:
    other heads and bodies in `Reading`, clients that read slowly in `Writing`, the connection's own beginning and end
    in `LaneConnection`.
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
        """Take bytes: most often a request like the last one."""
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
            varied = last.varied(data)
            if varied is not None and len(data) == varied[1] + varied[2]:
                head, body_at, size = varied
                self._idle, self._bounds = None, self._server.bounds()
                idle.set_result(Request(self, head, NOTHING_MORE, size, data[body_at:], head.keep_alive))
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
                self._send(request, reply)
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

    def _send(self, request: Request, reply: Reply) -> None:
        """Send a whole answer; of a HEAD the head alone.

        A stream has been sent already.
        """
        if not request.keep_alive or self.ends_here:
            reply.keep_alive = False
        if not isinstance(reply, Answer):
            if isinstance(reply, EventStream):
                return
            raise TypeError(f"only the application server can send {reply!r}")
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        status, fields, body, asked = reply.status, reply.fields, reply.content, request.head
        if self.answer_fields:
            fields = with_answer_fields(fields, self.answer_fields)
        framing = f"content-length: {len(body)}\n" if status != 204 else ""  # which a 204 must not have
        head = head_bytes(status, fields, framing, close=not reply.keep_alive, http11=asked.http11)
        if asked.method == "HEAD":
            transport.write(head)
        elif len(body) < JOIN_BELOW_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def open_stream(self, request: Request, status: int, fields: Headers, *, close: bool) -> None:
        """Send the head of an answer whose body comes piece by piece."""
        http11 = self._chunked = request.head.http11
        self._head_only = request.head.method == "HEAD"
        self._is_framed = http11 and not self._head_only
        if self.answer_fields:
            fields = with_answer_fields(fields, self.answer_fields)
        framing = "transfer-encoding: chunked\n" if http11 else ""
        self._open_transport().write(head_bytes(status, fields, framing, close=close, http11=http11))

    def _settle(self, request: Request) -> None:
        """Give back what it held; watch its client no more."""
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

    # -- what is rare

    def request(self, head: Head, content: Body, length: int | None, body: bytes | None = None) -> Request:
        """Make a request of this connection."""
        return Request(self, head, content, length, body, head.keep_alive)

    def refuse(self, fault: GatewayError, data: bytes) -> None:
        """Answer what was no request, as the connection's last.

        `data`: what there is of it, which may say whose shape the answer is to have.
        """
        self._head_is_over()
        if self.transport is not None and not self.transport.is_closing():
            answer = self._server.render_error(fault, asked_path(data))
            answer.force_close()
            self.transport.write(answer_bytes(answer))
            self._close_transport()

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


def head_bytes(status: int, fields: Headers, framing: str, *, close: bool, http11: bool) -> bytes:
    """Return a whole head. Raises ValueError.

    For a control character in a field: nothing can be smuggled in. `framing`: lines of ours, each with its line end.
    """
    lines = "\n".join(map(_pair, fields))
    if lines.count("\n") >= (len(fields) or 1) or "\r" in lines or "\0" in lines:
        raise ValueError("a control character in a response header")
    beginning = _beginning(status, http11, close, int(time()))
    head = f"{beginning}{framing}{lines}\n\n" if lines else f"{beginning}{framing}\n"
    return head.replace("\n", "\r\n").encode("latin-1")


@lru_cache(maxsize=64)
def _beginning(status: int, http11: bool, close: bool, second: int) -> str:
    """Return what all answers of a second begin with."""
    connection = "connection: close\n" if close else ""
    date = formatdate(second, usegmt=True)
    return f"HTTP/1.{int(http11)} {status} {_PHRASES.get(status, '')}\ndate: {date}\n{connection}"


def answer_bytes(answer: Answer) -> bytes:
    """Return a whole answer as bytes, for HTTP/1.1."""
    framing = f"content-length: {len(answer.content)}\n"
    return head_bytes(answer.status, answer.fields, framing, close=not answer.keep_alive, http11=True) + answer.content
