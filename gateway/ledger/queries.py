"""The questions that are asked of the ledger, as SQL, and the rows that come back as the shapes of `reports`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from gateway.ledger.records import NANO
from gateway.ledger.reports import Group, LimitScope, Totals, Usage, UsageRecord, UsageReport, UsageRow
from gateway.ledger.rows import ID_CHARACTERS, id_of, id_of_text, stored_forms
from gateway.ledger.table import ai_usage
from gateway.types import Id, id_text

DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_usage = ai_usage.c


class Position(NamedTuple):
    """How far an export has come."""

    time_ms: int
    request_id: str


def _within(usage: Usage, after: Position | None = None) -> ColumnElement[bool]:
    narrowed = (
        (_usage.user_id, usage.user),
        (_usage.organisation_id, usage.organisation),
        (_usage.key_id, usage.key),
        (_usage.model, usage.model),
    )
    return and_(
        # One lower bound: of two, SQLite may choose the looser, and begin each helping of an export at the first row.
        _usage.time_ms >= (start_of_day_ms(usage.from_day) if after is None else after.time_ms),
        _usage.time_ms < start_of_day_ms(usage.to_day) + DAY_MS,
        *(column.in_(stored_forms(value)) for column, value in narrowed if value is not None),
    )


def start_of_day_ms(day: date) -> int:
    return (day.toordinal() - _EPOCH_DAY) * DAY_MS


# -- reports

_SUMS = (
    func.count().label("requests"),
    func.coalesce(func.sum(_usage.total_tokens), 0).label("tokens"),
    func.coalesce(func.sum(_usage.prompt_tokens), 0).label("prompt_tokens"),
    func.coalesce(func.sum(_usage.completion_tokens), 0).label("completion_tokens"),
    func.coalesce(func.sum(_usage.cost_nano), 0).label("cost_nano"),
)
_GROUPS: Mapping[Group, ColumnElement[Any]] = {
    "day": _usage.time_ms // DAY_MS,
    "model": _usage.model,
    "endpoint": _usage.endpoint_id,
}


def report_query(usage: Usage, group: Group | None) -> Select[*tuple[Any, ...]]:
    if group is None:
        return select(*_SUMS).where(_within(usage))
    by = _GROUPS[group].label("of")
    return select(*_SUMS, by).where(_within(usage)).group_by(by)


def report_of(rows: Iterable[Row[*tuple[Any, ...]]], group: Group | None) -> UsageReport:
    """Days in order; models and endpoints with the most requests first."""
    found = [(None if group is None else row.of, _totals(row)) for row in rows]
    totals = sum((each for _, each in found), Totals())
    if group is None:
        return UsageReport(totals)
    grouped = _joined((_label(of, group), each) for of, each in found)
    order = _by_label if group == "day" else _by_requests
    return UsageReport(totals, tuple(sorted(grouped, key=order)))


def _totals(row: Row[*tuple[Any, ...]]) -> Totals:
    """PostgreSQL's sums are decimals."""
    return Totals(*(int(getattr(row, name)) for name in Totals.__struct_fields__))


def _label(of: Any, group: Group) -> Id | None:
    if group == "day":
        return date.fromordinal(_EPOCH_DAY + int(of)).isoformat()
    return None if of is None else id_of(of)


def _joined(groups: Iterable[tuple[Id | None, Totals]]) -> list[UsageRow]:
    """Joins ids that differ only in their type."""
    joined: dict[str | None, UsageRow] = {}
    for of, totals in groups:
        key = None if of is None else id_text(of)
        before = joined.get(key)
        joined[key] = UsageRow(of, totals) if before is None else UsageRow(before.of, before.totals + totals)
    return list(joined.values())


def _by_label(row: UsageRow) -> str:
    return str(row.of)


def _by_requests(row: UsageRow) -> tuple[int, str]:
    return -row.totals.requests, str(row.of)


# -- export


def export_query(usage: Usage, after: Position | None, most_rows: int) -> Select[*tuple[Any, ...]]:
    """The next rows in order of time. Each helping is a query of its own: nothing is held open in between."""
    query = select(ai_usage).where(_within(usage, after))
    if after is not None:
        query = query.where(or_(_usage.time_ms > after.time_ms, _usage.request_id > after.request_id))
    return query.order_by(_usage.time_ms, _usage.request_id).limit(most_rows)


def record_of(row: Row[*tuple[Any, ...]]) -> UsageRecord:
    return UsageRecord(
        request_id=row.request_id,
        client_request_id=row.client_request_id,
        time=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=row.time_ms),
        user=id_of(row.user_id),
        organisation=None if row.organisation_id is None else id_of(row.organisation_id),
        key=id_of(row.key_id),
        model=id_of(row.model),
        endpoint=None if row.endpoint_id is None else id_of(row.endpoint_id),
        route=row.route,
        streamed=row.streamed,
        status=row.status,
        outcome=row.outcome,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        total_tokens=row.total_tokens,
        usage_source=row.usage_source,
        cost=row.cost_nano / NANO,
        first_byte_ms=row.first_byte_ms,
        duration_ms=row.duration_ms,
        attempts=row.attempts,
    )


def position_of(row: Row[*tuple[Any, ...]]) -> Position:
    return Position(row.time_ms, row.request_id)


# -- totals for limits


def limit_totals_query(by: LimitScope, since_ms: int, scope: str | None) -> Select[*tuple[Any, ...]]:
    """What counts against limits, for each scope: requests that no upstream answered were given back."""
    column = _usage.counted_on if by == "counted_on" else _usage.key_id
    query = select(*_SUMS, column.label("of")).where(_usage.time_ms >= since_ms, _usage.answered, column.is_not(None))
    if scope is not None:
        query = query.where(
            column.in_((scope[:ID_CHARACTERS],) if by == "counted_on" else stored_forms(id_of_text(scope)))
        )
    return query.group_by(column)


def limit_totals_of(rows: Iterable[Row[*tuple[Any, ...]]], by: LimitScope) -> dict[str, Totals]:
    """By scope; keys by their id as text."""
    totals: dict[str, Totals] = {}
    for row in rows:
        scope = row.of if by == "counted_on" else id_text(id_of(row.of))
        totals[scope] = totals.get(scope, Totals()) + _totals(row)
    return totals
