"""Query the sums, and the rows that are not in them.

Each is one statement, so that it sees a row either here or there. What the sums do not have (a user's hours, a model's
users) is read from the rows alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Select, Table, and_, func, literal_column, or_, select, union_all

from gateway.types import MADE_BY, Id
from gateway.usage.reports import Group, Groups, LimitScope, UsageQuery
from gateway.usage.sql import queries
from gateway.usage.sql.long_ids import SUMS_ID_CHARACTERS, forms_in_columns
from gateway.usage.sql.queries import start_of_day_ms
from gateway.usage.sql.rows import stored_forms, stored_id
from gateway.usage.sql.sums.additions import DAY_MS, HOUR_MS
from gateway.usage.sql.sums.sum_tables import EVERYBODY, days, hours
from gateway.usage.sql.table import ai_usage

Query = Select[Any] | CompoundSelect[Any]

_NONE: ColumnElement[Any] = literal_column("'\"'")  # the same text in SELECT and GROUP BY
_ROWS = ("requests", "tokens", "prompt_tokens", "completion_tokens", "cost_nano", "calls")  # in the rows' order
_UNSUMMED = ai_usage.c.summed.is_(None)
_HIGHEST = "\U0010ffff"
_LONGEST_MAKER = SUMS_ID_CHARACTERS // 2 - 10  # of a key whose name is whole in the names of keys that it made
_OWNER = func.substr(days.c.owner, 3)
_OF_DAYS: Mapping[Group, ColumnElement[Any]] = {
    "day": days.c.day_ms,
    "model": days.c.model,
    "endpoint": func.nullif(days.c.endpoint_id, _NONE),
}
_OF_HOURS: Mapping[Group, ColumnElement[Any]] = {
    "day": hours.c.hour_ms - hours.c.hour_ms % literal_column(str(DAY_MS)),
    "hour": hours.c.hour_ms,
}
_BY: Mapping[Group, str] = {"user": "*u", "organisation": "*o", "key": "*k"}


class _Part(NamedTuple):
    """A part of a table of sums, and its groups."""

    table: Table
    where: tuple[ColumnElement[bool], ...]
    groups: Mapping[Group, ColumnElement[Any]]


def report_query(usage: UsageQuery, groups: Groups, rows: Select[Any]) -> Query:
    """`rows`: the same from the rows alone."""
    part = _part(usage, groups)
    if part is None or not part.groups.keys() >= set(groups):
        return rows
    time_ms = part.table.c[1]
    columns = [part.groups[group] for group in groups]
    labelled = [column.label(name) for column, name in zip(columns, ("of", "second"), strict=False)]
    if "endpoint" in groups:
        columns.append(days.c.model)
        labelled.append(days.c.model.label("model"))
    until_ms = start_of_day_ms(usage.to_day) + DAY_MS
    summed = select(*_sums(part.table), *labelled).where(
        *part.where, time_ms >= start_of_day_ms(usage.from_day), time_ms < until_ms
    )
    return union_all(summed.group_by(*columns) if columns else summed, rows.where(_UNSUMMED))


def _sums(table: Table) -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(table.c[name]), 0).label(name) for name in _ROWS]


def _part(usage: UsageQuery, groups: Groups) -> _Part | None:
    if usage.organisation is not None:
        return _organisations(usage) if usage.key is None else None
    if usage.user is not None:
        return _users(usage)
    if usage.key is not None:
        return None if usage.model is not None else _Part(hours, (_owned(hours, "k:", usage.key),), _OF_HOURS)
    return _everybodys(usage, groups)


def _organisations(usage: UsageQuery) -> _Part:
    where = (_owned(days, "o:", usage.organisation), *_of(days.c.part, usage.user), *_of(days.c.model, usage.model))
    return _Part(days, where, {**_OF_DAYS, "user": days.c.part, "organisation": _OWNER})


def _users(usage: UsageQuery) -> _Part:
    where = (_owned(days, "u:", usage.user), *_of(days.c.part, usage.key), *_of(days.c.model, usage.model))
    return _Part(days, where, {**_OF_DAYS, "key": days.c.part, "user": _OWNER})


def _everybodys(usage: UsageQuery, groups: Groups) -> _Part | None:
    by = [group for group in groups if group in _BY]
    if by:
        is_other = days.c.owner == _BY[by[0]]
        groups_of_it: Mapping[Group, ColumnElement[Any]] = {
            "day": days.c.day_ms,
            by[0]: func.nullif(days.c.part, _NONE),
        }
        return None if usage.model is not None else _Part(days, (is_other,), groups_of_it)
    if "hour" in groups:
        return None if usage.model is not None else _Part(hours, (hours.c.owner == EVERYBODY,), _OF_HOURS)
    return _Part(days, (days.c.owner == EVERYBODY, *_of(days.c.model, usage.model)), _OF_DAYS)


def _owned(table: Table, kind: str, owner: Id | None) -> ColumnElement[bool]:
    forms = () if owner is None else forms_in_columns(stored_forms(owner))
    return table.c.owner.in_([kind + form for form in forms])


def _of(column: ColumnElement[Any], value: Id | None) -> Collection[ColumnElement[bool]]:
    return () if value is None else (column.in_(forms_in_columns(stored_forms(value))),)


# -- totals for limits


def limit_totals_query(by: LimitScope, since_ms: int, scope: str | None) -> Query:
    """Return the query of each scope's limit totals.

    Whole hours come from the sums, the edge from the rows.
    """
    if scope is not None and len(scope) > _LONGEST_MAKER:
        return queries.limit_totals_query(by, since_ms, scope)
    whole_ms = -(-since_ms // HOUR_MS) * HOUR_MS
    summed = select(*_sums(hours), func.substr(hours.c.owner, 3).label("of")).where(
        hours.c.hour_ms >= whole_ms, hours.c.answered == 1, _scoped(by, scope)
    )
    parts: list[Select[Any]] = [
        summed.group_by(hours.c.owner),
        queries.limit_totals_query(by, whole_ms, scope).where(_UNSUMMED),
    ]
    if since_ms < whole_ms:
        parts.append(queries.limit_totals_query(by, since_ms, scope).where(ai_usage.c.time_ms < whole_ms))
    return union_all(*parts)


def _scoped(by: LimitScope, scope: str | None) -> ColumnElement[bool]:
    kind = "c:" if by == "counted_on" else "k:"
    if scope is None:
        return and_(hours.c.owner >= kind, hours.c.owner < kind + _HIGHEST)
    if by == "counted_on":
        return hours.c.owner.in_([kind + form for form in forms_in_columns((stored_id(scope),))])
    made = kind + stored_id(scope + MADE_BY).removesuffix('"')
    return or_(_owned(hours, kind, scope), and_(hours.c.owner >= made, hours.c.owner < made + _HIGHEST))
