"""Signs of life for a client whose stream has no event yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Heartbeat:
    """Call `beat` each `seconds` until it returns False or is stopped.

    Never at 0 seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, beat: Callable[[], bool]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._beat = beat
        self._timer = loop.call_later(seconds, self._tick) if seconds > 0 else None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._tick) if self._beat() else None
