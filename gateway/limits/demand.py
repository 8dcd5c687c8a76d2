"""The values that limiters speak in.

Times are seconds since the epoch. Money is counted in whole billionths (`nano`) of the currency unit, so that sums are
exact whatever their order; 64 bits hold nine billion units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.types import Limits, Period

WINDOW_SECONDS = 60.0  # over which rpm and tpm slide
NANO_PER_UNIT = 1_000_000_000
NO_LIMIT = 1 << 62  # more than can be counted


class Bounds(NamedTuple):
    """A demand's limits as whole numbers. `cost` in nano."""

    rpm: int
    tpm: int
    concurrency: int
    requests: int
    tokens: int
    cost: int


class Demand(msgspec.Struct, frozen=True):
    """One set of limits that a request must keep, and its scope.

    See `scopes`. What follows from the limits is made once, and holds for many requests.
    """

    scope: str
    limits: Limits
    period: Period | None = None  # whose totals are limited
    is_windowed: bool = False  # there are limits by the minute
    bounds: Bounds = Bounds(*[NO_LIMIT] * 6)

    def __post_init__(self) -> None:
        limits, set_once = self.limits, msgspec.structs.force_setattr
        set_once(self, "period", totals_period(limits))
        set_once(self, "is_windowed", is_windowed(limits))
        cost = None if limits.cost is None else nano(limits.cost)
        given = (limits.rpm, limits.tpm, limits.concurrency, limits.requests, limits.tokens, cost)
        set_once(self, "bounds", Bounds(*[NO_LIMIT if each is None else each for each in given]))


class Used(NamedTuple):
    """What was used in a period, settled. `cost` in currency units."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0


class Standing(msgspec.Struct, frozen=True, gc=False):
    """The use of one demand at a moment.

    What a demand does not limit may be left at its default.
    """

    minute_requests: int = 0  # admitted in the last 60 s
    minute_tokens: int = 0  # of these: settled, and reserved where still running
    minute_leaves: float = WINDOW_SECONDS  # seconds until the oldest of these is out of the 60 s
    running: int = 0
    requests: int = 0  # of the period, running ones included
    tokens: int = 0  # of the period, settled
    cost_nano: int = 0  # likewise
    tokens_reserved: int = 0
    cost_reserved_nano: int = 0
    period_start: int = 0  # 0 where no totals are counted
    period_end: int = 0
    rpm_wait: float = 0.0  # after a refusal: seconds until `rpm` has room
    tpm_wait: float = 0.0
    requests_reserved: int = 0  # those of `requests` that are running

    @property
    def used(self) -> Used:
        return Used(self.requests, self.tokens, units(self.cost_nano))


def still_asked(demands: Sequence[Demand], placed: Sequence[Demand]) -> Sequence[Demand]:
    """Drop `rpm` and `concurrency` from demands in scopes of `placed`.

    There the request has its place already.
    """
    scopes = {demand.scope for demand in placed}
    return [
        Demand(each.scope, msgspec.structs.replace(each.limits, rpm=None, concurrency=None))
        if each.scope in scopes
        else each
        for each in demands
    ]


def totals_period(limits: Limits) -> Period | None:
    """The period whose totals are limited; None where none is."""
    limited = limits.requests is not None or limits.tokens is not None or limits.cost is not None
    return limits.period if limited else None


def is_windowed(limits: Limits) -> bool:
    return limits.rpm is not None or limits.tpm is not None


def is_limiting(limits: Limits | None) -> bool:
    """Whether there is anything in `limits` that could refuse a request."""
    if limits is None:
        return False
    return is_windowed(limits) or limits.concurrency is not None or totals_period(limits) is not None


def nano(cost: float) -> int:
    return round(cost * NANO_PER_UNIT)


def units(cost_nano: int) -> float:
    return cost_nano / NANO_PER_UNIT
