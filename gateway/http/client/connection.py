"""One upstream connection, and one exchange at a time on it."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.errors import ConnectionCut, InvalidResponse, TransportError
from gateway.http.client.answer import AnswerParser
from gateway.http.client.dial import Line, Origin
from gateway.http.client.receiver import Receiver, report_receiver
from gateway.http.client.sending import Sending, Upload

# Below this, copying head and body into one piece is cheaper than a second system call.
_JOINED_BODY_BYTES = 65536
# The news that a connection was closed before we wrote to it takes one round trip. An upstream that hangs up later than
# this has had the request in its hands: that is a failed attempt, and it is not asked again behind the caller's back.
STALE_WITHIN_SECONDS = 1.0
# A read this large fills the loop's buffer, and uvloop reads up to 32 of those in one turn: others come in between.
_LARGE_READ_BYTES = 128 * 1024


class Owner(Protocol):
    """What a connection needs from the pool."""

    def released(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...
    def replace(self, exchange: Exchange) -> None: ...


class Exchange(msgspec.Struct, eq=False):
    """A request and its answer on the way.

    The caller's side is `reused`, `pause`, `resume` and `abort`.
    """

    origin: Origin
    receiver: Receiver
    connect_timeout: float
    reused: bool = False  # it began on a pooled connection
    paused: bool = False
    passage: Callable[[bytes], bool] | None = None  # is offered reads between chunks; what it takes nobody else gets
    connection: Connection | None = None
    replacement: asyncio.Task[None] | None = None
    # Head and body, kept only as long as a stale connection may have to be replaced: until the first byte.
    request: tuple[bytes, bytes | Upload] | None = None
    sent_at: float = msgspec.field(default_factory=time.monotonic)

    @property
    def is_sending(self) -> bool:
        """Whether the request itself is still on its way."""
        return self.replacement is not None or (self.connection is not None and self.connection.is_sending)

    @property
    def last_sent_at(self) -> float:
        """Return when an upload went out, on the loop's clock."""
        return self.connection.last_sent_at if self.connection is not None else -math.inf

    def pause(self) -> None:
        """Stop reading from the upstream, to slow it down.

        What was read already may still arrive.
        """
        if not self.paused:
            self.paused = True
            if self.connection is not None:
                self.connection.pause_reading()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self.connection is not None:
                self.connection.resume_reading()

    def abort(self) -> None:
        """Close the connection now, without another call.

        Does nothing after the end.
        """
        if self.replacement is not None:
            self.replacement.cancel()
            self.replacement = None
        if self.connection is not None:
            self.connection.close()

    def fail(self, error: TransportError) -> None:
        """Pass a failure to the receiver. Never raises."""
        try:
            self.receiver.on_failure(error)
        except Exception as raised:
            report_receiver(raised, self.receiver)

    def __repr__(self) -> str:
        state = "replacing" if self.replacement else "live" if self.connection else "over"
        return f"<Exchange {self.origin} {state}{' reused' * self.reused}{' paused' * self.paused}>"


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection: idle, in one exchange, or closed."""

    __slots__ = (
        "_answer",
        "_exchange",
        "_has_news",
        "_line",
        "_open",
        "_owner",
        "_sending",
        "_transport",
        "_unsent_bytes",
        "idle_since",
        "origin",
    )

    def __init__(self, origin: Origin, owner: Owner, max_head_bytes: int) -> None:
        self.origin = origin
        self.idle_since = 0.0  # by time.monotonic(); 0 while it is not in the pool
        self._owner = owner
        self._answer = AnswerParser(max_head_bytes)
        self._exchange: Exchange | None = None
        self._line: Line | None = None
        self._sending: Sending | None = None  # of a body that goes out piece by piece
        self._open = True
        self._transport: asyncio.Transport  # this, and what follows, once there is a line
        self._has_news: Callable[[int], list[tuple[int, int]]]  # of the socket; asked with no milliseconds to wait
        self._unsent_bytes: Callable[[], int]

    def attach(self, line: Line) -> bool:
        """Take the line; False if it closed or sent bytes first."""
        self._line = line
        if not self._open or line.transport.is_closing():
            self.close()
            return False
        socket = select.poll()
        socket.register(line.socket.fileno(), select.POLLIN)
        self._transport, self._has_news, self._unsent_bytes = line.transport, socket.poll, line.unsent_bytes()
        return True

    @property
    def is_sending(self) -> bool:
        """Whether a body is still being sent."""
        return self._sending is not None and not self._sending.done

    @property
    def last_sent_at(self) -> float:
        """The same, of the present exchange."""
        return self._sending.last_at if self._sending is not None else -math.inf

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

    def is_usable(self) -> bool:
        """Whether an idle connection is still open and silent.

        The look into the socket matters: a byte or an end that arrived since the loop last looked would otherwise be
        read as the beginning of the next answer.
        """
        return self._open and not self._transport.is_closing() and not self._has_news(0)

    def close(self) -> None:
        """Close the connection now, without a call to the receiver."""
        self._detach()
        self._open = False
        if self._sending is not None:
            self._sending.stop()
        if self._line is not None:
            self._line.transport.abort()

    def cut(self, reason: str) -> None:
        """Close the connection and fail the exchange on it."""
        exchange = self._detach()
        self.close()
        if exchange is not None:
            exchange.fail(ConnectionCut(f"{self.origin.authority}: {reason}"))

    def pause_reading(self) -> None:
        if self._line is not None and not self._line.transport.is_closing():
            self._line.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._line is not None and not self._line.transport.is_closing():
            self._line.transport.resume_reading()

    # What the loop calls.

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
            if answer.parts and self._exchange is exchange:
                exchange.receiver.on_body(answer.take_body())
            if self._exchange is exchange:
                if answer.complete:
                    self._settle(exchange, answer)
                else:
                    self._go_on(exchange, answer, data)
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

    def _go_on(self, exchange: Exchange, answer: AnswerParser, data: bytes) -> None:
        """Wait for more of an answer, unless it is at fault."""
        if answer.fault is not None:
            self.close()
            exchange.fail(InvalidResponse(f"{self.origin.authority}: invalid response: {answer.fault}"))
        elif len(data) >= _LARGE_READ_BYTES and not exchange.paused:
            self.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on, exchange)

    def _end_by(self, error: Exception, exchange: Exchange) -> None:
        """Close the connection, for its receiver has failed."""
        if self._exchange is exchange:
            self.close()
        report_receiver(error, exchange.receiver)

    def pause_writing(self) -> None:
        if self._sending is not None:
            self._sending.pause()

    def resume_writing(self) -> None:
        if self._sending is not None:
            self._sending.resume()

    def _could_not_send(self, reason: str) -> None:
        self.cut(reason)

    def _read_on(self, exchange: Exchange) -> None:
        if self._exchange is exchange and not exchange.paused:
            self.resume_reading()

    def eof_received(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif self._answer.status and self._answer.until_close and self._is_announced_end():
            self.close()
            self._end(exchange)
        else:
            self._lose(exchange, "closed by the upstream")

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        self._owner.lost(self)
        if self._exchange is not None:
            self._lose(self._exchange, _cause(exc))

    def _settle(self, exchange: Exchange, answer: AnswerParser) -> None:
        """End the exchange; keep the connection if it may have another."""
        # An answer to half an upload leaves the rest in between.
        if answer.reusable and (self._sending is None or self._sending.sent_all) and not self._unsent_bytes():
            self._exchange = exchange.connection = self._sending = None
            if exchange.paused:
                self.resume_reading()
            self._owner.released(self)
        else:
            self.close()
        exchange.receiver.on_end()

    def _end(self, exchange: Exchange) -> None:
        try:
            exchange.receiver.on_end()
        except Exception as error:
            report_receiver(error, exchange.receiver)

    def _lose(self, exchange: Exchange, cause: str) -> None:
        """Fail the exchange, or replace a stale pooled connection.

        One that was closed before the request.
        """
        self.close()
        if exchange.request is not None and time.monotonic() - exchange.sent_at < STALE_WITHIN_SECONDS:
            self._owner.replace(exchange)
        else:
            exchange.fail(ConnectionCut(f"{self.origin.authority}: {cause} {self._answer.stage}"))

    def _is_announced_end(self) -> bool:
        """Whether the upstream itself ended the connection.

        Under TLS a bare FIN may be anyone's, and asyncio shows no difference.
        """
        tls: ssl.SSLObject | None = self._line and self._line.transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return tls.read(1) == b""
        except ssl.SSLError:
            return False

    def _detach(self) -> Exchange | None:
        exchange = self._exchange
        if exchange is not None:
            exchange.connection = None
            self._exchange = None
        return exchange


def _cause(exc: Exception | None) -> str:
    if exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError):
        return "reset by the upstream"
    if isinstance(exc, OSError) and exc.strerror:
        return f"lost ({exc.strerror})"
    return f"lost ({type(exc).__name__})"
