"""A request's two records: admission and settlement.

A row of the ledger is the two together.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.types import Id, Outcome, Price

UsageSource = Literal["reported", "estimated", "none"]

NANO = 1_000_000_000  # costs are kept as whole billionths of the currency's unit: sums are exact on every database


class Admission(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """A request's admission, written before the upstream is asked.

    New fields go to the end, with a default: journals outlive upgrades.
    """

    request_id: str  # made here, unique
    client_request_id: str | None
    time: float  # seconds since 1970, UTC
    user: Id
    organisation: Id | None  # whose grant is used, else the user's first
    key: Id
    model: Id  # what the caller was granted; the row has the one that answered
    route: str
    streamed: bool
    counted_on: str | None = None  # the limiter's scope: what the request counts against


class CarriedAdmission(Admission, frozen=True, array_like=True, tag="c", gc=False):
    """An admission repeated in a newer segment.

    So that the older one may be deleted while the request still runs.
    """


class Settlement(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """A request's end, written before its answer's last byte.

    The last byte that goes to the client.
    """

    request_id: str
    served_model: Id | None
    endpoint: Id | None
    status: int
    outcome: Outcome
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    usage_source: UsageSource = "none"
    cost_nano: int = 0
    first_byte_ms: float | None = None
    duration_ms: float | None = None
    attempts: int = 0
    answered: bool = True  # False: no upstream gave an answer, and so it does not count against `requests` limits


Record = Admission | CarriedAdmission | Settlement


def cost_nano(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    """Return the tokens' cost in billionths, rounded once.

    Of the currency's unit, and exactly.
    """
    per_million = _exact(price.input) * prompt_tokens + _exact(price.output) * completion_tokens
    return round(per_million * (NANO // 1_000_000))


@lru_cache(maxsize=512)  # a few prices, asked for twice a request
def _exact(price: float) -> Decimal:
    """Return the decimal fraction that the file has.

    0.1 means a tenth, not the nearest binary fraction.
    """
    return Decimal(repr(price))
