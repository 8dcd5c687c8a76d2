"""Collect one request's failed attempts, and the error they make."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.errors import NO_RETRY, GatewayError, LoopDetected, UpstreamFailed
from gateway.pool import Obstacle, no_answer
from gateway.proxy.ask import Ask
from gateway.proxy.refusals.judging import Fault
from gateway.proxy.refusals.refused import Refused
from gateway.types import Endpoint, Model


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

    def error(self, now: float) -> GatewayError:
        """The error of the contract's table, §4."""
        attempts = len(self.words)
        if attempts and self.loops == attempts:
            return LoopDetected("Every endpoint of this model leads back to this gateway.")
        fault = no_answer(self.obstacles, now)
        if isinstance(fault, UpstreamFailed) and attempts and self.words[0] and len(set(self.words)) == 1:
            fault.headers = (*fault.headers, NO_RETRY)
        return fault
