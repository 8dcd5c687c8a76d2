"""Limits: reserve before the attempt, settle after it (contract §7).

    scopes    who is counted together, and by which limits      estimate  tokens to reserve, or where none are told
    values    demands, standings, totals                        periods   calendar periods in UTC
    told      what callers are told: headers and refusals       errors    the two kinds of 429
    base      the contract of a limiter                         prompt    how large a prompt is
    memory    a limiter within one process
    redis     one for many workers and machines; `link` is its connection, `patience` how long it waits,
              `script.lua` its atomic steps, `script_codec` its arguments and replies

`redis` is not imported here: only who uses it needs redis-py.
"""

from gateway.limits.base import Limiter, Rebuild, Reservation
from gateway.limits.demand import Demand, Standing, Used
from gateway.limits.estimate import EstimatedUsage, estimated_tokens, estimated_usage, reserved_tokens, reserved_usage
from gateway.limits.headers import expected_refusal, rate_limit_headers
from gateway.limits.memory import MemoryLimiter
from gateway.limits.periods import bounds
from gateway.limits.prompt import prompt_tokens
from gateway.limits.scopes import Terms, demands, grant_scope, key_of, key_scope, place_demands, terms_of

__all__ = [
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
    "demands",
    "estimated_tokens",
    "estimated_usage",
    "expected_refusal",
    "grant_scope",
    "key_of",
    "key_scope",
    "place_demands",
    "prompt_tokens",
    "rate_limit_headers",
    "reserved_tokens",
    "reserved_usage",
    "terms_of",
]
