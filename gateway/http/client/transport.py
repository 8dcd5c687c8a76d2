"""A request out and its answer in, over a pooled connection.

What every request takes, in that order: `Transport` takes an idle connection, `Connection` sends the request and passes
on what comes, `AnswerParser` reads it. What is rarer is in the classes that these extend: new lines and the pool's
upkeep in `ConnectionPool`, pauses, uploads and ends in `BaseConnection`, refusals in `AnswerRules`.
"""

from __future__ import annotations

from time import monotonic

import httptools

from gateway.errors import ConnectFailed
from gateway.http.client.answer import AnswerRules, Refused
from gateway.http.client.connection import BaseConnection, Owner
from gateway.http.client.connection_pool import CLOSED, ConnectionPool
from gateway.http.client.dial import Origin
from gateway.http.client.receiver import Exchange, Receiver
from gateway.http.client.sending import Sending, Upload

# Below this, copying head and body into one piece is cheaper than a second system call.
_JOINED_BODY_BYTES = 65536
# What a chunk may cost with each of its bytes: "00000001\r\n" and "\r\n" around a single one is still tolerated.
_ALLOWED_PER_BODY_BYTE = 17
_LONGEST_SIZE = 6  # of a chunk well below a large read, with its line end


class Transport(ConnectionPool):
    """Send requests over pooled connections.

    Belongs to the event loop it is first used on. An idle connection is used last in, first out.
    """

    async def exchange(
        self, origin: Origin, head: bytes, body: bytes | Upload, receiver: Receiver, *, connect_timeout: float
    ) -> Exchange:
        """Send a request and return without waiting for the answer.

        `head` whole, with its blank line; an `Upload` goes out piece by piece, as the upstream takes it.

        Raises ConnectFailed or ConnectTimedOut (`connect_timeout` in seconds) when no connection can be had; the
        receiver hears nothing then. Cancelled while connecting, it leaves nothing open.
        """
        exchange = self.reuse(origin, head, body, receiver, connect_timeout)
        if exchange is None:
            if self._closed:
                raise ConnectFailed(f"{origin.authority}: {CLOSED}")
            if origin.ca_file:
                origin = origin._replace(ca_version=self.authorities.version(origin.ca_file))
            exchange = Exchange(origin, receiver, connect_timeout)
            connection = await self._open(origin, connect_timeout)
            connection.send(exchange, head, body)
        return exchange

    def reuse(
        self, origin: Origin, head: bytes, body: bytes | Upload, receiver: Receiver, connect_timeout: float
    ) -> Exchange | None:
        """Send a request over an idle connection; None without one.

        As `exchange`, which need not be asked then: nothing is waited for.
        """
        if origin.ca_file:
            origin = origin._replace(ca_version=self.authorities.version(origin.ca_file))
        idle = self._idle.get(origin)
        connection = self._taken(idle) if idle else None
        if connection is None:
            return None
        exchange = Exchange(origin, receiver, connect_timeout)
        exchange.reused, exchange.request = True, (head, body)
        connection.send(exchange, head, body)
        return exchange

    def _taken(self, idle: list[BaseConnection]) -> BaseConnection | None:
        """Take the last of these that can still be used."""
        too_old = monotonic() - self._max_idle_seconds
        while idle:
            connection = idle.pop()
            idle_since, connection.idle_since = connection.idle_since, 0.0
            if idle_since > too_old and connection.is_usable():
                return connection
            connection.close()
        return None

    def released(self, connection: BaseConnection) -> None:
        """Back into the pool."""
        connection.idle_since = monotonic()
        self._idle[connection.origin].append(connection)
        if self._sweeper is None:
            self._sweep_later()

    def make_connection(self, origin: Origin) -> Connection:
        """Make a connection that has no line yet."""
        return Connection(origin, self, self._max_head_bytes)


class Connection(BaseConnection):
    """An HTTP/1.1 connection: idle, in one exchange, or closed."""

    __slots__ = ()

    _answer: AnswerParser

    def __init__(self, origin: Origin, owner: Owner, max_head_bytes: int) -> None:
        super().__init__(origin, owner, AnswerParser(max_head_bytes))

    def is_usable(self) -> bool:
        """Whether an idle connection is still open and silent.

        The look into the socket matters: a byte or an end that arrived since the loop last looked would otherwise be
        read as the beginning of the next answer.
        """
        return self._open and not self._transport.is_closing() and not self._has_news(0)

    def send(self, exchange: Exchange, head: bytes, body: bytes | Upload) -> None:
        """Write a request; its answer goes to the exchange's receiver."""
        transport = self._transport
        self._exchange, exchange.connection = exchange, self
        self._answer.begin()
        if exchange.paused:
            transport.pause_reading()
        if not isinstance(body, bytes):
            transport.write(head)
            self._sending = Sending(transport, body, self._could_not_send)
        elif len(body) <= _JOINED_BODY_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def data_received(self, data: bytes) -> None:
        exchange, answer = self._exchange, self._answer
        if exchange is None:  # a byte that nobody asked for: nothing after it can be trusted
            self.close()
            return
        try:
            if answer.between_chunks:
                passage = exchange.passage
                if passage is not None and passage(data):
                    return
                if (piece := answer.lone_chunk(data)) is not None:
                    exchange.receiver.on_body(piece)
                    return
            had_head = answer.status
            answer.feed(data)
            if not had_head:
                self._begun(exchange, answer)
            parts = answer.parts
            if parts and self._exchange is exchange:
                exchange.receiver.on_body(parts[0] if len(parts) == 1 else b"".join(parts))
                answer.parts = []  # an idle connection holds nothing of its last answer
            if self._exchange is exchange:
                self._settle(exchange, answer, data)
        except Exception as error:
            self._end_by(error, exchange)

    def _begun(self, exchange: Exchange, answer: AnswerParser) -> None:
        """Pass on an answer's head once it is whole."""
        exchange.request = None
        status = answer.status
        if status:
            if self._sending is not None and status >= 300:
                self._sending.stop()  # what is refused already needs no rest
            exchange.receiver.on_head(status, answer.headers)

    def _settle(self, exchange: Exchange, answer: AnswerParser, data: bytes) -> None:
        """End a whole answer's exchange; keep the connection if usable."""
        if not answer.complete:
            self._go_on(exchange, answer, data)
            return
        # An answer to half an upload leaves the rest in between.
        if answer.reusable and (self._sending is None or self._sending.sent_all) and not self._unsent_bytes():
            self._exchange = exchange.connection = self._sending = None
            if exchange.paused:
                self.resume_reading()
            self._owner.released(self)
        else:
            self.close()
        exchange.receiver.on_end()


class AnswerParser(AnswerRules):
    """Reads one answer after another from one connection; `begin` comes before each.

    After each `feed`: `status` (0 until the head is complete), `headers` (names lower-cased), `parts` (body bytes of
    this read), `complete`, and `fault`, a text once the bytes were no acceptable answer. What came before a fault
    stands in `status` and `parts` as if it had come alone. After `complete`, `reusable` tells whether a next answer
    may follow on this connection, and only then there is one. Interim answers (1xx) and trailers are left out.
    """

    __slots__ = ()

    def begin(self) -> None:
        """Forget the last answer."""
        self._fields, self.parts = [], []
        self.complete = self.reusable = False
        self.status = self._head_bytes = self._interim_heads = 0

    def feed(self, data: bytes) -> None:
        """Read what one read of the socket gave; never raises."""
        head_was_complete = self.status
        if head_was_complete:
            self.between_chunks = False
            self.parts = []
        else:
            self._head_bytes += len(data)
        try:
            self._http.feed_data(data)
        except httptools.HttpParserError as error:
            self._stopped(error)
        if self.complete:
            self.between_chunks = False
            self.reusable = self._keep_alive and not self._surplus and self._ends_with_answer(data)
        elif self._chunked and self.status:
            if head_was_complete:
                self._count_overhead(len(data))
            self.between_chunks = self.between_chunks and data.endswith(b"\r\n")
        elif not self.status:
            self._bound_head()

    # What httptools calls. An exception here stops it and comes out of `feed_data` as an HttpParserCallbackError.

    def on_message_begin(self) -> None:
        if self.complete:
            raise Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        http = self._http
        status = http.get_status_code()
        if http.get_http_version() not in ("1.1", "1.0") or status < 100:
            self._refuse("not an answer of HTTP/1.1 or HTTP/1.0")
        if status < 200:
            self._skip_interim(status)
            return
        if self._head_bytes > self._max_head_bytes:
            self._check_size()
        self.headers, self._fields = self._fields, []
        names = dict(self.headers)
        self._chunked, self._sized = b"transfer-encoding" in names, b"content-length" in names
        if self._chunked:
            self._check_coding()
        self.status = status

    def on_chunk_header(self) -> None:
        self.between_chunks = False

    def on_chunk_complete(self) -> None:
        self.between_chunks = True

    def on_body(self, data: bytes) -> None:
        if not self.status:
            self._refuse("an interim answer with a body")
        self.parts.append(data)
        if self._chunked:
            self._allowance += _ALLOWED_PER_BODY_BYTE * len(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
            self._keep_alive = self._http.should_keep_alive()  # forgotten by llhttp once this call returns
        else:
            self._fields = []

    def lone_chunk(self, data: bytes) -> bytes | None:
        """Return the body bytes of a read that is one whole chunk.

        As nearly every read of a stream is; None for any other, which is to be fed. To be asked `between_chunks` only:
        the parser, which never hears of this chunk, goes on with the next.
        """
        end = data.find(b"\r\n", 0, _LONGEST_SIZE)
        if end > 0 and data.endswith(b"\r\n"):
            size, piece = data[:end], data[end + 2 : -2]
            if piece and (size == b"%x" % len(piece) or size == b"%X" % len(piece)):
                return piece
        return None

    def _ends_with_answer(self, data: bytes) -> bool:
        """Whether the completing read ended with the answer.

        llhttp skips line ends between answers without a word (anything else it reports), so only those are looked for.
        In doubt (a body of line ends only, an end split over tiny reads) the answer is no: that costs a connection,
        not an answer.
        """
        if self._sized and self.parts:
            last = self.parts[-1]
            return data.endswith(last) and not last.isspace()
        return data.endswith(b"\r\n\r\n") and data[-5:-4] not in (b"", b"\r", b"\n")
