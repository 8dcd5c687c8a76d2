"""Limits: reserve before the attempt, settle after it (contract §7).

base.py      the contract of a limiter                   demand.py    demands, standings, what was used
scopes.py    who is counted together, by which limits    periods.py   calendar periods in UTC
estimate.py  tokens to reserve, or where none are        prompt.py    how large a prompt is
             reported                                    reservation.py  what is held, and `x-ratelimit-*`
memory.py    a limiter within one process;               over_limit.py  why one was refused, and until when
             counts.py: its counters
redis.py     one for many workers and machines; script_codec.py: arguments and replies of its `script.lua`;
             totals_loader.py: what the ledger knows

`redis.py` is not imported here: only who uses it needs redis-py.
"""

from gateway.limits.base import Limiter, Rebuild
from gateway.limits.demand import Demand, Standing, Used, nano
from gateway.limits.estimate import (
    EstimatedUsage,
    estimated_tokens,
    estimated_usage,
    prompt_tokens,
    repeats,
    reserved_tokens,
    reserved_usage,
)
from gateway.limits.memory import MemoryLimiter
from gateway.limits.over_limit import expected_refusal
from gateway.limits.periods import bounds
from gateway.limits.reservation import Reservation, rate_limit_headers
from gateway.limits.scopes import (
    CALLS_A_MINUTE,
    Terms,
    call_terms,
    demands,
    grant_scope,
    key_of,
    key_scope,
    place_demands,
    terms_of,
)

__all__ = [
    "CALLS_A_MINUTE",
    "Demand",
    "EstimatedUsage",
    "Limiter",
    "MemoryLimiter",
    "Rebuild",
    "Reservation",
    "Standing",
    "Terms",
    "Used",
    "bounds",
    "call_terms",
    "demands",
    "estimated_tokens",
    "estimated_usage",
    "expected_refusal",
    "grant_scope",
    "key_of",
    "key_scope",
    "nano",
    "place_demands",
    "prompt_tokens",
    "rate_limit_headers",
    "repeats",
    "reserved_tokens",
    "reserved_usage",
    "terms_of",
]
