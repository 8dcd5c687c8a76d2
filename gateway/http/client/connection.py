"""An upstream connection's line: taken, paused, closed, or lost."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
import time
from collections.abc import Callable
from typing import Protocol

from gateway.errors import ConnectionCut, InvalidResponse
from gateway.http.client.answer import AnswerRules
from gateway.http.client.dial import Line, Origin
from gateway.http.client.receiver import Exchange, report_receiver
from gateway.http.client.sending import Sending, Upload

# The news that a connection was closed before we wrote to it takes one round trip. An upstream that hangs up later than
# this has had the request in its hands: that is a failed attempt, and it is not asked again behind the caller's back.
STALE_WITHIN_SECONDS = 1.0
# A read this large fills the loop's buffer, and uvloop reads up to 32 of those in one turn: others come in between.
_LARGE_READ_BYTES = 128 * 1024


class Owner(Protocol):
    """What a connection needs from the pool."""

    def released(self, connection: BaseConnection) -> None: ...
    def lost(self, connection: BaseConnection) -> None: ...
    def replace(self, exchange: Exchange) -> None: ...


class BaseConnection(asyncio.Protocol):
    """A connection apart from requests: its line, its pauses, its end."""

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

    def __init__(self, origin: Origin, owner: Owner, answer: AnswerRules) -> None:
        self.origin = origin
        self.idle_since = 0.0  # by time.monotonic(); 0 while it is not in the pool
        self._owner = owner
        self._answer = answer
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

    def is_usable(self) -> bool:
        """Whether an idle connection is still open and silent."""
        raise NotImplementedError

    def send(self, exchange: Exchange, head: bytes, body: bytes | Upload) -> None:
        """Write a request; its answer goes to the exchange's receiver."""
        raise NotImplementedError

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

    def _go_on(self, exchange: Exchange, answer: AnswerRules, data: bytes) -> None:
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
        self._answer.let_go()

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
