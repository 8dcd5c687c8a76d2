"""What an admitted request holds, and the `x-ratelimit-*` of its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from gateway.limits.demand import NO_LIMIT, Demand, Standing

_LONGEST_IN_MS, _NOTHING_SECONDS = 0.9990005, 5e-7  # a difference of times is never exact

# One limit as headers show it: left, seconds to the reset (negated), limit. The least of several is the tightest.
_Gauge = tuple[int, float, int]
_NO_GAUGE: _Gauge = (NO_LIMIT, 0.0, NO_LIMIT)


class Reservation(msgspec.Struct, eq=False):
    """What one admitted request holds until it is settled or cancelled.

    `tokens` and `cost` (currency units) are what it may use; what it holds is no more than was left. `standings` is how
    each demand stood with it, at `now`. `requests`: so many it counts for in totals.
    """

    request_id: str
    demands: Sequence[Demand]
    tokens: int
    cost: float
    standings: Sequence[Standing]
    now: float
    requests: int = 1

    def headers(self) -> list[tuple[str, str]]:
        """`x-ratelimit-*` as of the admission."""
        return rate_limit_headers(self.demands, self.standings, self.now)

    def __repr__(self) -> str:
        scopes = ", ".join(demand.scope for demand in self.demands)
        return f"<Reservation {self.request_id}: {self.tokens} tokens of {scopes or 'nobody'}>"


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
