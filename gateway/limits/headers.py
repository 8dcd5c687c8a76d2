"""Limits as callers see them: `x-ratelimit-*` headers and refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from gateway.errors import NO_RETRY, QuotaUsedUp, RateLimited
from gateway.limits.demand import NO_LIMIT, Demand, Standing, nano
from gateway.limits.scopes import whose

_MOST_RETRY_SECONDS = 60
_LONGEST_IN_MS, _NOTHING_SECONDS = 0.9990005, 5e-7  # a difference of times is never exact
_RUNNING_RETRY_SECONDS = 1.0  # when a running request will end cannot be known


# One limit as headers show it: left, seconds to the reset (negated), limit. The least of several is the tightest.
_Gauge = tuple[int, float, int]
_NO_GAUGE: _Gauge = (NO_LIMIT, 0.0, NO_LIMIT)


class _Full(NamedTuple):
    """One limit without room. `wait_seconds` None: only the period's end helps."""

    reason: str
    wait_seconds: float | None


def rate_limit_headers(demands: Sequence[Demand], standings: Sequence[Standing], now: float) -> list[tuple[str, str]]:
    """Return `x-ratelimit-*` headers of the tightest request and token limits.

    The tightest is the one with fewest left (`rpm` against a total of requests, `tpm` against one of tokens), and of
    equals the one that resets last. A sliding minute resets when its oldest request is a minute old, a total at its
    period's end.
    """
    of_requests = of_tokens = _NO_GAUGE
    for demand, at in zip(demands, standings, strict=True):
        rpm, tpm, _, requests, tokens, _ = demand.bounds
        leaves, ends = -at.minute_leaves, now - at.period_end
        left = requests - at.requests
        of_requests = min(of_requests, (rpm - at.minute_requests, leaves, rpm), (left, ends, requests))
        left = tokens - at.tokens - at.tokens_reserved
        of_tokens = min(of_tokens, (tpm - at.minute_tokens, leaves, tpm), (left, ends, tokens))
    if of_requests[0] < 0 or of_tokens[0] < 0:
        return rate_limit_headers(demands, list(map(_cut_to_limits, demands, standings)), now)
    headers: list[tuple[str, str]] = []
    left, reset_seconds, limit = of_requests
    reset = duration_text(-reset_seconds)
    if limit != NO_LIMIT:
        headers = [
            ("x-ratelimit-limit-requests", f"{limit}"),
            ("x-ratelimit-remaining-requests", f"{left}"),
            ("x-ratelimit-reset-requests", reset),
        ]
    left, seconds, limit = of_tokens
    if limit != NO_LIMIT:
        headers += (
            ("x-ratelimit-limit-tokens", f"{limit}"),
            ("x-ratelimit-remaining-tokens", f"{left}"),
            ("x-ratelimit-reset-tokens", reset if seconds == reset_seconds else duration_text(-seconds)),
        )
    return headers


def _cut_to_limits(demand: Demand, at: Standing) -> Standing:
    """Let what is over its limit have nothing left."""
    most = demand.bounds
    return msgspec.structs.replace(
        at,
        minute_requests=min(at.minute_requests, most.rpm),
        minute_tokens=min(at.minute_tokens, most.tpm),
        requests=min(at.requests, most.requests),
        tokens=min(at.tokens + at.tokens_reserved, most.tokens),
        tokens_reserved=0,
    )


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


def duration_text(seconds: float) -> str:
    """Format a duration as OpenAI does, rounded up.

    `250ms`, `1s`, `6m0s`, `26h30m0s`; rounded up, so that no client comes too early.
    """
    if seconds > _LONGEST_IN_MS:
        return _whole_seconds_text(math.ceil(seconds - _NOTHING_SECONDS))
    milliseconds = math.ceil(round(seconds * 1000, 3))
    return f"{milliseconds}ms" if milliseconds > 0 else "0ms"


@lru_cache(maxsize=256)  # every request of a moment is given the same
def _whole_seconds_text(seconds: int) -> str:
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


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
