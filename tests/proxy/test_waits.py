"""Time-outs that are far: no timer of their own, and none that comes late."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gateway.proxy.stream.waits import LOOK_SECONDS, Waits


class Clock:
    """A loop as far as timers go."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., object], *given: Any) -> None:
        self.timers.append((when, call, given))

    def go_to(self, now: float) -> None:
        """Call what is due until then."""
        while due := [timer for timer in self.timers if timer[0] <= now]:
            timer = min(due, key=lambda each: each[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1](*timer[2])
        self.now = now


class Attempt:
    def __init__(self, waits: Waits, clock: Clock, seconds: float) -> None:
        self.loop, self.answer_by, self.armed, self._waits = clock, clock.now + seconds, math.nan, waits
        if self.answer_by > waits.looks_at:  # as an attempt does by itself
            waits.attempts.add(self)  # type: ignore[arg-type]
        else:
            waits.begin(self)  # type: ignore[arg-type]

    def set_deadline(self, when: float) -> None:
        self.armed = self.loop.now
        assert when == self.answer_by
        self._waits.attempts.discard(self)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.999, 1.0, 1.001, 1.5, 3.7, 60.0])
@pytest.mark.parametrize("before", [0.0, 0.3, 0.99])
def test_a_timer_is_armed_before_it_is_due_and_not_long_before(seconds: float, before: float) -> None:
    waits, clock = Waits(), Clock()
    Attempt(waits, clock, 300)
    clock.go_to(clock.now + before)
    attempt = Attempt(waits, clock, seconds)
    clock.go_to(clock.now + 100)
    assert attempt.answer_by - LOOK_SECONDS <= attempt.armed <= attempt.answer_by


def test_one_timer_serves_all_and_ends_with_the_last() -> None:
    waits, clock = Waits(), Clock()
    attempts = [Attempt(waits, clock, 30 + number) for number in range(50)]
    for _ in range(20):
        clock.go_to(clock.now + 1)
        assert len(clock.timers) == 1
    for attempt in attempts:
        waits.attempts.discard(attempt)  # type: ignore[arg-type]  # they have their answers
    clock.go_to(clock.now + 2)
    assert clock.timers == []
    late = Attempt(waits, clock, 30)
    clock.go_to(clock.now + 40)
    assert late.armed <= late.answer_by
    assert clock.timers == []


def test_what_is_overdue_after_a_standstill_is_armed_at_once() -> None:
    waits, clock = Waits(), Clock()
    attempt = Attempt(waits, clock, 5)
    clock.now += 600
    clock.go_to(clock.now)
    assert attempt.armed == clock.now
