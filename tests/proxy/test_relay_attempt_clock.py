"""Which time-out holds when: an attempt by a clock of our own, without sockets."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
from kit.answers import delta, event

from gateway.dialects.openai.operations import RESPONSES
from gateway.errors import IdleTimedOut
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import Shape
from gateway.proxy.stream.unfolding import LOOK_AGAIN_SECONDS, PREPARATION_SECONDS
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Timeouts

EVENT_STREAM = [(b"content-type", b"text/event-stream")]
CREATED = event({"type": "response.created", "response": {}}, name="response.created")
SOON = 3 * LOOK_AGAIN_SECONDS


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Of a loop what tells the time and rings."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(when, lambda: call(*arguments)))
        return self.timers[-1]

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> Timer:
        return self.call_at(self.now + seconds, call, *arguments)

    def advance(self, until: float) -> None:
        """Everything that is due until then happens in its order."""
        while due := [each for each in self.timers if not each.cancelled and each.when <= until]:
            first = min(due, key=lambda each: each.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.call()
        self.now = until


def streaming(clock: Clock, *, idle: float = 1.0, give_up_at: float = math.inf) -> Attempt:
    """An attempt whose upstream has begun to answer."""
    loop, time_outs = cast(asyncio.AbstractEventLoop, clock), Timeouts(connect=1, first_byte=5, idle=idle)
    attempt = Attempt(
        loop,
        time_outs,
        expects_stream=True,
        take_usage_out=False,
        give_up_at=give_up_at,
        meter=UsageMeter(),
        events=RESPONSES.events,
    )
    attempt.on_head(200, EVENT_STREAM)
    return attempt


@pytest.mark.parametrize(("give_up_at", "shown_at"), [(math.inf, PREPARATION_SECONDS), (0.4, 0.4)])
def test_a_response_that_is_prepared_is_shown_after_a_second_or_at_the_end_of_total(
    give_up_at: float, shown_at: float
) -> None:
    clock = Clock()
    attempt = streaming(clock, give_up_at=give_up_at)
    attempt.on_body(CREATED)
    clock.advance(shown_at - SOON)
    assert attempt.shape is None
    clock.advance(shown_at + SOON)
    assert (attempt.shape, attempt.body) == (Shape.EVENTS, CREATED)


def test_idle_begins_anew_when_a_slow_client_takes_more() -> None:
    """As long as it took nothing the upstream could not send: its silence is counted from then on."""
    clock = Clock()
    attempt = streaming(clock, idle=1.0)
    attempt.on_body(delta("one"))
    attempt.pressure(True)
    clock.advance(3.5)
    attempt.pressure(False)
    clock.advance(4.4)
    assert attempt.failure is None
    clock.advance(4.5 + SOON)
    assert isinstance(attempt.failure, IdleTimedOut)


def test_idle_stands_still_while_the_client_takes_nothing() -> None:
    clock = Clock()
    attempt = streaming(clock, idle=1.0)
    attempt.on_body(delta("one"))
    attempt.pressure(True)
    clock.advance(60)
    assert attempt.failure is None
