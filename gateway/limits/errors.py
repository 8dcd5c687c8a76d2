"""The two kinds of 429 that limits of our own lead to."""

from __future__ import annotations

from gateway.errors import ClientFault


class RateLimited(ClientFault):
    """`rpm`, `tpm`, `concurrency`, or a total that running requests hold: there may be room again soon.

    `headers` has `retry-after`, 1 to 60 seconds.
    """

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class QuotaUsedUp(ClientFault):
    """What is settled has used up a total: asking again before it resets is useless, and `headers` says so."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"
