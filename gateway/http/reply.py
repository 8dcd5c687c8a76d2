"""Answers, and their heads as bytes: `Answer` is whole, `EventStream` is streamed."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

import msgspec

from gateway.http.message import Connection, Headers, Request

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_pair = ": ".join


class Reply:
    """What both kinds share. `keep_alive` False ends the connection with the answer."""

    status: int
    keep_alive = True

    def force_close(self) -> None:
        """End the connection with this answer."""
        self.keep_alive = False

    def send_to(self, request: Request) -> None:
        """Send what is left. Raises ConnectionResetError where the client left."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class Answer(Reply, msgspec.Struct, eq=False):
    """A whole answer.

    `fields` go out as they are given, checked against control characters; length, date, `connection` are added.
    """

    status: int
    fields: Headers
    content: bytes
    keep_alive: bool = True

    def send_to(self, request: Request) -> None:
        connection = request.connection
        if not request.keep_alive or connection.ends_here:
            self.keep_alive = False
        connection.send_answer(request, self.status, self.fields, self.content, close=not self.keep_alive)

    def serialised(self, *, http11: bool) -> bytes:
        """Return the whole answer as bytes."""
        framing = f"content-length: {len(self.content)}\n"
        return head_bytes(self.status, self.fields, framing, close=not self.keep_alive, http11=http11) + self.content


class EventStream(Reply):
    """A streamed answer.

    Chunked to HTTP/1.1 clients, delimited by the connection's end to older ones.
    """

    status = 200
    started = False  # something of it has gone out
    finished = False
    _connection: Connection | None = None

    def start(self, request: Request, status: int, headers: Headers) -> None:
        """Send the head. Raises ConnectionResetError where the client has gone."""
        self._connection = connection = request.connection
        self.started, self.status = True, status
        if not request.keep_alive or connection.ends_here:
            self.keep_alive = False
        connection.open_stream(request, status, headers, close=not self.keep_alive)

    def send(self, data: bytes) -> None:
        """Write bytes to the client. Raises ConnectionResetError.

        To its transport at once; raises where the client has gone.
        """
        if data and self._connection is not None:
            self._connection.send(data)

    def finish(self) -> None:
        """End the body cleanly."""
        self.finished = True
        if self._connection is not None:
            self._connection.end_stream()

    def cut(self) -> None:
        """Break the connection, so that the stream counts as cut."""
        self.keep_alive = False
        if self._connection is not None:
            self._connection.abort()

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        if self._connection is not None:
            await self._connection.drained()

    def send_to(self, request: Request) -> None:
        """Nothing: it was sent as it came."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' begun' if self.started else ''}>"


def with_answer_fields(fields: Headers, answer_fields: Headers) -> Headers:
    """Add what every answer bears, instead of its own of those names."""
    names = {name for name, _ in answer_fields if name != "vary"}  # which may come as often as it likes
    return (*(field for field in fields if field[0] not in names), *answer_fields)


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
