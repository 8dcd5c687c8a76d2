"""A client's connection: aiohttp's, with a request loop of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.errors import ClientTooSlow, GatewayError, HeadTooLarge, InternalError, InvalidHttp, Overloaded
from gateway.http.framing import Trailers
from gateway.http.server_old.bodies import Arriving, unfinished
from gateway.http.server_old.head import Head, Repetitions
from gateway.http.server_old.replies import Headers, Request

if TYPE_CHECKING:
    from gateway.http.server_old.server import Server

# How long the rest of a body that its handler did not read may take to arrive before the connection is given up.
LINGERING_SECONDS = 10.0
# More than any client needs. A head that is not whole costs about twice its bytes, and nobody knows whose it is.
MOST_HEAD_BYTES = 128 << 10
LINGERING_BYTES = 32 << 20  # and how much of it is read: a client that never ends shall not keep us busy all that time


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_arriving",
        "_content",
        "_head_held",
        "_head_timer",
        "_on_gone",
        "_on_pressure",
        "_repetitions",
        "_request",
        "_server",
        "_trailers",
        "_write_timer",
        "_written_left",
        "answer_fields",
        "client",
        "half_closed",
    )

    def __init__(self, server: Server, **kwargs: Any) -> None:
        super().__init__(server, lingering_time=LINGERING_SECONDS, **kwargs)
        self._server = server
        self._trailers = Trailers()
        self._repetitions = Repetitions()
        self._arriving: Arriving | None = None
        self._content: StreamReader | None = None  # the body of the last request
        self._request: Request | None = None  # the one that is being served
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_held = server.memory.hold()  # by a head that is not whole
        self._write_timer: asyncio.TimerHandle | None = None
        self._written_left = 0
        self._on_gone: Callable[[], None] | None = None
        self._on_pressure: Callable[[bool], None] | None = None
        self.half_closed = False
        self.client = ""  # its address
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

    @property
    def ends_here(self) -> bool:
        """Whether no further request will be taken from this connection."""
        return self.half_closed or self._close

    def unwatch(self) -> None:
        self._on_gone = self._on_pressure = None

    def give_up_on_body(self) -> None:
        """The connection ends with the answer, without waiting for the rest of a body that does not come."""
        self._lingering_time = 0.0

    async def drained(self) -> None:
        """Waits until the client has taken enough. Raises ConnectionResetError where it has gone."""
        await self._drain_helper()

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come of a next request."""
        return self._waiter is not None and not self._messages and self._head_timer is None

    # -- one request after another

    async def start(self) -> None:
        """Serves what comes until the connection ends; cancelled where the client goes.

        It takes the place of aiohttp's own loop, which makes a task, a writer and more for each request.
        """
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if not await self._serve_next() or self._close or self._force_close:
                break
            # When an idle connection is closed, as aiohttp's timer looks at it.
            self._next_keepalive_close_time = due = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(due, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self._watch_last_bytes()
                self.transport.close()

    async def _serve_next(self) -> bool:
        """Answers the first request in the queue. Returns whether another may follow."""
        message: Any
        message, content = self._messages.popleft()
        if isinstance(message, Request):
            request = message
        else:
            self._consumed()
            if not isinstance(message, RawRequestMessage):
                self._refuse(_parser_fault(message.exc))
                return False
            head = self._repetitions.head_of(message)
            request = Request(self, head, content, head.declared_length)
        self._request, self._content = request, request.content
        if self._server.retiring:
            request.keep_alive = False
        self._request_in_progress = True
        try:
            reply = await self._server.handler(request)
            reply.send_to(request)
            if self._paused:
                await self._drain_helper()
        except ConnectionError:
            return False
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:
            self.logger.exception("a request ended with a mistake of the gateway")
            self.force_close()
            return False
        finally:
            if request.held is not None:
                request.held.release()
            self._request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if self._upgraded:
            self._decline_upgrade()
        if not request.content.is_eof():
            await self._linger(request.content)
        self._keepalive = reply.keep_alive
        return reply.keep_alive

    def _may_hold_head(self, size: int) -> bool:
        """Counts what has come of a head. False where that is too much: then the connection ends."""
        held = self._head_held
        if held.size + 2 * size > 2 * MOST_HEAD_BYTES:
            self._refuse(HeadTooLarge("The request's head is larger than this gateway takes."))
        elif not held.has_grown(2 * size):
            self._refuse(Overloaded("The gateway holds as many requests as it may; ask again in a moment."))
        else:
            return True
        if self.transport is not None:
            self.transport.close()
        return False

    def _consumed(self) -> None:
        """A request that the parser has found was taken out of the queue: it may go on."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        self._head_timer_ends()

    def _refuse(self, fault: GatewayError) -> None:
        """Answers what was no request, as the connection's last."""
        if self.transport is not None and not self.transport.is_closing():
            answer = self._server.render_error(fault)
            answer.force_close()
            self.transport.write(answer.serialised(http11=True))

    def _decline_upgrade(self) -> None:
        """Another protocol was asked for, and the answer was in ours: what came behind the request is read in it."""
        if self._messages or self._parser is None:
            return
        self._parser.set_upgraded(False)
        self._upgraded = False
        tail, self._message_tail = self._message_tail, b""
        if tail:
            self.data_received(tail)

    async def _linger(self, content: StreamReader) -> None:
        """Lets the rest of a body arrive for a while: closing at once could destroy the answer on its way."""
        left = LINGERING_BYTES
        try:
            async with asyncio.timeout(self._lingering_time):
                while not content.is_eof() and left > 0:
                    left -= len(await content.readany())
            if left <= 0:
                self.close()
        except asyncio.CancelledError:
            raise
        except Exception:  # too late, or broken: the connection ends either way
            self.close()

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(self.peername, tuple):
            self.client = str(self.peername[0])

    def data_received(self, data: bytes) -> None:
        if self._arriving is not None:
            data = self._arriving.take(data)
            if self._arriving.owed == 0:
                self._arriving = None
            if not data:
                return
        messages, waiter = self._messages, self._waiter
        if waiter is not None and not messages and not self._close and not waiter.done():
            known = self._repetitions.known(data)
            if known is not None:
                self._request_count += 1
                request = self._repeated(*known)
                messages.append((request, request.content))  # type: ignore[arg-type]  # told apart by its type
                waiter.set_result(None)
                return
        queued = len(messages)
        of_body = self._content is not None and not self._content.is_eof()  # be it one that is read for nothing
        super().data_received(data)
        found = [messages[place] for place in range(queued, len(messages))]
        self._repetitions.parsed(data, found)
        if self._trailers.may_come or (found and not self._is_one_without_chunks(queued)):
            self._look_for_trailers(data, queued)
        if messages:
            if self._request is not None:
                self._refuse_broken_body()
        elif not of_body and not self._may_hold_head(len(data)):
            return
        elif self._head_timer is None and data and not self._close and not self._is_at_work():
            self._head_timer = self._loop.call_later(self._server.head_seconds, self._head_timed_out)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp declares None, asyncio allows bool
        """A FIN: a running relay is cancelled; any other request may still be answered, then the connection ends."""
        self.half_closed = True
        if self._on_gone is not None:
            self._on_gone()
            return False
        if self._is_at_work():
            self._refuse_unfinished_body()
            self.close()
            return True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_timer_ends()
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
        self._watch_last_bytes()
        super().force_close()

    # -- the rest is our own business

    def _repeated(self, head: Head, body: bytes, owed: int) -> Request:
        """A request whose head was known again."""
        if not owed:
            return Request(self, head, EMPTY_PAYLOAD, len(body), body)
        content = StreamReader(self, self._read_bufsize, loop=self._loop)
        self._arriving = Arriving(content, len(body) + owed)
        self._arriving.take(body)
        return Request(self, head, content, len(body) + owed)

    def _cancel_request(self) -> None:
        if self._task_handler is not None:
            self._task_handler.cancel()

    def _refuse_broken_body(self) -> None:
        """A body that turns out to be broken HTTP (a bad chunk size) fails the request that is reading it."""
        request, (message, _) = self._request, self._messages[-1]
        broken = getattr(message, "exc", None)
        if broken is not None and request is not None and not request.content.is_eof():
            self.give_up_on_body()
            request.content.set_exception(_parser_fault(broken))

    def _is_at_work(self) -> bool:
        """Whether there is a request, be it one whose answer is out and whose body is still drained."""
        return bool(self._messages) or self._request_in_progress or (self._waiter is None and self._request_count > 0)

    def _refuse_unfinished_body(self) -> None:
        """After a FIN a body that is not whole never will be: nobody waits until its time is over."""
        request = self._request
        if request is not None and not request.content.is_eof():
            self.give_up_on_body()
            request.content.set_exception(unfinished())

    def _is_one_without_chunks(self, queued: int) -> bool:
        """What most reads bring: one request, framed by its length."""
        return len(self._messages) == queued + 1 and not getattr(self._messages[-1][0], "chunked", True)

    def _look_for_trailers(self, data: bytes, queued: int) -> None:
        """Ends the connection after a request with trailers. `queued` requests were there before `data`."""
        served, goes_on = self._trailers.read(data, [self._messages[n] for n in range(queued, len(self._messages))])
        while len(self._messages) > queued + served:
            self._messages.pop()
        if not goes_on:
            self.close()

    def _head_timer_ends(self) -> None:
        self._head_held.release()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self.transport is None or self._is_at_work():
            return
        self._refuse(ClientTooSlow("The request's head did not arrive in time."))
        self.transport.close()

    def _watch_last_bytes(self) -> None:
        transport = self.transport
        if transport is not None and self._write_timer is None and transport.get_write_buffer_size():
            self._start_write_timer()

    def _start_write_timer(self) -> None:
        if self.transport is not None:
            self._check_write_later(self.transport)

    def _check_write_later(self, transport: asyncio.Transport) -> None:
        # The transport is handed on: aiohttp lets go of it with `force_close`, while its last bytes are still there.
        self._written_left = transport.get_write_buffer_size()
        self._write_timer = self._loop.call_later(self._server.write_seconds, self._check_write, transport)

    def _check_write(self, transport: asyncio.Transport) -> None:
        """Ends the connection where the client took nothing for `write` seconds; a slow reader may go on."""
        self._write_timer = None
        left = transport.get_write_buffer_size()
        if left and left >= self._written_left:
            transport.abort()
        elif left:
            self._check_write_later(transport)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _parser_fault(exc: BaseException | None) -> GatewayError:
    if isinstance(exc, LineTooLong) or (isinstance(exc, HttpProcessingError) and "Too many headers" in exc.message):
        return HeadTooLarge("The request's head is larger than this gateway takes.")
    if isinstance(exc, HttpProcessingError):
        return InvalidHttp("The request is not valid HTTP/1.1.")
    return InternalError("The gateway made a mistake.")
