"""Show single requests as receipts (§14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from gateway.pricing import Usage, rates_of_record
from gateway.types import Id, id_text, utc_text
from gateway.usage import Cost, exact_cost
from gateway.usage.receipts import RequestRecord
from gateway.usage.views.amounts import Amount, is_batch, kinds_of, requests_of


class AttemptShown(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, and how long it took.

    `reason`: why it had no answer; null where it had one.
    """

    model: str | None
    endpoint: Id | None
    reason: str | None
    status: int | None
    ms: float | None


class TokensShown(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens in sum and by kind.

    `kinds`: each token once, by the component of its price; calls, images and the like besides.
    """

    prompt: int
    completion: int
    total: int
    cached: int
    reasoning: int
    kinds: dict[str, Amount]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one request was: tokens by kind, cost with its parts, attempts."""

    id: str
    client_request_id: str | None
    time: str
    user: Id
    organisation: Id | None
    key: Id
    model: Id
    name: str | None
    endpoint: Id | None
    route: str
    streamed: bool
    status: int
    outcome: str
    usage_source: str
    service_tier: str | None
    tokens: TokensShown
    cost: Cost
    parts: dict[str, Cost]
    currency: str | None
    price: dict[str, Any] | None
    first_byte_ms: float | None
    duration_ms: float | None
    attempts: tuple[AttemptShown, ...]


class Receipts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page, newest first.

    `after` of the next one is its last id.
    """

    data: tuple[Receipt, ...]
    has_more: bool
    last_id: str | None


def receipt_of(record: RequestRecord, names: Mapping[str, str], currency: str | None) -> Receipt:
    """`names`: of models, by id as text."""
    usage, name = record.usage, names.get(id_text(record.model))
    tier = record.details.service_tier if record.details is not None else None
    return Receipt(
        id=record.request_id,
        client_request_id=record.client_request_id,
        time=utc_text(record.time),
        user=record.user,
        organisation=record.organisation,
        key=record.key,
        model=record.model,
        name=name,
        endpoint=record.endpoint,
        route=record.route,
        streamed=record.streamed,
        status=record.status,
        outcome=record.outcome,
        usage_source=record.usage_source,
        service_tier=tier,
        tokens=TokensShown(
            prompt=record.prompt_tokens,
            completion=record.completion_tokens,
            total=record.total_tokens,
            cached=record.cached_tokens,
            reasoning=record.reasoning_tokens,
            kinds={kind: amount for kind, amount in kinds_of(usage).items() if amount},
        ),
        cost=exact_cost(record.cost_nano),
        parts=_parts(record, usage),
        currency=currency,
        price=None if record.price is None else msgspec.json.decode(record.price),
        first_byte_ms=record.first_byte_ms,
        duration_ms=record.duration_ms,
        attempts=tuple(_attempts(record, name)),
    )


def receipts_of(
    records: Iterable[RequestRecord], limit: int, names: Mapping[str, str], currency: str | None
) -> Receipts:
    """Build a page of at most `limit`.

    One record more says that there are more.
    """
    found = list(records)
    page = tuple(receipt_of(record, names, currency) for record in found[:limit])
    return Receipts(data=page, has_more=len(found) > limit, last_id=page[-1].id if page else None)


def _parts(record: RequestRecord, usage: Usage) -> dict[str, msgspec.Raw]:
    """Each part rounded by itself; the cost was rounded once."""
    if record.price is None:
        return {}
    parts = rates_of_record(record.price).parts(usage, requests=requests_of(record), is_batch=is_batch(record))
    return {name: exact_cost(round(part)) for name, part in parts.items()}


def _attempts(record: RequestRecord, name: str | None) -> Iterator[AttemptShown]:
    left = record.duration_ms
    for failed in record.failures:
        left = None if left is None else max(0.0, left - failed.milliseconds)
        yield AttemptShown(
            model=failed.model,
            endpoint=failed.endpoint,
            reason=failed.reason,
            status=failed.status or None,
            ms=failed.milliseconds,
        )
    if record.attempts > len(record.failures):
        status = record.status if record.outcome in ("ok", "upstream_error") else None
        rounded = None if left is None else round(left, 3)
        yield AttemptShown(model=name, endpoint=record.endpoint, reason=None, status=status, ms=rounded)
