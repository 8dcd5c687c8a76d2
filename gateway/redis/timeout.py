"""Time out by the time that this event loop was awake."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_STEPS = 5


class Patience:
    """Time out one wait after the other.

    `async with patience`, and TimeoutError once `seconds` are spent in all.

    It is spent a fifth at a time, so that a loop that comes late (a busy machine, a stopped process) loses a fifth at
    most, and then finds the answer that has been there all along, instead of blaming the other side.
    """

    __slots__ = ("_limit", "_loop", "_since", "_step_seconds", "_timer", "left_seconds")

    def __init__(self, seconds: float) -> None:
        self.left_seconds = seconds
        self._step_seconds = seconds / _STEPS
        self._loop = asyncio.get_running_loop()
        self._since = 0.0

    async def __aenter__(self) -> Self:
        self._limit = await asyncio.timeout(None).__aenter__()
        self._wait_on()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.left_seconds -= min(self._step_seconds, self._loop.time() - self._since)
        await self._limit.__aexit__(kind, error, trace)

    def _wait_on(self) -> None:
        self._since = self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(self._step_seconds, self.left_seconds)), self._step)

    def _step(self) -> None:
        self.left_seconds -= self._step_seconds
        if self.left_seconds > 0:
            self._wait_on()
        else:
            self._limit.reschedule(self._loop.time())
