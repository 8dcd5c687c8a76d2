"""The time-outs of attempts that have long to go."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

LOOK_SECONDS = 1.0


class Waiting(Protocol):
    """What has to be over at `answer_by`, in its loop's time."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def answer_by(self) -> float: ...
    def set_deadline(self, when: float) -> None: ...


class Waits:
    """Arm the timers of attempts only when they are nearly due.

    Nearly every answer comes long before: a timer of its own would be armed and cancelled in vain. One for all looks
    every second while there are any. `attempts`: those that have none; whoever has ended, or sets a deadline, leaves.
    """

    __slots__ = ("attempts", "looks_at")

    def __init__(self) -> None:
        self.attempts: set[Waiting] = set()
        self.looks_at = math.inf  # those that are due later may join `attempts`; infinity: nobody looks yet

    def begin(self, attempt: Waiting) -> None:
        """See to an attempt that could not simply join."""
        if self.looks_at == math.inf:
            self._look_later(attempt.loop)
        if attempt.answer_by > self.looks_at:
            self.attempts.add(attempt)
        else:
            attempt.set_deadline(attempt.answer_by)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self.looks_at = loop.time() + LOOK_SECONDS
        loop.call_at(self.looks_at, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.attempts:
            self.looks_at = math.inf
            return
        self._look_later(loop)
        for attempt in [each for each in self.attempts if each.answer_by <= self.looks_at]:
            attempt.set_deadline(attempt.answer_by)

    def __repr__(self) -> str:
        return f"<Waits of {len(self.attempts)} attempts>"
