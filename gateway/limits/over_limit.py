"""Say why a request was refused, and when to come again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.errors import NO_RETRY, QuotaUsedUp, RateLimited
from gateway.limits.demand import Demand, Standing, nano
from gateway.limits.reservation import rate_limit_headers
from gateway.limits.scopes import whose

_MOST_RETRY_SECONDS = 60
_RUNNING_RETRY_SECONDS = 1.0  # when a running request will end cannot be known


class _Full(NamedTuple):
    """One limit without room. `wait_seconds` None: only the period's end helps."""

    reason: str
    wait_seconds: float | None


def refusal(
    demands: Sequence[Demand],
    standings: Sequence[Standing],
    now: float,
    asked: Sequence[Demand] | None = None,
    requests: int = 1,
) -> QuotaUsedUp | RateLimited:
    """Return the error for a request that these limits refuse.

    At least one of them has no room for it. `asked`: if not all of them were. `requests`: so many
    were to be counted.
    """
    return _refusal(_all_full(asked or demands, standings, requests), demands, standings, now)


def expected_refusal(
    demands: Sequence[Demand], standings: Sequence[Standing], now: float, requests: int = 1
) -> QuotaUsedUp | RateLimited | None:
    """Return the error that the next request would get, or None."""
    full = _all_full(demands, standings, requests)
    return _refusal(full, demands, standings, now) if full else None


def _all_full(demands: Sequence[Demand], standings: Sequence[Standing], requests: int = 1) -> list[_Full]:
    return [each for demand, at in zip(demands, standings, strict=True) for each in _full(demand, at, requests)]


def _refusal(
    full: Sequence[_Full], demands: Sequence[Demand], standings: Sequence[Standing], now: float
) -> QuotaUsedUp | RateLimited:
    headers = rate_limit_headers(demands, standings, now)
    for each in full:
        if each.wait_seconds is None:
            return QuotaUsedUp(each.reason, headers=(NO_RETRY, *headers))
    longest = max(full, key=lambda each: each.wait_seconds or 0.0)
    seconds = max(1, min(_MOST_RETRY_SECONDS, math.ceil(longest.wait_seconds or 0.0)))
    return RateLimited(f"{longest.reason} Try again in {seconds} s.", headers=(("retry-after", str(seconds)), *headers))


def _full(demand: Demand, at: Standing, requests: int) -> Iterator[_Full]:
    """List the limits of the demand that have no room."""
    yield from _full_totals(demand, at, requests)
    yield from _full_rates(demand, at)


def _full_totals(demand: Demand, at: Standing, requests: int) -> Iterator[_Full]:
    limits = demand.limits
    if limits.requests is not None and at.requests + requests > limits.requests:
        settled = at.requests - at.requests_reserved
        yield _full_total(f"{limits.requests} requests", settled + requests > limits.requests, demand, at)
    if limits.tokens is not None and at.tokens + at.tokens_reserved >= limits.tokens:
        yield _full_total(f"{limits.tokens} tokens", at.tokens >= limits.tokens, demand, at)
    if limits.cost is not None and at.cost_nano + at.cost_reserved_nano >= nano(limits.cost):
        yield _full_total(f"budget of {limits.cost:.12g}", at.cost_nano >= nano(limits.cost), demand, at)


def _full_rates(demand: Demand, at: Standing) -> Iterator[_Full]:
    limits, who = demand.limits, whose(demand.scope)
    if limits.rpm is not None and at.minute_requests >= limits.rpm:
        yield _Full(f"{who} reached the limit of {limits.rpm} requests per minute.", at.rpm_wait)
    if limits.tpm is not None and at.minute_tokens >= limits.tpm:
        yield _Full(f"{who} reached the limit of {limits.tpm} tokens per minute.", at.tpm_wait)
    if limits.concurrency is not None and at.running >= limits.concurrency:
        yield _Full(f"{who} reached the limit of {limits.concurrency} requests at a time.", _RUNNING_RETRY_SECONDS)


def _full_total(what: str, is_used_up: bool, demand: Demand, at: Standing) -> _Full:
    """Describe a total without room: used up, or reserved.

    Of what running requests hold, much may come back when they end.
    """
    who, period = whose(demand.scope), demand.limits.period
    if not is_used_up:
        return _Full(
            f"{who} running requests that may use the rest of the {what} of this {period}.", _RUNNING_RETRY_SECONDS
        )
    resets = datetime.fromtimestamp(at.period_end, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return _Full(f"{who} used up the {what} of this {period}; the count resets at {resets} UTC.", None)
