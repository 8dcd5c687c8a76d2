"""The client that takes nothing: noticed, and its connection ended."""

from __future__ import annotations

import asyncio


class WriteWatch:
    """End connections whose client takes no byte for a while.

    A slow reader may go on.
    """

    __slots__ = ("_left", "_loop", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def start(self, seconds: float) -> None:
        """Begin to watch, if bytes are left.

        `seconds`: how long nothing may move.
        """
        left = self._transport.get_write_buffer_size()
        if left and self._timer is None:
            self._left = left
            self._timer = self._loop.call_later(seconds, self._look, seconds)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, seconds: float) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left and left >= self._left:
            self._transport.abort()
        else:
            self.start(seconds)
