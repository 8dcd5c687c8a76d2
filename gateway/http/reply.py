"""What a handler returns: `Answer` is whole, `EventStream` is streamed."""

from __future__ import annotations

import msgspec

from gateway.http.message import Connection, Headers, Request


class Reply:
    """What both kinds share. `keep_alive` False ends the connection with the answer."""

    status: int
    keep_alive = True

    def force_close(self) -> None:
        """End the connection with this answer."""
        self.keep_alive = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class Answer(Reply, msgspec.Struct, eq=False):
    """A whole answer, which the server sends.

    `fields` go out as they are given, checked against control characters; length, date, `connection` are added.
    """

    status: int
    fields: Headers
    content: bytes
    keep_alive: bool = True


class EventStream(Reply):
    """A streamed answer, which has been sent when its handler returns.

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}{' begun' if self.started else ''}>"


def with_answer_fields(fields: Headers, answer_fields: Headers) -> Headers:
    """Add what every answer bears, instead of its own of those names."""
    names = {name for name, _ in answer_fields if name != "vary"}  # which may come as often as it likes
    return (*(field for field in fields if field[0] not in names), *answer_fields)
