"""One request, and the two kinds of answer to it: `Answer` is whole, `EventStream` is written as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import StreamReader
from aiohttp.helpers import rfc822_formatted_time  # kept for a second at a time: no clock formatting per answer
from multidict import MultiMapping

from gateway.http.memory_budget import Held
from gateway.http.server_old.head import Head

if TYPE_CHECKING:
    from gateway.http.server_old.connection import Connection

Headers = Sequence[tuple[str, str]]

# Up to this size a chunk is joined with its framing: one small copy costs less than a scattered write.
JOIN_BELOW_BYTES = 16 * 1024

_STATUS_LINES = {
    (status.value, http11): f"HTTP/1.{int(http11)} {status.value} {status.phrase}\n"
    for status in HTTPStatus
    for http11 in (False, True)
}
_pair = ": ".join


class Request:
    """What a client asks for. The body is `body`, or where that is None `content` has it: see `read_body`.

    `length`: of the body, as declared. `held`: the memory that it holds, until its answer has been taken.
    """

    __slots__ = (
        "body",
        "connection",
        "content",
        "head",
        "headers",
        "held",
        "http11",
        "keep_alive",
        "length",
        "method",
        "path",
    )

    def __init__(
        self, connection: Connection, head: Head, content: StreamReader, length: int | None, body: bytes | None = None
    ) -> None:
        self.connection = connection
        self.head = head
        self.content = content
        self.length = length
        self.body = body
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        self.http11 = head.http11
        self.keep_alive = head.keep_alive
        self.held: Held | None = None

    @property
    def query(self) -> MultiMapping[str]:
        return self.head.query

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.head.target}>"


class Reply:
    """What both kinds of answer share: they write to the client's transport themselves.

    `keep_alive` False ends the connection with the answer.
    """

    status: int
    keep_alive = True
    _connection: Connection | None = None

    @property
    def started(self) -> bool:
        """Whether anything of it has gone out."""
        return self._connection is not None

    def force_close(self) -> None:
        self.keep_alive = False

    def send_to(self, request: Request) -> None:
        """Writes what is still to be written. Raises ConnectionResetError where the client has gone."""
        raise NotImplementedError

    def _attach(self, request: Request) -> Connection:
        self._connection = connection = request.connection
        if not request.keep_alive or connection.ends_here:
            self.keep_alive = False
        return connection

    def _open_transport(self) -> asyncio.Transport:
        connection = self._connection
        transport = connection.transport if connection is not None else None
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        return transport

    def _send(self, parts: Sequence[bytes], size: int) -> None:
        transport = self._open_transport()
        if size < JOIN_BELOW_BYTES:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' begun' if self.started else ''}>"


class Answer(Reply):
    """A whole answer; head and body leave in one write.

    `headers` go out as they are given, checked against control characters; length, date, `connection` are added.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.fields = headers
        self.content = body

    def send_to(self, request: Request) -> None:
        connection = self._attach(request)
        head = self._head(connection.answer_fields, http11=request.http11)
        body = b"" if request.method == "HEAD" else self.content
        self._send((head, body), len(head) + len(body))

    def serialised(self, *, http11: bool) -> bytes:
        """The whole answer as bytes, for the places where there is no request to answer."""
        return self._head((), http11=http11) + self.content

    def _head(self, fields_of_all: Headers, *, http11: bool) -> bytes:
        length = () if self.status == 204 else (("content-length", str(len(self.content))),)
        return head_bytes(
            self.status, (*self.fields, *fields_of_all, *length), close=not self.keep_alive, http11=http11
        )


class EventStream(Reply):
    """An answer written as it comes: chunked to HTTP/1.1 clients, delimited by the connection's end to older ones."""

    status = 200
    _chunked_framing = True
    _silent = False
    finished = False

    def start(self, request: Request, status: int, headers: Headers) -> None:
        """Sends the head. Raises ConnectionResetError where the client has gone."""
        connection = self._attach(request)
        self.status = status
        self._chunked_framing = request.http11
        self._silent = request.method == "HEAD"
        framing = (("transfer-encoding", "chunked"),) if request.http11 else ()
        fields = (*headers, *connection.answer_fields, *framing)
        head = head_bytes(status, fields, close=not self.keep_alive, http11=request.http11)
        self._send((head,), len(head))

    def send(self, data: bytes) -> None:
        """Hands bytes to the client's transport at once. Raises ConnectionResetError where the client has gone."""
        size = len(data)
        if not size or self._silent:
            return
        if self._chunked_framing and size < JOIN_BELOW_BYTES:  # an event, as a rule
            self._open_transport().write(b"%x\r\n%b\r\n" % (size, data))
        elif self._chunked_framing:
            self._send((b"%x\r\n" % size, data, b"\r\n"), size)
        else:
            self._send((data,), size)

    def finish(self) -> None:
        """Ends the body cleanly."""
        self.finished = True
        if self._chunked_framing and not self._silent:
            self._send((b"0\r\n\r\n",), 5)

    def cut(self) -> None:
        """Breaks the connection, so that nobody takes what was sent for the whole."""
        self.keep_alive = False
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()

    async def drained(self) -> None:
        """Waits until the client has taken enough of what was sent."""
        if self._connection is not None:
            await self._connection.drained()

    def send_to(self, request: Request) -> None:
        """Nothing: it was sent as it came."""


def head_bytes(status: int, headers: Iterable[tuple[str, str]], *, close: bool, http11: bool) -> bytes:
    """Status line and fields. Raises ValueError for a control character in a field: nothing can be smuggled in."""
    lines = [*map(_pair, headers), "date: " + rfc822_formatted_time()]
    if close:
        lines.append("connection: close")
    fields = "\n".join(lines)
    if "\r" in fields or "\0" in fields or fields.count("\n") != len(lines) - 1:
        raise ValueError("a control character in a response header")
    status_line = _STATUS_LINES.get((status, http11)) or f"HTTP/1.{int(http11)} {status} \n"
    return f"{status_line}{fields}\n\n".replace("\n", "\r\n").encode("latin-1")
