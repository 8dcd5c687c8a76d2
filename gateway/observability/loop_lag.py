"""Measure how late the event loop is."""

from __future__ import annotations

import asyncio

TICK_SECONDS = 0.02
WINDOW_SECONDS = 15.0


class LoopLag:
    """Measure the event loop's lag by waking up regularly.

    `worst_seconds`: within the last 15 to 30 s.
    """

    def __init__(self) -> None:
        self._worst = self._worst_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._next_window = 0.0

    @property
    def worst_seconds(self) -> float:
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        """Begin to look. Needs a running loop; `stop` ends it."""
        loop = asyncio.get_running_loop()
        self._next_window = loop.time() + WINDOW_SECONDS
        self._look_later(loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + TICK_SECONDS
        self._timer = loop.call_at(self._due, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._worst = max(self._worst, now - self._due)
        if now >= self._next_window:
            self._next_window = now + WINDOW_SECONDS
            self._worst_before, self._worst = self._worst, 0.0
        self._look_later(loop)

    def __repr__(self) -> str:
        return f"<Pace: {self.worst_seconds * 1000:.0f} ms late at worst>"
