"""Pass chunks of text events on as they came, framing and all.

Nearly every read of a stream is one whole chunk of whole events that say nothing but text. Such a read needs no new
framing and no look into it before it is passed on: this is the short way from the upstream's socket to the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.proxy.stream.live import Live


class Clocked(Protocol):
    """Whose stream it is: told when something of it came."""

    last_read: float  # on the loop's clock


class Chunks:
    """Pass one stream's chunks on. `transport`: the client's, on which answers are chunked."""

    __slots__ = ("_is_closing", "_live", "_now", "_stream", "_write")

    def __init__(
        self, stream: Clocked, live: Live, transport: asyncio.WriteTransport, now: Callable[[], float]
    ) -> None:
        self._stream = stream
        self._live = live
        self._write, self._is_closing = transport.write, transport.is_closing
        self._now = now

    def take(self, chunk: bytes, events: bytes) -> bool:
        """Pass a chunk on, whose bytes are `events`; False for one that needs a look first."""
        if self._is_closing() or not self._live.is_text(events):
            return False
        self._stream.last_read = self._now()
        self._write(chunk)
        return True

    def __repr__(self) -> str:
        return f"<Chunks of {self._live!r}>"
