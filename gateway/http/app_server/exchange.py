"""Adapt one aiohttp request and response to ours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aiohttp import hdrs, web

from gateway.http.app_server.leaving_http import Upgrade
from gateway.http.fast_lane import LaneConnection
from gateway.http.message import Headers, Request
from gateway.http.reply import Answer, with_answer_fields

# What an answer may pile up here, beside what aiohttp and the kernel hold, before its source is asked to wait.
PRESSURE_ABOVE_BYTES = 64 * 1024
WRITE_AT_A_TIME_BYTES = 64 * 1024
UNTYPED = "-"  # stands for no `content-type`, where aiohttp would set one of its own


class Exchange:
    """Implements `http.message.Connection` for one request.

    aiohttp writes by awaiting, a relay by handing bytes over: a task stands between the two, and tells the source to
    wait where too much has piled up.
    """

    chunked = None  # aiohttp frames the pieces

    def __init__(self, asked: web.Request, connection: LaneConnection) -> None:
        self.client = connection.client
        self.answer_fields: Headers = ()
        self._asked = asked
        self._connection = connection
        self._response: web.StreamResponse | None = None
        self._pump: asyncio.Task[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()  # for the pump
        self._room = asyncio.Event()  # for whoever waits in `drained`
        self._room.set()
        self._ended = False
        self._on_pressure: Callable[[bool], None] | None = None
        self.request = connection.passed
        self.request.connection = self

    # -- http.message.Connection

    @property
    def ends_here(self) -> bool:
        """Whether no further request will be taken from this connection."""
        return self._connection.ends_here

    def watch(self, on_pressure: Callable[[bool], None] | None) -> None:
        """Cancel the request when its client leaves; report its pressure.

        `on_pressure(paused)` as its answer piles up or drains.
        """
        self._on_pressure = on_pressure
        self._connection.watch(None)
        if on_pressure is not None and not self._room.is_set():
            on_pressure(True)

    def unwatch(self) -> None:
        """End what `watch` began."""
        self._on_pressure = None
        self._connection.unwatch()

    def ask_for_body(self) -> None:
        """Send `100 Continue` to a client that awaits it."""
        self._connection.ask_for_body()

    def give_up_on_body(self) -> None:
        """End the connection with the answer, the body unread."""
        self._connection.give_up_on_body()

    def open_stream(self, request: Request, status: int, fields: Headers, *, close: bool) -> None:
        """Send the head of an answer whose body comes piece by piece."""
        self._still_there()
        response = self._response = self._with_fields(web.StreamResponse(status=status), fields)
        if close:
            response.force_close()
        if request.http11:
            response.enable_chunked_encoding()
        self._pump = asyncio.get_running_loop().create_task(self._send_pieces(response))
        self._pump.add_done_callback(_retrieved)

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._still_there()
        self._pieces.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > PRESSURE_ABOVE_BYTES and self._room.is_set():
            self._room.clear()
            if self._on_pressure is not None:
                self._on_pressure(True)

    def end_stream(self) -> None:
        """End the body cleanly."""
        self._ended = True
        self._news.set()

    def abort(self) -> None:
        """Break the connection."""
        self._connection.abort()

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        await self._room.wait()
        self._still_there()

    # -- the application's side

    def send_answer(self, answer: Answer) -> None:
        """Send a whole answer; of a HEAD the head alone."""
        self._still_there()
        self._response = self._with_fields(web.Response(status=answer.status, body=answer.content), answer.fields)

    async def finished(self, *, close: bool) -> web.StreamResponse:
        """Wait until the answer is out; return aiohttp's response."""
        if self._pump is not None:
            await self._pump
        response = self._response
        if response is None:
            raise RuntimeError("a request was not answered")
        if close:
            response.force_close()
        await response.prepare(self._asked)
        await response.write_eof()
        return response

    async def over(self, *, keep_alive: bool) -> None:
        """Go on to the next request, or end the connection.

        The answer is out.
        """
        await self._connection.application_answered(keep_alive=keep_alive)

    @property
    def can_upgrade(self) -> bool:
        """Whether the request is a WebSocket's opening handshake."""
        return bool(web.WebSocketResponse().can_prepare(self._asked))

    async def upgraded(self, reply: Upgrade) -> web.StreamResponse:
        """Let another protocol have the connection, to its end."""
        try:
            self._still_there()
        except ConnectionResetError:
            reply.abandon()
            raise
        self._connection.application_upgraded()
        return await reply.converse(self._asked)

    def close(self) -> None:
        """Send no more: the request is over, however it ended."""
        if self._pump is not None:
            self._pump.cancel()

    async def _send_pieces(self, response: web.StreamResponse) -> None:
        await response.prepare(self._asked)
        while True:
            await self._news.wait()
            self._news.clear()
            while self._pieces:
                await response.write(self._taken())
                self._make_room()
            if self._ended:
                return

    def _taken(self) -> bytes:
        """The next pieces, as many as go into one write."""
        taken = [self._pieces.popleft()]
        size = len(taken[0])
        while self._pieces and size + len(self._pieces[0]) <= WRITE_AT_A_TIME_BYTES:
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        self._size -= size
        return b"".join(taken)

    def _make_room(self) -> None:
        if self._size <= PRESSURE_ABOVE_BYTES // 2 and not self._room.is_set():
            self._room.set()
            if self._on_pressure is not None:
                self._on_pressure(False)

    def _with_fields(self, response: web.StreamResponse, fields: Headers) -> web.StreamResponse:
        response.headers.clear()
        if self.answer_fields:
            fields = with_answer_fields(fields, self.answer_fields)
        for name, value in fields:
            if "\r" in value or "\n" in value or "\0" in value:
                raise ValueError("a control character in a response header")
            response.headers.add(name, value if value.isascii() else _as_utf8(value))
        if hdrs.CONTENT_TYPE not in response.headers:
            response.headers[hdrs.CONTENT_TYPE] = UNTYPED
        return response

    def _still_there(self) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")


def _as_utf8(value: str) -> str:
    """Return the text whose UTF-8 is `value` in Latin-1."""
    return value.encode("latin-1").decode("utf-8", "replace")


def _retrieved(pump: asyncio.Task[None]) -> None:
    """Retrieve the task's end, lest asyncio complain.

    A client that leaves cancels its request besides.
    """
    if not pump.cancelled():
        pump.exception()
