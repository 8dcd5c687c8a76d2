"""Which percents of its limits a total has passed; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from gateway.limits import Standing, nano
from gateway.types import Limits

Metric = Literal["requests", "tokens", "cost"]


class Total(NamedTuple):
    """What is settled of one limit, and what is reserved.

    Cost in billionths.
    """

    metric: Metric
    settled: int
    reserved: int
    most: int

    def has_passed(self, percent: int) -> bool:
        return self.settled * 100 >= percent * self.most

    def may_pass(self, percent: int) -> bool:
        return (self.settled + self.reserved) * 100 >= percent * self.most


def totals_of(limits: Limits, standing: Standing) -> Iterator[Total]:
    """Yield each limited total of a period, as it stands."""
    if limits.requests is not None:
        running = standing.requests_reserved
        yield Total("requests", standing.requests - running, running, limits.requests)
    if limits.tokens is not None:
        yield Total("tokens", standing.tokens, standing.tokens_reserved, limits.tokens)
    if limits.cost is not None:
        yield Total("cost", standing.cost_nano, standing.cost_reserved_nano, nano(limits.cost))


def passed(total: Total, percents: Sequence[int]) -> list[int]:
    """List the percents that are passed, `percents` ascending."""
    return [percent for percent in percents if total.has_passed(percent)]


def following(total: Total, percents: Sequence[int]) -> int | None:
    """Return the next percent to pass; None where all are."""
    return next((percent for percent in percents if not total.has_passed(percent)), None)


def amount_at(percent: int, most: int) -> int:
    """Return the least amount that has passed so many percent."""
    return -(-percent * most // 100)
