"""The one way in: aiohttp's server, taught the gateway's manners.

aiohttp parses the requests. What is ours here is what a relay needs beyond that: an answer whose head and body are
written at once, a stream whose events go straight to the client's transport, the client's time-outs, and the
difference between a client that has gone (FIN or RST) and one that is merely done sending.

    Server ── makes ──> Connection (one a client) ── hands over ──> Answer | EventStream (one a request)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time  # kept for a second at a time: no clock formatting per answer
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway.errors import BodyTooLarge, ClientTooSlow, GatewayError, HeadTooLarge, InternalError, InvalidHttp

Headers = Sequence[tuple[str, str]]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
ErrorRenderer = Callable[[GatewayError], "Answer"]

# An upload slower than this, beyond its first `body` seconds, is taken for an attack (compare Apache's MinRate).
MIN_UPLOAD_BYTES_PER_SECOND = 16 * 1024
# Up to this size a chunk is joined with its framing: one small copy costs less than a scattered write.
JOIN_BELOW_BYTES = 16 * 1024

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server(web.Server):
    """aiohttp's low-level server, making our `Connection`s.

    `head`, `body`, `write` and `keepalive` are the client-side time-outs of the configuration, in seconds.
    `render_error` turns a fault found by the HTTP parser into an answer.
    """

    def __init__(
        self, handler: Handler, *, render_error: ErrorRenderer, head: float, write: float, keepalive: float
    ) -> None:
        # Without handler_cancellation a client that leaves would go unnoticed until the answer's end.
        # Request bodies are relayed as they came, so nothing is decompressed.
        super().__init__(
            handler,
            handler_cancellation=True,
            keepalive_timeout=keepalive,
            access_log=None,
            auto_decompress=False,
        )
        self.render_error = render_error
        self.head_seconds = head
        self.write_seconds = write

    def set_timeouts(self, *, head: float, write: float, keepalive: float) -> None:
        """New time-outs: `keepalive` for connections to come, the others at once."""
        self.head_seconds = head
        self.write_seconds = write
        self._kwargs["keepalive_timeout"] = keepalive

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    async def finish(self, seconds: float) -> None:
        """Closes every connection; answers that are written but not yet sent have `seconds` to leave."""
        transports = [connection.transport for connection in self.connections if connection.transport is not None]
        self.pre_shutdown()  # idle connections end at once instead of being waited for
        await self.shutdown(seconds)
        deadline = self._loop.time() + seconds
        # A transport offers nothing to await for its last byte.
        while any(t.get_write_buffer_size() for t in transports) and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for transport in transports:
            transport.abort()


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_head_timer",
        "_on_gone",
        "_on_pressure",
        "_server",
        "_write_timer",
        "_written_left",
        "answer_fields",
        "half_closed",
    )

    def __init__(self, server: Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._written_left = 0
        self._on_gone: Callable[[], None] | None = None
        self._on_pressure: Callable[[bool], None] | None = None
        self.half_closed = False
        self.answer_fields: Headers = ()  # what any answer to the present request bears, whoever writes it

    # -- what a relay asks of the connection

    def watch(self, on_pressure: Callable[[bool], None] | None) -> None:
        """While a relay runs, a FIN of the client cancels it, and `on_pressure(paused)` follows the write buffer."""
        self._on_pressure = on_pressure
        self._on_gone = self._cancel_request
        if self.half_closed:
            self._cancel_request()
        elif on_pressure is not None and self._paused:
            on_pressure(True)

    def unwatch(self) -> None:
        self._on_gone = self._on_pressure = None

    def request_begins(self) -> None:
        """The head is whole: its time-out ends."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def give_up_on_body(self) -> None:
        """The connection ends with the answer, without waiting for the rest of a body that does not come."""
        self._lingering_time = 0.0

    # -- asyncio's callbacks

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._refuse_broken_body()
        elif self._head_timer is None and not self._request_in_progress and data and not self._close:
            self._head_timer = self._loop.call_later(self._server.head_seconds, self._head_timed_out)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp declares None, asyncio allows bool
        """A FIN: a running relay is cancelled; any other request may still be answered, then the connection ends."""
        self.half_closed = True
        if self._on_gone is not None:
            self._on_gone()
            return False
        if self._messages or self._request_in_progress:
            self.close()
            return True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.request_begins()
        self._stop_write_timer()
        self.unwatch()
        super().connection_lost(exc)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for this after every body that was read; where nothing was paused there is nothing to do."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()
        if self._on_pressure is not None:
            self._on_pressure(True)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()
        if self._on_pressure is not None:
            self._on_pressure(False)

    def force_close(self) -> None:
        """Also ends a connection whose last bytes the client never takes."""
        transport = self.transport
        if transport is not None and self._write_timer is None and transport.get_write_buffer_size():
            self._start_write_timer()
        super().force_close()

    # -- errors found before a handler ran

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Parser errors in our shape; aiohttp closes the connection afterwards."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, so no second one may be written")
        answer = self._server.render_error(_parser_fault(exc))
        answer.force_close()
        return answer

    # -- the rest is our own business

    def _cancel_request(self) -> None:
        if self._task_handler is not None:
            self._task_handler.cancel()

    def _refuse_broken_body(self) -> None:
        """A body that turns out to be broken HTTP (a bad chunk size) fails the request that is reading it."""
        request, (message, _) = self._current_request, self._messages[-1]
        broken = getattr(message, "exc", None)
        if broken is not None and request is not None and not request.content.is_eof():
            self.give_up_on_body()
            request.content.set_exception(_parser_fault(broken))

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self.transport is None or self._request_in_progress or self._messages:
            return
        answer = self._server.render_error(ClientTooSlow("The request's head did not arrive in time."))
        answer.force_close()
        self.transport.write(answer.serialised(http11=True))
        self.transport.close()

    def _start_write_timer(self) -> None:
        transport = self.transport
        if transport is not None:
            self._written_left = transport.get_write_buffer_size()
            self._write_timer = self._loop.call_later(self._server.write_seconds, self._check_write)

    def _check_write(self) -> None:
        """Ends the connection where the client took nothing for `write` seconds; a slow reader may go on."""
        transport = self.transport
        if transport is None:
            return
        left = transport.get_write_buffer_size()
        if left and left >= self._written_left:
            transport.abort()
        elif left:
            self._start_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _Reply(web.StreamResponse):
    """What both kinds of answer share: they write to the transport themselves and keep aiohttp's books true.

    aiohttp looks at `keep_alive` and, after an error, at the payload writer's `output_size`: were that left at 0,
    it would write a second head into a stream that has begun.
    """

    _writer: AbstractStreamWriter | None = None
    _connection: Connection | None = None

    def __init__(self, status: int) -> None:
        # Not the parent's: it makes a header dictionary and more that would be thrown away with each request.
        self._status = status
        self._reason = ""
        self._state = {}

    def _attach(self, request: web.BaseRequest) -> None:
        self._connection = connection_of(request)
        self._writer = request.writer
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive and request.version >= (1, 1) and not self._connection.half_closed

    def _send(self, parts: Iterable[bytes], size: int) -> None:
        if size < JOIN_BELOW_BYTES:
            self._write(b"".join(parts))
        else:
            self._open_transport(size).writelines(parts)

    def _write(self, data: bytes) -> None:
        self._open_transport(len(data)).write(data)

    def _open_transport(self, size: int) -> asyncio.Transport:
        """The client's transport, into which `size` bytes are about to go."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is None or transport.is_closing() or self._writer is None:
            raise ConnectionResetError("the client has gone")
        self._writer.output_size += size
        return transport

    def _fields_of_all(self) -> Headers:
        return self._connection.answer_fields if self._connection is not None else ()

    async def write_eof(self, data: bytes = b"") -> None:
        """Waits until the client has taken enough; `Connection` ends the wait where it takes nothing at all."""
        if self._connection is not None and not self._eof_sent:
            self._eof_sent = True
            await self._connection._drain_helper()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' begun' if self._writer is not None else ''}>"


class Answer(_Reply):
    """A whole answer; head and body leave in one write.

    `headers` go out as they are given, checked against control characters; length, date, `connection` are added.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(status)
        self.fields = headers
        self.content = body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self._writer is None:
            self._attach(request)
            http11 = request.version >= (1, 1)
            head = self._head(http11)
            body = b"" if request.method == "HEAD" else self.content
            self._send((head, body), len(head) + len(body))
        return self._writer

    def serialised(self, *, http11: bool) -> bytes:
        """The whole answer as bytes, for the places where there is no request to answer."""
        return self._head(http11) + self.content

    def _head(self, http11: bool) -> bytes:
        length = () if self.status == 204 else (("content-length", str(len(self.content))),)
        fields = (*self.fields, *self._fields_of_all(), *length)
        return head_bytes(self.status, fields, close=self._keep_alive is False, http11=http11)


class EventStream(_Reply):
    """An answer written as it comes: chunked to HTTP/1.1 clients, delimited by the connection's end to older ones."""

    _chunked_framing = True
    _silent = False
    finished = False

    def __init__(self) -> None:
        super().__init__(200)

    @property
    def started(self) -> bool:
        return self._writer is not None

    def start(self, request: web.BaseRequest, status: int, headers: Headers) -> None:
        """Sends the head. Raises ConnectionResetError where the client has gone."""
        self._attach(request)
        self._status = status
        self._chunked_framing = http11 = request.version >= (1, 1)
        self._silent = request.method == "HEAD"
        framing = (("transfer-encoding", "chunked"),) if http11 else ()
        fields = (*headers, *self._fields_of_all(), *framing)
        head = head_bytes(status, fields, close=self._keep_alive is False, http11=http11)
        self._send((head,), len(head))

    def send(self, data: bytes) -> None:
        """Hands bytes to the client's transport at once. Raises ConnectionResetError where the client has gone."""
        size = len(data)
        if not size or self._silent:
            return
        if not self._chunked_framing:
            self._send((data,), size)
        elif size < JOIN_BELOW_BYTES:
            self._write(b"%x\r\n%b\r\n" % (size, data))
        else:
            prefix = b"%x\r\n" % size
            self._send((prefix, data, b"\r\n"), size + len(prefix) + 2)

    def finish(self) -> None:
        """Ends the body cleanly."""
        self.finished = True
        if self._chunked_framing and not self._silent:
            self._send((b"0\r\n\r\n",), 5)

    def cut(self) -> None:
        """Breaks the connection, so that nobody takes what was sent for the whole."""
        self._keep_alive = False
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return self._writer


def head_bytes(status: int, headers: Iterable[tuple[str, str]], *, close: bool, http11: bool) -> bytes:
    """Status line and fields. Raises ValueError for a control character in a field: nothing can be smuggled in."""
    lines = [f"{name}: {value}" for name, value in headers]
    lines.append(f"date: {rfc822_formatted_time()}")
    if close:
        lines.append("connection: close")
    fields = "\n".join(lines)
    if "\r" in fields or "\0" in fields or fields.count("\n") != len(lines) - 1:
        raise ValueError("a control character in a response header")
    version = "HTTP/1.1" if http11 else "HTTP/1.0"
    head = f"{version} {status} {_REASONS.get(status, '')}\n{fields}\n\n"
    return head.replace("\n", "\r\n").encode("latin-1")


def connection_of(request: web.BaseRequest) -> Connection:
    """The connection on which a request of ours came."""
    return cast(Connection, request.protocol)


async def read_body(request: web.BaseRequest, *, max_bytes: int, seconds: float) -> bytes:
    """The request's whole body.

    Raises BodyTooLarge (from the declared length already, before a byte of it is read or asked for),
    ClientTooSlow where it does not arrive in `seconds` plus the time that its size allows at a modest rate.
    """
    declared = request.headers.get(hdrs.CONTENT_LENGTH)
    if declared is not None and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= (1, 1):
        _ask_for_body(request)
    content = request.content
    if content.is_eof():
        return content.read_nowait(-1)
    parts: list[bytes] = []
    size = 0
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(started + seconds) as patience:
            while part := await content.readany():
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                patience.reschedule(started + seconds + size / MIN_UPLOAD_BYTES_PER_SECOND)
    except TimeoutError:
        connection_of(request).give_up_on_body()
        raise ClientTooSlow("The request's body did not arrive in time.", headers=(("connection", "close"),)) from None
    return b"".join(parts)


def _ask_for_body(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None and not transport.is_closing():
        with contextlib.suppress(RuntimeError):
            transport.write(_CONTINUE)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request's body is larger than this gateway takes ({max_bytes // 2**20} MiB).",
        headers=(("connection", "close"),),
    )


def _parser_fault(exc: BaseException | None) -> GatewayError:
    if isinstance(exc, LineTooLong) or (isinstance(exc, HttpProcessingError) and "Too many headers" in exc.message):
        return HeadTooLarge("The request's head is larger than this gateway takes.")
    if isinstance(exc, HttpProcessingError):
        return InvalidHttp("The request is not valid HTTP/1.1.")
    return InternalError("The gateway made a mistake.")
