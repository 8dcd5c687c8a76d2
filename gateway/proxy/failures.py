"""Collect one request's failed attempts, and the error they make."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from gateway.errors import NO_RETRY, GatewayError, LoopDetected, ObjectUnavailable, UpstreamFailed
from gateway.pool import Obstacle, no_answer
from gateway.proxy.ask import Ask
from gateway.proxy.refusals.judging import Fault
from gateway.proxy.refusals.refused import Refused
from gateway.types import Endpoint, Model

_LONGEST_RETRY_SECONDS = 60


class Refusal(NamedTuple):
    """A 402, 403 or 404 of an endpoint, relayed as last resort.

    Relayed where no endpoint of any pool answers.
    """

    answer: Refused
    endpoint: Endpoint | None
    model: Model | None
    asked: Ask  # in the words of that model's endpoints


class Failures(msgspec.Struct, eq=False):
    """Filled in attempt by attempt; `refusal` is the first of its kind."""

    obstacles: list[Obstacle] = []
    refusal: Refusal | None = None
    loops: int = 0
    words: list[bytes | None] = []  # of each attempt's 500 that may be the request's own fault

    def add(self, obstacle: Obstacle, fault: Fault) -> None:
        self.obstacles.append(obstacle)
        self.words.append(fault.words)
        self.loops += fault.is_loop

    def error(self, now: float, *, is_pinned: bool = False) -> GatewayError:
        """The error of the contract's table, §4.

        `is_pinned`: no other endpoint could have answered, for an object lies there.
        """
        attempts = len(self.words)
        if attempts and self.loops == attempts:
            return LoopDetected("Every endpoint of this model leads back to this gateway.")
        fault = no_answer(self.obstacles, now)
        if is_pinned and isinstance(fault, UpstreamFailed):
            return self._unavailable(now)
        if isinstance(fault, UpstreamFailed) and attempts and self.words[0] and len(set(self.words)) == 1:
            fault.headers = (*fault.headers, NO_RETRY)
        return fault

    def _unavailable(self, now: float) -> ObjectUnavailable:
        ends = [each.until - now for each in self.obstacles if each.until > now]
        seconds = min(max(math.ceil(min(ends, default=1)), 1), _LONGEST_RETRY_SECONDS)
        return ObjectUnavailable(
            "The endpoint that keeps this object cannot be reached at the moment; ask again.",
            headers=(("retry-after", str(seconds)),),
        )
