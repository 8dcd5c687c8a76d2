"""Rank each ended day's users and keys, by cost, tokens and requests.

A page by day and user, the dearest first, is then a few rows of each day instead of every user of every day. A day's
list has its first `LISTED`; who needs more of them reads the day itself, as where it has none: ids that differ only in
their type come together in a report, and a day that may have such ids is not ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, get_args

from sqlalchemy import Connection, TextClause, bindparam, delete, select, text

from gateway.usage.reports import Group, Groups, Order, Totals
from gateway.usage.sql.rows import NONE
from gateway.usage.sql.sums.additions import DAY_MS
from gateway.usage.sql.sums.day_blocks import RANKED, Made, first_day, number_of
from gateway.usage.sql.sums.sum_tables import VALUES, blocks, ranks

LISTED = 256  # of a page of a thousand rows at most three days have more
AMOUNT_OF: dict[Order, str] = {"cost": "cost_nano", "tokens": "tokens", "requests": "requests"}
BEHIND_QUOTE = "#"  # the next character: between the two are ids in quotes
_BLOCK_KIND = "u"
_COLUMNS: dict[Group, str] = {"user": "a", "key": "b"}  # of such a block
_FEWEST, _GROWTH = 8, 4  # rows of a day that are looked at first, and how many times as many next


class Ranking(NamedTuple):
    """Days by the most of an amount first.

    `of`, `day`: what rows of a report call who it is of, and the day.
    """

    kind: Group
    measure: Order
    of: str
    day: str


def ranking_of(groups: Groups, order: Order | None) -> Ranking | None:
    """Return what ranks a report by these groups; None: nothing does."""
    kind = next((group for group in groups if group in _COLUMNS), None)
    if kind is None or order is None or {*groups} != {"day", kind}:
        return None
    of, day = ("second", "of") if groups[0] == "day" else ("of", "second")
    return Ranking(kind, order, of, day)


def key_of(row: Any, ranking: Ranking) -> tuple[Any, ...]:
    """What a report's rows are ordered by.

    Texts by code point, as the tables have them.
    """
    return (
        -getattr(row, AMOUNT_OF[ranking.measure]),
        getattr(row, ranking.day),
        -row.requests,
        getattr(row, ranking.of),
    )


class Best(NamedTuple):
    """The best rows behind a key; `unread`: days that may have more."""

    rows: list[Any]
    unread: list[int]


def best_of(
    connection: Connection, ranking: Ranking, days: Sequence[int], *, before: tuple[Any, ...] | None, most: int
) -> Best:
    """Find the best rows of ranked days.

    More of a day is read only where it can have one. Exact but for the days that are named as unread: they are not
    ranked, or have more than is listed.
    """
    found: list[tuple[tuple[Any, ...], Any]] = []
    unread: list[int] = []
    open_days, first, last = list(days), 1, max(_FEWEST, 2 * most // max(1, len(days)))
    while open_days:
        last = min(last, LISTED)
        lists = _lists(connection, ranking, open_days, first, last)
        further: dict[int, tuple[Any, ...]] = {}  # full lists, by the key of their last
        for day in open_days:
            listed = [(key_of(row, ranking), row) for row in lists.get(day, ())]
            found += [each for each in listed if before is None or each[0] > before]
            if len(listed) == last - first + 1:
                further[day] = listed[-1][0]
            elif not listed and first == 1:
                unread.append(day)
        found = sorted(found, key=lambda each: each[0])[:most]
        worst = found[-1][0] if len(found) == most else None
        open_days = [day for day, key in further.items() if worst is None or key < worst]
        if last == LISTED:
            return Best([row for _, row in found], sorted(unread + open_days))
        first, last = last + 1, last * _GROWTH
    return Best([row for _, row in found], sorted(unread))


def _lists(
    connection: Connection, ranking: Ranking, days: Sequence[int], first: int, last: int
) -> dict[int, list[Any]]:
    at = ranks.c
    of = {ranking.day: at.day_ms, ranking.of: at.id}
    columns = [at[name] for name in Totals.__struct_fields__] + [of[name].label(name) for name in sorted(of)]
    named = at.day_ms.in_(bindparam(None, [day * DAY_MS for day in days], expanding=True, literal_execute=True))
    asked = select(*columns).where(named, at.kind == ranking.kind, at.measure == ranking.measure)
    asked = asked.where(at.place.between(first, last)).order_by(at.day_ms, at.place)
    rows = connection.execute(asked).all()
    return {day_ms // DAY_MS: list(of_day) for day_ms, of_day in groupby(rows, attrgetter(ranking.day))}


def ranked_days(listed: Made, days: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return those that have ranks, and the others."""
    found: tuple[list[int], list[int]] = ([], [])
    for day in days:
        found[number_of(day, RANKED) not in listed.blocks].append(day)
    return found


# -- making


def make_ranks(connection: Connection, number: int) -> None:
    """Rank a day by its block."""
    day_ms = first_day(number) * DAY_MS
    connection.execute(delete(ranks).where(ranks.c.day_ms == day_ms))
    for statement in _MAKE:
        connection.execute(statement, {"day_ms": day_ms, "block": number_of(first_day(number), 0)})


def _statement(kind: Group, measure: Order) -> TextClause:
    column, amount = _COLUMNS[kind], AMOUNT_OF[measure]
    sums = ", ".join(f"sum({name}) AS {name}" for name in VALUES)
    block = f"{blocks.name} WHERE block = :block AND kind = '{_BLOCK_KIND}'"
    quoted = f"SELECT 1 FROM {block} AND {column} > '{NONE}' AND {column} < '{BEHIND_QUOTE}'"  # noqa: S608 - names of ours
    by_id = f"SELECT {column} AS id, {sums} FROM {block} AND NOT EXISTS ({quoted}) GROUP BY {column}"  # noqa: S608
    place = f"row_number() OVER (ORDER BY {amount} DESC, requests DESC, id)"
    placed = f"SELECT {place} AS place, id, {', '.join(VALUES)} FROM ({by_id}) AS each_id"  # noqa: S608
    into = f"INSERT INTO {ranks.name} (day_ms, kind, measure, place, id, {', '.join(VALUES)})"
    best = f"SELECT :day_ms, '{kind}', '{measure}', place, id, {', '.join(VALUES)} FROM ({placed}) AS placed"  # noqa: S608
    return text(f"{into} {best} WHERE place <= {LISTED}")


_MAKE = [_statement(kind, measure) for kind in _COLUMNS for measure in get_args(Order)]
