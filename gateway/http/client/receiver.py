"""What receives an answer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.errors import TransportError


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


def report_receiver(error: Exception, receiver: Receiver) -> None:
    """Report a receiver's exception to the loop's handler.

    It is a fault of ours, never a TransportError.
    """
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"{type(receiver).__name__} raised while taking an answer", "exception": error}
    )
