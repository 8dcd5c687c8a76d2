"""A request's two records: admission and settlement.

A row of the ledger is the two together.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.types import Id, Outcome, UsageDetails

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


class FailedAttempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An attempt without an answer. `status`: 0 where none came."""

    model: str
    endpoint: Id
    reason: str
    status: int = 0
    milliseconds: float = 0.0


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
    details: UsageDetails | None = None  # what few answers report
    price: str | None = None  # the price that was used, as JSON; a change of prices changes what comes, never what was
    failures: tuple[FailedAttempt, ...] = ()  # attempts that had no answer, in order
    deferred: bool = False  # no row yet: what it began is booked under its id when that is over
    requests: int = 1  # so many it counts for in totals: a batch for all of its lines


Record = Admission | CarriedAdmission | Settlement
