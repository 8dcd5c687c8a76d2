"""A request on its way, and what receives its answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.errors import TransportError
from gateway.http.client.dial import Origin
from gateway.http.client.sending import Upload

if TYPE_CHECKING:
    from gateway.http.client.connection import BaseConnection


class Receiver(Protocol):
    """Receive an answer, synchronously from the socket's read.

    `on_head`, `on_body` any number of times, `on_end`.

    `on_failure` may come at any point instead of the rest. After `on_end`, `on_failure` or `Exchange.abort()` nothing
    comes any more. An exception raised here aborts the connection, goes to the loop's exception handler, and is
    followed by no further call.
    """

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Receive the final answer's head, never a 1xx.

        Names lower-cased, values without outer white space.
        """

    def on_body(self, data: bytes) -> None:
        """Receive de-chunked bytes, one call a read.

        Otherwise as sent.
        """

    def on_end(self) -> None:
        """Receive the end; the connection is pooled or closed."""

    def on_failure(self, error: TransportError) -> None:
        """Receive a failure; the connection is closed.

        ConnectFailed, ConnectTimedOut (both only when a stale connection was being replaced), ConnectionCut or
        InvalidResponse.
        """


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
    connection: BaseConnection | None = None
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


def report_receiver(error: Exception, receiver: Receiver) -> None:
    """Report a receiver's exception to the loop's handler.

    It is a fault of ours, never a TransportError.
    """
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"{type(receiver).__name__} raised while taking an answer", "exception": error}
    )
