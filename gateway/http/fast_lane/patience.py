"""Time-outs of a connection: for heads, and between requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class HeadPatience:
    """Call back where a head is not whole in time.

    The time runs from its first byte, however it drips.
    """

    __slots__ = ("_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, over: Callable[[], None]) -> None:
        """Begin to wait, unless that has begun already."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._ended, over)

    def end(self) -> None:
        """Stop the time-out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ended(self, over: Callable[[], None]) -> None:
        self._timer = None
        over()


class IdlePatience:
    """Call `over` where a connection stays idle.

    One timer serves all its requests: it looks anew when it is due.
    """

    __slots__ = ("_is_idle", "_loop", "_over", "_seconds", "_timer", "since")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: Callable[[], float],
        is_idle: Callable[[], bool],
        over: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._is_idle = is_idle
        self._over = over
        self.since = loop.time()  # the last end of a request, set by whoever ends it
        self._timer: asyncio.TimerHandle | None = loop.call_later(seconds(), self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        patience, since = self._seconds(), self._loop.time() - self.since
        idle = self._is_idle()
        if idle and since >= patience:
            self._over()
        else:
            self._timer = self._loop.call_later(patience - since if idle else patience, self._look)
