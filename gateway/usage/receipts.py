"""What the ledger has of single requests, without SQLAlchemy."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from gateway.types import Id, Usage, UsageDetails
from gateway.usage.journal.records import FailedAttempt


class ReceiptQuery(msgspec.Struct, frozen=True):
    """Whose requests are asked for, of which days (both count, UTC).

    `after`: the id of the last request of the page before. What is None does not narrow it.
    """

    from_day: date
    to_day: date
    limit: int
    user: Id | None = None
    model: Id | None = None
    key: Id | None = None
    after: str | None = None


class RequestRecord(msgspec.Struct, frozen=True):
    """A row of the ledger, whole.

    `price`: the record of the price that was used. `lines`: of a batch; None where its row does not say.
    """

    request_id: str
    client_request_id: str | None
    time: datetime
    user: Id
    organisation: Id | None
    key: Id
    model: Id
    endpoint: Id | None
    route: str
    streamed: bool
    status: int
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    usage_source: str
    cost_nano: int
    first_byte_ms: float | None
    duration_ms: float | None
    attempts: int
    details: UsageDetails | None
    price: str | None
    failures: tuple[FailedAttempt, ...]
    lines: int | None = None

    @property
    def usage(self) -> Usage:
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.cached_tokens,
            self.reasoning_tokens,
            self.details,
        )
