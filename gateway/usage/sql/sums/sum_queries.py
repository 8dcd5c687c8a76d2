"""Query the sums, and the rows that are not in them.

Several statements in one snapshot, whose rows come together: each row of the ledger is seen either here or there. What
the sums do not have (a user's hours) is read from the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, case, func, literal_column, or_, select

from gateway.types import MADE_BY, Id
from gateway.usage.reports import Group, Groups, LimitScope, Totals, UsageQuery
from gateway.usage.sql import queries
from gateway.usage.sql.long_ids import SUMS_ID_CHARACTERS, forms_in_columns
from gateway.usage.sql.rows import NONE, stored_forms, stored_id
from gateway.usage.sql.sums.additions import DAY_MS, HOUR_MS
from gateway.usage.sql.sums.day_blocks import KINDS, LEVELS, LONGEST_DAYS, Made, cover, number_of
from gateway.usage.sql.sums.sum_tables import BY_USER, EVERYBODY, blocks, daily, hours, made
from gateway.usage.sql.table import ai_usage
from gateway.usage.sql.walks import of_days

Query = Select[Any]

AT_ONCE = 5_000  # days, hours or blocks that are named in one statement
PLACES = ("of", "second", "model")  # what a row is of, by name
AMOUNTS = Totals.__struct_fields__  # in the rows' order
_UNSUMMED = ai_usage.c.summed.is_(None)
_HIGHEST = "\U0010ffff"
_LONGEST_MAKER = SUMS_ID_CHARACTERS // 2 - 10  # of a key whose name is whole in the names of keys that it made
_NAMED_HOURS = 24 * 62  # more than a limit's longest period has
_NONE: ColumnElement[Any] = literal_column(f"'{NONE}'")
_OF_DAYS: Mapping[Group, ColumnElement[Any]] = {
    "day": daily.c.day_ms,
    "model": daily.c.model,
    "endpoint": daily.c.endpoint_id,
    "key": daily.c.key_id,
    "user": daily.c.user_id,
    "organisation": daily.c.organisation_id,
}
# So that SQLite looks up the organisation, and does not go through everybody's days in the users' order.
_OF_AN_ORGANISATION = {**_OF_DAYS, "user": func.coalesce(daily.c.user_id, _NONE)}
_OF_HOURS: Mapping[Group, ColumnElement[Any]] = {
    "day": hours.c.hour_ms - hours.c.hour_ms % literal_column(str(DAY_MS)),
    "hour": hours.c.hour_ms,
}
_IS_CALL = ai_usage.c.route.contains(" ")  # as `queries` has it
_AMOUNTS_OF_ROWS = (
    case((_IS_CALL, 0), else_=1),
    ai_usage.c.total_tokens,
    ai_usage.c.prompt_tokens,
    ai_usage.c.completion_tokens,
    ai_usage.c.cost_nano,
    case((_IS_CALL, 1), else_=0),
    ai_usage.c.cached_tokens,
)
_OF_ROWS: Mapping[Group, ColumnElement[Any]] = {
    "day": ai_usage.c.time_ms - ai_usage.c.time_ms % literal_column(str(DAY_MS)),
    "hour": ai_usage.c.time_ms - ai_usage.c.time_ms % literal_column(str(HOUR_MS)),
    "model": ai_usage.c.model,
    "endpoint": func.coalesce(ai_usage.c.endpoint_id, _NONE),
    "key": ai_usage.c.key_id,
    "user": ai_usage.c.user_id,
    "organisation": func.coalesce(ai_usage.c.organisation_id, _NONE),
}
_COLUMNS: Mapping[Group, str] = {
    "model": "model",
    "endpoint": "endpoint_id",
    "key": "key_id",
    "user": "user_id",
    "organisation": "organisation_id",
}


def listed_query(usage: UsageQuery) -> Select[Any]:
    """Query what is listed of the span.

    And of the blocks that reach into it or out of it.
    """
    first, last = _days(usage)
    near = and_(
        made.c.block >= number_of(max(0, first - LONGEST_DAYS), 0), made.c.block < number_of(last + LONGEST_DAYS, 0)
    )
    return select(made.c.block).where(near)


def all_listed_query() -> Select[Any]:
    return select(made.c.block)


def last_days_query(user: Id, listed: Made) -> Query:
    """Query the last day of each of a user's keys."""
    named = _named(daily.c.day_ms, [day * DAY_MS for day in listed.days])
    last = func.max(daily.c.day_ms).label("day_ms")
    return _by_user(select(last)).where(named, daily.c.user_id.in_(_forms(user))).group_by(daily.c.key_id)


class Part(NamedTuple):
    """Some sums, or rows, that a report is made of.

    `found`: which, of no columns yet. `amounts`: in the order of `AMOUNTS`. `of`: groups by `PLACES`. `by`: what is
    grouped by, in the order of the table's key where it can be. `is_grouped`: no two are of the same.
    """

    found: Query
    amounts: Sequence[ColumnElement[Any]]
    of: Mapping[str, ColumnElement[Any]]
    by: Sequence[ColumnElement[Any]]
    is_grouped: bool = False

    def summed(self) -> Query:
        if self.is_grouped:
            return self.plain()
        named = zip(AMOUNTS, self.amounts, strict=True)
        sums = [func.coalesce(func.sum(amount), 0).label(name) for name, amount in named]
        return self.found.add_columns(*sums, *self._labelled()).group_by(*self.by)

    def plain(self) -> Query:
        """Return the amounts of each."""
        named = zip(AMOUNTS, self.amounts, strict=True)
        return self.found.add_columns(*(amount.label(name) for name, amount in named), *self._labelled())

    def _labelled(self) -> list[Any]:
        return [column.label(name) for name, column in self.of.items()]


def _part(found: Query, table: Table, groups: Groups, of: Callable[[Group], ColumnElement[Any]]) -> Part:
    places = _places(groups, of)
    return Part(found, [table.c[name] for name in AMOUNTS], places, list(places.values()))


def _places(groups: Groups, of: Callable[[Group], ColumnElement[Any]]) -> dict[str, ColumnElement[Any]]:
    found = {name: of(group) for name, group in zip(PLACES, groups, strict=False)}
    return found | {PLACES[-1]: of("model")} if "endpoint" in groups else found


def report_queries(usage: UsageQuery, groups: Groups, listed: Made) -> Iterator[Query]:
    """Yield a report's queries: sums, and rows that lack there."""
    for part in report_parts(usage, groups, listed):
        yield part.summed()
    yield queries.report_query(usage, groups).where(_UNSUMMED)


def report_parts(usage: UsageQuery, groups: Groups, listed: Made) -> Iterator[Part]:
    """Yield the sums that a report is made of.

    Rows that are in them, where it is of hours that they have not.
    """
    days = days_between(usage, listed)
    if reads_rows(usage, groups):
        yield from _of_rows(usage, groups, days)
    elif "hour" not in groups:
        if usage.user is None and usage.organisation is None and usage.key is None:
            yield from _everybodys(usage, groups, listed)
        else:
            yield from _of_daily(usage, groups, days)
    else:
        yield from _of_hours(_owners_of_hours(usage) or [], groups, days)


def reads_rows(usage: UsageQuery, groups: Groups) -> bool:
    """Whether a report is of hours that the sums have not."""
    return "hour" in groups and (_owners_of_hours(usage) is None or not {*groups} <= _OF_HOURS.keys())


def part_of_rows(usage: UsageQuery, groups: Groups, times: range) -> Part:
    """Return the rows in the sums of these milliseconds."""
    of = _places(groups, _OF_ROWS.__getitem__)
    found = select().where(queries.within(usage, times), ai_usage.c.summed.is_not(None))
    return Part(found, _AMOUNTS_OF_ROWS, of, list(of.values()))


def days_between(usage: UsageQuery, listed: Made) -> list[int]:
    """Days of the span that have sums."""
    return listed.days_between(*_days(usage))


def _days(usage: UsageQuery) -> tuple[int, int]:
    return (queries.start_of_day_ms(usage.from_day) // DAY_MS, queries.start_of_day_ms(usage.to_day) // DAY_MS)


def _of_rows(usage: UsageQuery, groups: Groups, days: Sequence[int]) -> Iterator[Part]:
    found = select().where(queries.within(usage), ai_usage.c.summed.is_not(None))
    of = _places(groups, _OF_ROWS.__getitem__)
    if usage.user is None and usage.organisation is None:
        yield Part(found, _AMOUNTS_OF_ROWS, of, list(of.values()))
        return
    for some in _pieces(days):
        yield Part(found.where(of_days(some)), _AMOUNTS_OF_ROWS, of, list(of.values()))


def _of_hours(owners: Sequence[str], groups: Groups, days: Sequence[int]) -> Iterator[Part]:
    for some in _pieces(days, AT_ONCE // 24):  # a day's hours together: each part has days of its own
        found = select().where(_named(hours.c.hour_ms, _hours_of(some)), hours.c.owner.in_(owners))
        yield _part(found, hours, groups, _OF_HOURS.__getitem__)


def _hours_of(days: Collection[int]) -> list[int]:
    return [day * DAY_MS + hour * HOUR_MS for day in days for hour in range(24)]


def unsummed_query(usage: UsageQuery) -> Select[Any]:
    """Query whether any row is not in the sums yet."""
    first_ms, last_ms = queries.start_of_day_ms(usage.from_day), queries.start_of_day_ms(usage.to_day) + DAY_MS - 1
    within = ai_usage.c.time_ms.between(first_ms, last_ms)
    return select(literal_column("1")).where(_UNSUMMED, within).limit(1)


def rows_of_days_query(days: Collection[int]) -> Select[Any]:
    """Query how many rows are in the sums of some days."""
    return select(func.sum(hours.c.requests + hours.c.calls)).where(
        _named(hours.c.hour_ms, _hours_of(days)), hours.c.owner == EVERYBODY
    )


def _owners_of_hours(usage: UsageQuery) -> Sequence[str] | None:
    if usage.user is not None or usage.organisation is not None or usage.model is not None:
        return None
    return [EVERYBODY] if usage.key is None else _owners("k:", usage.key)


def _everybodys(usage: UsageQuery, groups: Groups, listed: Made) -> Iterator[Part]:
    needed = {_COLUMNS[group] for group in groups if group != "day"}
    needed |= {"model"} if usage.model is not None or "endpoint" in groups else set()
    kind = next((kind for kind, columns in KINDS.items() if needed <= set(columns)), None)
    first, last = _days(usage)
    if kind is None:
        yield from _of_daily(usage, groups, listed.days_between(first, last))
        return
    found = cover(listed, first, last, longest=0 if "day" in groups else LEVELS[-1])
    at = dict(zip(KINDS[kind], (blocks.c.a, blocks.c.b, blocks.c.c), strict=False))
    for some in _pieces(found.blocks):
        summed = select().where(_named(blocks.c.block, some), blocks.c.kind == kind)
        if usage.model is not None:
            summed = summed.where(at["model"].in_(_forms(usage.model)))
        part = _part(summed, blocks, groups, lambda group: _of_block(group, at))
        if "day" in groups:
            by = [blocks.c.block, *(column for column in at.values() if column in {*part.of.values()})]
            part = part._replace(by=by, is_grouped=len(by) == len(at) + 1)
        yield part
    if kind == "t":  # some twenty rows of a day that goes on, in place of thousands
        yield from _of_hours([EVERYBODY], groups, found.days)
    else:
        yield from _of_daily(usage, groups, found.days)


def _of_block(group: Group, at: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
    if group == "day":
        return blocks.c.block * literal_column(str(DAY_MS >> 4))  # of one day: its number is its day's times 16
    return at[_COLUMNS[group]]


def _of_daily(usage: UsageQuery, groups: Groups, days: Sequence[int]) -> Iterator[Part]:
    asked = (
        (daily.c.organisation_id, usage.organisation),
        (daily.c.user_id, usage.user),
        (daily.c.key_id, usage.key),
        (daily.c.model, usage.model),
    )
    narrowed = [column.in_(_forms(value)) for column, value in asked if value is not None]
    of = (_OF_DAYS if usage.organisation is None else _OF_AN_ORGANISATION).__getitem__
    for some in _pieces([day * DAY_MS for day in days]):
        summed = select().where(_named(daily.c.day_ms, some), *narrowed)
        if usage.user is not None:
            summed = _by_user(summed)
        yield _part(summed, daily, groups, of)


def _by_user(query: Query) -> Query:
    """Have SQLite look up the user.

    It would go through whole days by the longer key.
    """
    return query.with_hint(daily, f"INDEXED BY {BY_USER}", "sqlite")


def _named(column: ColumnElement[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
    """One of these numbers, written into the statement: there may be thousands."""
    return column.in_(bindparam(None, list(numbers), expanding=True, literal_execute=True))


def _pieces(numbers: Sequence[int], most: int = AT_ONCE) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), most):
        yield numbers[start : start + most]


def _forms(value: Id) -> Collection[str]:
    return forms_in_columns(stored_forms(value))


def _owners(kind: str, owner: Id) -> list[str]:
    return [kind + form for form in _forms(owner)]


# -- totals for limits


def limit_totals_queries(by: LimitScope, since_ms: int, scope: str | None, now_ms: int) -> Iterator[Query]:
    """Yield the queries of each scope's limit totals.

    Whole hours come from the sums, the edge from the rows.
    """
    if scope is not None and len(scope) > _LONGEST_MAKER:
        yield queries.limit_totals_query(by, since_ms, scope)
        return
    whole_ms = -(-since_ms // HOUR_MS) * HOUR_MS
    counts_for = func.coalesce(func.sum(hours.c.requests + hours.c.further_requests), 0).label("requests")
    others = [func.coalesce(func.sum(hours.c[name]), 0).label(name) for name in AMOUNTS[1:]]
    summed = select(counts_for, *others, func.substr(hours.c.owner, 3).label("of"))
    summed = summed.where(hours.c.answered == 1, _scoped(by, scope)).group_by(hours.c.owner)
    known = range(whole_ms, now_ms + HOUR_MS, HOUR_MS)
    if len(known) > _NAMED_HOURS:
        yield summed.where(hours.c.hour_ms >= whole_ms)
    else:
        if known:
            yield summed.where(_named(hours.c.hour_ms, known))
        yield summed.where(hours.c.hour_ms >= max(known.stop if not known else known[-1] + HOUR_MS, whole_ms))
    yield queries.limit_totals_query(by, whole_ms, scope).where(_UNSUMMED)
    if since_ms < whole_ms:
        yield queries.limit_totals_query(by, since_ms, scope).where(ai_usage.c.time_ms < whole_ms)


def _scoped(by: LimitScope, scope: str | None) -> ColumnElement[bool]:
    kind = "c:" if by == "counted_on" else "k:"
    if scope is None:
        return and_(hours.c.owner >= kind, hours.c.owner < kind + _HIGHEST)
    if by == "counted_on":
        return hours.c.owner.in_([kind + form for form in forms_in_columns((stored_id(scope),))])
    made_by = kind + stored_id(scope + MADE_BY).removesuffix('"')
    return or_(
        hours.c.owner.in_(_owners(kind, scope)), and_(hours.c.owner >= made_by, hours.c.owner < made_by + _HIGHEST)
    )
