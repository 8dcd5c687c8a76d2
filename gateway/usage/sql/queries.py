"""The ledger's queries as SQL, and their rows as reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select

from gateway.types import MADE_BY, Id, id_text
from gateway.usage.reports import Group, Groups, LimitScope, Totals, UsageQuery, UsageReport, UsageRow
from gateway.usage.sql.long_ids import forms_in_columns, hash_in
from gateway.usage.sql.rows import NONE, id_of, stored_forms, stored_id
from gateway.usage.sql.table import ai_usage, long_ids
from gateway.usage.sql.walks import of_days, walk_query

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_usage = ai_usage.c


class Position(NamedTuple):
    """How far an export has come."""

    time_ms: int
    request_id: str


def within(usage: UsageQuery, times: range | None = None) -> ColumnElement[bool]:
    """Whether a row is of whom and when is asked.

    `times`: milliseconds, in place of the days.
    """
    of_days = _of_days(usage, start_of_day_ms(usage.from_day))
    when = of_days if times is None else (_usage.time_ms >= times.start, _usage.time_ms < times.stop)
    return and_(*when, *(column.in_(forms) for column, forms in _narrowed(usage)))


def _of_days(usage: UsageQuery, from_ms: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _usage.time_ms >= from_ms, _usage.time_ms < start_of_day_ms(usage.to_day) + DAY_MS


def _narrowed(usage: UsageQuery) -> list[tuple[ColumnElement[Any], tuple[str, ...]]]:
    """Columns with an index first, and every text that each may have."""
    asked = (
        (_usage.user_id, usage.user),
        (_usage.organisation_id, usage.organisation),
        (_usage.key_id, usage.key),
        (_usage.model, usage.model),
    )
    return [(column, forms_in_columns(stored_forms(value))) for column, value in asked if value is not None]


def start_of_day_ms(day: date) -> int:
    return (day.toordinal() - _EPOCH_DAY) * DAY_MS


# -- reports

# The route of what ran no model begins with its method, as `Operation.route` writes it.
_CALLS = func.coalesce(func.sum(case((_usage.route.contains(" "), 1), else_=0)), 0)
_SUMS = (
    (func.count() - _CALLS).label("requests"),
    func.coalesce(func.sum(_usage.total_tokens), 0).label("tokens"),
    func.coalesce(func.sum(_usage.prompt_tokens), 0).label("prompt_tokens"),
    func.coalesce(func.sum(_usage.completion_tokens), 0).label("completion_tokens"),
    func.coalesce(func.sum(_usage.cost_nano), 0).label("cost_nano"),
    _CALLS.label("calls"),
    func.coalesce(func.sum(_usage.cached_tokens), 0).label("cached_tokens"),
)
# A batch counts in limits for each of its lines; in reports it is the one request that its row is.
_LIMIT_SUMS = (
    (func.count() - _CALLS + func.coalesce(func.sum(_usage.further_requests), 0)).label("requests"),
    *_SUMS[1:],
)
# Whole numbers throughout: MariaDB divides into so few digits that a day's last millisecond would be the next's.
_GROUPS: Mapping[Group, ColumnElement[Any]] = {
    "day": _usage.time_ms - _usage.time_ms % DAY_MS,
    "hour": _usage.time_ms - _usage.time_ms % HOUR_MS,
    "model": _usage.model,
    "endpoint": _usage.endpoint_id,
    "key": _usage.key_id,
    "user": _usage.user_id,
    "organisation": _usage.organisation_id,
}
_NONE = "\0"  # no id has it
_OF_TIME: Groups = ("day", "hour")
_SUMMED = len(Totals.__struct_fields__)  # columns, in their order


def report_query(usage: UsageQuery, groups: Groups) -> Select[*tuple[Any, ...]]:
    """Return the query of totals by none, one or two groups."""
    columns = [_GROUPS[group].label(name) for group, name in zip(groups, ("of", "second"), strict=False)]
    if "endpoint" in groups:
        columns.append(_usage.model.label("model"))
    return select(*_SUMS, *columns).where(within(usage)).group_by(*columns)


def report_of(rows: Iterable[Any], groups: Groups) -> UsageReport:
    """In order of time, what has the most requests first.

    Each row has its sums first, then its groups, then an endpoint's model. What is of one group comes together, and so
    do ids that differ only in their type; numbers hold.
    """
    added = _added(rows)
    totals = Totals(*map(sum, zip(*added.values(), strict=True))) if added else Totals()
    if not groups:
        return UsageReport(totals)
    found: dict[tuple[str, ...], UsageRow] = {}
    for texts, row in _rows_of(added, groups):
        found[texts] = _sum(found[texts], row) if texts in found else row
    times = [place for place, group in enumerate(groups) if group in _OF_TIME]

    def order(each: tuple[tuple[str, ...], UsageRow]) -> tuple[Any, ...]:
        texts, row = each
        return *[texts[place] for place in times], -row.totals.requests, texts

    return UsageReport(totals, tuple(row for _, row in sorted(found.items(), key=order)))


def rows_of(rows: Iterable[Any], groups: Groups) -> tuple[UsageRow, ...]:
    """Each by itself, in their order."""
    added = {tuple(row)[_SUMMED:]: tuple(map(int, tuple(row)[:_SUMMED])) for row in rows}
    return tuple(row for _, row in _rows_of(added, groups))


def _rows_of(
    added: Mapping[tuple[Any, ...], tuple[int, ...]], groups: Groups
) -> Iterator[tuple[tuple[str, ...], UsageRow]]:
    """Yield each group's row, and its ids as texts."""
    has_model, has_second = "endpoint" in groups, len(groups) > 1
    read = [_reader_of(group) for group in (*groups, "model")[: len(groups) + has_model]]
    for key, sums in added.items():
        values = [of(stored) for of, stored in zip(read, key, strict=True)]
        model, second = values[-1] if has_model else None, values[1] if has_second else None
        yield (
            tuple([_NONE if value is None else str(value) for value in values]),
            UsageRow(values[0], Totals(*sums), model, second),
        )


def _added(rows: Iterable[Any]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Sums by what the rows are of. PostgreSQL's sums are decimals."""
    added: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in rows:
        values = tuple(row)
        key, before = values[_SUMMED:], added.get(values[_SUMMED:])
        sums = values[:_SUMMED] if before is None else map(add, before, values)
        added[key] = tuple(map(int, sums))
    return added


def _totals(row: Any) -> Totals:
    """PostgreSQL's sums are decimals."""
    return Totals(*(int(getattr(row, name)) for name in Totals.__struct_fields__))


def _reader_of(group: Group) -> Callable[[Any], Id | None]:
    """Return what reads a group's values; each of them once."""
    return cache(_time_of(group) if group in _OF_TIME else _id_of)


def _id_of(stored: str | None) -> Id | None:
    return None if stored is None or stored == NONE else id_of(stored)


def _time_of(group: Group) -> Callable[[Any], str]:
    def time_of(stored: int) -> str:
        day, within = divmod(int(stored), DAY_MS)
        text = date.fromordinal(_EPOCH_DAY + day).isoformat()
        return text if group == "day" else f"{text}T{within // HOUR_MS:02}:00:00Z"

    return time_of


def _sum(one: UsageRow, other: UsageRow) -> UsageRow:
    ids = (_number(one.of, other.of), _number(one.model, other.model), _number(one.second, other.second))
    return UsageRow(ids[0], one.totals + other.totals, *ids[1:])


def _number(one: Id | None, other: Id | None) -> Id | None:
    return other if isinstance(one, str) else one


# -- export


def export_query(usage: UsageQuery, after: Position | None, most_rows: int, days: Sequence[int] | None) -> Any:
    """Return the query of the next rows by time.

    Each helping is a query of its own: nothing is held open in between. Each walks along an index from where the last
    one ended. `days`: those of this piece of the walk; None: all, where nothing narrows them.
    """
    # One lower bound: of two, SQLite may choose the looser, and begin each helping at the first row.
    query = select(ai_usage).where(
        *_of_days(usage, start_of_day_ms(usage.from_day) if after is None else after.time_ms)
    )
    if after is not None:
        query = query.where(or_(_usage.time_ms > after.time_ms, _usage.request_id > after.request_id))
    narrowed = _narrowed(usage)
    if days is None:
        query = query.where(*(column.in_(forms) for column, forms in narrowed))
        return query.order_by(_usage.time_ms, _usage.request_id).limit(most_rows)
    walked, *others = narrowed
    query = query.where(*(column.in_(forms) for column, forms in others))
    return walk_query(query, walked, days, ("time_ms", "request_id"), most_rows)


def days_of(usage: UsageQuery, after: Position | None, edges: Any) -> range | None:
    """The days that an export still has before it.

    None: it is not narrowed to one user or organisation. `edges`: times of the oldest and the newest row.
    """
    if usage.user is None and usage.organisation is None:
        return None
    first = start_of_day_ms(usage.from_day) if after is None else after.time_ms
    last = start_of_day_ms(usage.to_day)
    oldest, newest = (0, -DAY_MS) if edges[0] is None else edges
    return range(max(first, oldest) // DAY_MS, min(last, newest) // DAY_MS + 1)


def position_of(row: Any) -> Position:
    return Position(row.time_ms, row.request_id)


# -- totals for limits


def limit_totals_query(by: LimitScope, since_ms: int, scope: str | None) -> Select[*tuple[Any, ...]]:
    """Return the query of each scope's limit totals.

    Requests that no upstream answered were given back.
    """
    column = _usage.counted_on if by == "counted_on" else _usage.key_id
    query = select(*_LIMIT_SUMS, column.label("of"))
    query = query.where(_usage.time_ms >= since_ms, _usage.answered, column.is_not(None))
    if scope is not None:
        forms = (stored_id(scope),) if by == "counted_on" else stored_forms(scope)
        counts = column.in_(forms_in_columns(forms))
        made = column.startswith(stored_id(scope + MADE_BY).removesuffix('"'), autoescape=True)
        query = query.where(counts | made if by == "key" else counts)
    return query.group_by(column)


def limit_totals_of(rows: Iterable[Any], by: LimitScope) -> dict[str, Totals]:
    """By scope; keys by their id as text."""
    totals: dict[str, Totals] = {}
    for row in rows:
        scope = id_text(id_of(row.of))
        totals[scope] = totals.get(scope, Totals()) + _totals(row)
    return totals


def last_used_query(user: Id, days: Sequence[int] | None) -> Select[*tuple[Any, ...]]:
    """Query when each of a user's keys was last used.

    On these days; without them, by rows that no sums know of.
    """
    forms = forms_in_columns(stored_forms(user))
    last = func.max(_usage.time_ms).label("time_ms")
    query = select(_usage.key_id.label("of"), last).where(_usage.user_id.in_(forms)).group_by(_usage.key_id)
    return query.where(_usage.summed.is_(None) if days is None else of_days(days))


# -- ids that are longer than their column


def hashes_in(rows: Iterable[Any]) -> list[str]:
    return sorted({found for row in rows for value in row if (found := hash_in(value)) is not None})


def long_ids_query(hashes: Iterable[str]) -> Select[*tuple[Any, ...]]:
    return select(long_ids).where(long_ids.c.hash.in_(hashes))
