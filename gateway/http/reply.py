"""Answers: `Answer` is whole, `EventStream` is streamed."""

from __future__ import annotations

from gateway.http.message import Connection, Headers, Request
from gateway.http.wire import answer_bytes


class Reply:
    """What both kinds share. `keep_alive` False ends the connection with the answer."""

    status: int
    keep_alive = True
    _connection: Connection | None = None

    @property
    def started(self) -> bool:
        """Whether anything of it has gone out."""
        return self._connection is not None

    def force_close(self) -> None:
        """End the connection with this answer."""
        self.keep_alive = False

    def send_to(self, request: Request) -> None:
        """Send what is left. Raises ConnectionResetError where the client left."""
        raise NotImplementedError

    def _attach(self, request: Request) -> Connection:
        self._connection = connection = request.connection
        if not request.keep_alive or connection.ends_here:
            self.keep_alive = False
        return connection

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' begun' if self.started else ''}>"


class Answer(Reply):
    """A whole answer.

    `headers` go out as they are given, checked against control characters; length, date, `connection` are added.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.fields = headers
        self.content = body

    def send_to(self, request: Request) -> None:
        connection = self._attach(request)
        connection.send_answer(request, self.status, self.fields, self.content, close=not self.keep_alive)

    def serialised(self, *, http11: bool) -> bytes:
        """Return the whole answer as bytes."""
        return answer_bytes(self.status, self.fields, self.content, close=not self.keep_alive, http11=http11)


class EventStream(Reply):
    """A streamed answer.

    Chunked to HTTP/1.1 clients, delimited by the connection's end to older ones.
    """

    status = 200
    finished = False

    def start(self, request: Request, status: int, headers: Headers) -> None:
        """Send the head. Raises ConnectionResetError where the client has gone."""
        connection = self._attach(request)
        self.status = status
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
