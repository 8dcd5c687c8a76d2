"""Queries of single requests: a receipt, and a user's requests, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Select, and_, or_, select

from gateway.types import Id, UsageDetails
from gateway.usage.journal.records import FailedAttempt
from gateway.usage.receipts import ReceiptQuery, RequestRecord
from gateway.usage.sql.long_ids import forms_in_columns
from gateway.usage.sql.queries import DAY_MS, start_of_day_ms
from gateway.usage.sql.rows import id_of, stored_forms
from gateway.usage.sql.table import ai_usage, prices
from gateway.usage.sql.walks import walk_query

_usage = ai_usage.c
_details = msgspec.json.Decoder(UsageDetails).decode
_failures = msgspec.json.Decoder(tuple[FailedAttempt, ...]).decode


def request_query(request_id: str) -> Select[Any]:
    return select(ai_usage).where(_usage.request_id == request_id)


def requests_query(asked: ReceiptQuery, days: Sequence[int] | None) -> Any:
    """Return the query of a page, newest first, of these days.

    None: of all days, whosever. An unknown cursor finds nothing.
    """
    query = select(ai_usage).where(
        _usage.time_ms >= start_of_day_ms(asked.from_day), _usage.time_ms < start_of_day_ms(asked.to_day) + DAY_MS
    )
    for column, value in ((_usage.model, asked.model), (_usage.key_id, asked.key)):
        if value is not None:
            query = query.where(column.in_(_forms(value)))
    if asked.after is not None:
        time_of = time_of_query(asked.after).scalar_subquery()
        query = query.where(
            or_(_usage.time_ms < time_of, and_(_usage.time_ms == time_of, _usage.request_id < asked.after))
        )
    if days is None or asked.user is None:
        return query.order_by(_usage.time_ms.desc(), _usage.request_id.desc()).limit(asked.limit)
    return walk_query(query, (_usage.user_id, _forms(asked.user)), days, ("-time_ms", "-request_id"), asked.limit)


def time_of_query(request_id: str) -> Select[Any]:
    return select(_usage.time_ms).where(_usage.request_id == request_id)


def days_of(asked: ReceiptQuery, edges: Any) -> range:
    """The days in which rows may be found.

    `edges`: times of the oldest and the newest row.
    """
    if edges[0] is None:
        return range(0)
    first = max(start_of_day_ms(asked.from_day), edges[0]) // DAY_MS
    return range(first, min(start_of_day_ms(asked.to_day), edges[1]) // DAY_MS + 1)


def _forms(value: Id) -> tuple[str, ...]:
    return forms_in_columns(stored_forms(value))


def prices_query(rows: Iterable[Any]) -> Select[Any] | None:
    """Return the query of the prices that these rows were given."""
    ids = sorted({row.price_id for row in rows if row.price_id is not None})
    return select(prices).where(prices.c.id.in_(ids)) if ids else None


def request_of(row: Any, known: Mapping[str, str]) -> RequestRecord:
    """`known`: prices by their id."""
    return RequestRecord(
        request_id=row.request_id,
        client_request_id=row.client_request_id,
        time=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=row.time_ms),
        user=id_of(row.user_id),
        organisation=None if row.organisation_id is None else id_of(row.organisation_id),
        key=id_of(row.key_id),
        model=id_of(row.model),
        endpoint=None if row.endpoint_id is None else id_of(row.endpoint_id),
        route=row.route,
        streamed=bool(row.streamed),
        status=row.status,
        outcome=row.outcome,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        total_tokens=row.total_tokens,
        usage_source=row.usage_source,
        cost_nano=row.cost_nano,
        first_byte_ms=row.first_byte_ms,
        duration_ms=row.duration_ms,
        attempts=row.attempts,
        details=None if row.details is None else _details(row.details),
        price=None if row.price_id is None else known.get(row.price_id),
        failures=() if row.failures is None else _failures(row.failures),
        lines=None if row.further_requests is None else 1 + row.further_requests,
    )
