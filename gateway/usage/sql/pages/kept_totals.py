"""Keep totals of ended days, and add other days exactly.

What has as many groups as there are sums (users and models of a month) takes seconds to sum. Kept are the sums of all
groups, in a database of SQLite's own that has no name and is gone with its connection: beyond its cache it lies in the
system's directory for such files. A page is then the first of these that the other days have not touched, and of those
that they have the ones that can come before its last.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import add
from typing import Any, NamedTuple

from gateway.usage.reports import Order
from gateway.usage.sql.rows import NONE
from gateway.usage.sql.sums.ranks import AMOUNT_OF, BEHIND_QUOTE
from gateway.usage.sql.sums.sum_queries import AMOUNTS

MOST_GROUPS = 1_000_000  # of one span: some 80 MB in three orders
BETWEEN = "\x1f"  # ids of one group
_CACHE_KB = 4_000
_AT_ONCE = 500
_LOOKED_UP = 1_000  # groups of the other days, those with the most; or twice as many, or four times …
_LOOK = 5  # a look at one of them takes as long as passing so many
_LEAST = -(1 << 63)  # no amount is less
_ORDERS: tuple[Order, ...] = ("cost", "tokens", "requests")
_COLUMNS = f"{', '.join(AMOUNTS)}, ids"
_WIDTH = len(AMOUNTS)
_KEPT = f"SELECT {_COLUMNS} FROM kept"  # noqa: S608 - names of ours
_INSERT = f"INSERT INTO kept ({_COLUMNS}) VALUES ({', '.join('?' * (_WIDTH + 1))})"  # noqa: S608

Ids = str  # a group's, with BETWEEN in between
Amounts = tuple[int, ...]


class NotKept(Exception):
    """Too many groups, or ids that may be one row."""


class Span(NamedTuple):
    """The days that were summed, and the changes up to then.

    Days since 1970; changes of ended days.
    """

    days: frozenset[int]
    changes: int


class Others(NamedTuple):
    """Groups of days besides, by what they are ordered by.

    `whole` finds all amounts of some.
    """

    amounts: Mapping[Ids, int]
    whole: Callable[[Collection[Ids]], Mapping[Ids, Amounts]]


def check_ids(groups: Iterable[Ids], places: int) -> None:
    """Raise NotKept where groups cannot be distinguished.

    Two may be one row, or one text two groups.
    """
    for ids in groups:
        if ids.count(BETWEEN) != places - 1:
            raise NotKept
        if NONE in ids and any(NONE < text < BEHIND_QUOTE for text in ids.split(BETWEEN)):
            raise NotKept


class KeptTotals:
    """The sums of each group, for threads.

    `places`: what rows call what they are of.
    """

    def __init__(self, places: Sequence[str], span: Span) -> None:
        self.span = span
        self.groups = 0
        self._places = len(places)
        self._found = namedtuple("Found", (*AMOUNTS, *places))  # type: ignore[misc]
        self._steps: dict[int, list[tuple[int, int]]] = {}  # by an amount's place: how many groups have more
        self._lock = threading.Lock()
        self._is_closed = False
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for setting in (f"cache_size=-{_CACHE_KB}", "journal_mode=OFF", "synchronous=OFF"):
            self._database.execute(f"PRAGMA {setting}").close()

    def fill(self, rows: Iterable[Sequence[Any]], rest: Callable[[], None]) -> None:
        """Take each group's amounts and ids, in their order.

        `rest` is called between helpings. Raises NotKept, and what SQLite raises where there is no room.
        """
        numbers = ", ".join(f"{name} INTEGER NOT NULL" for name in AMOUNTS)
        self._database.execute(f"CREATE TABLE kept (n INTEGER PRIMARY KEY, {numbers}, ids TEXT NOT NULL)")
        read = iter(rows)
        while helping := list(islice(read, _AT_ONCE)):
            amounts = [tuple(map(int, row[:_WIDTH])) for row in helping]
            groups = [BETWEEN.join(row[_WIDTH:]) for row in helping]
            check_ids(groups, self._places)
            if any(min(each) < 0 for each in amounts):  # then more days would not be more
                raise NotKept
            some = [(*each, ids) for each, ids in zip(amounts, groups, strict=True)]
            self.groups += len(some)
            if self.groups > MOST_GROUPS:
                raise NotKept
            self._database.execute("BEGIN")
            self._database.executemany(_INSERT, some)
            self._database.execute("COMMIT")
            rest()
        self._database.execute("CREATE UNIQUE INDEX by_ids ON kept (ids)")
        for order in _ORDERS:
            rest()
            amount = AMOUNT_OF[order]
            self._database.execute(f"CREATE INDEX by_{order} ON kept ({amount} DESC, requests DESC, n, ids)")
            nth = f"SELECT {amount} FROM kept ORDER BY {amount} DESC LIMIT 1 OFFSET ?"  # noqa: S608 - names of ours
            self._steps[AMOUNTS.index(amount)] = [
                (next(self._rows(nth, [number]))[0], number) for number in _doubled(_LOOKED_UP, self.groups)
            ]

    def best(self, order: Order | None, before: Sequence[Any] | None, most: int, others: Others) -> list[Any] | None:
        """Return the first rows behind `before`, the other days added.

        `before`: amounts and ids of a row, with the other days' sums. None: it is closed.
        """
        place = AMOUNTS.index(AMOUNT_OF[order or "requests"])
        with self._lock:
            if self._is_closed:
                return None
            behind = None if before is None else _key((*before[:_WIDTH], BETWEEN.join(before[_WIDTH:])), place)
            rows = list(self._untouched(place, behind, most, others.amounts))
            touched = self._reaching(place, None if behind is None else -behind[0], most, rows, others.amounts)
            kept = {row[-1]: row for row in self._look_up(list(touched))}
        for ids, used in (others.whole(touched) if touched else {}).items():
            rows.append((*map(add, kept.get(ids, (0,) * _WIDTH), used), ids))
        keyed = sorted((key, row) for row in rows if (key := _key(row, place)) and (behind is None or key > behind))
        return [self._found(*row[:_WIDTH], *row[-1].split(BETWEEN)) for _, row in keyed[:most]]

    def _untouched(
        self, place: int, behind: tuple[Any, ...] | None, most: int, others: Collection[Ids]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the first that are of these days alone."""
        amount, where, values = AMOUNTS[place], "", list[Any]()
        if behind is not None:
            at, requests = -behind[0], -behind[1]
            where = f"WHERE {amount} <= ? AND ({amount} < ? OR requests < ? OR requests = ? AND n > ?)"
            values = [at, at, requests, requests, self._number_behind(behind[2])]
        query = f"{_KEPT} {where} ORDER BY {amount} DESC, requests DESC, n"
        return islice((row for row in self._rows(query, values) if row[-1] not in others), most)

    def _number_behind(self, ordered: tuple[Any, ...]) -> int:
        """Return the last number whose ids come no later than these."""
        low, high = 0, self.groups
        while low < high:
            middle = (low + high + 1) // 2
            (ids,) = next(self._rows("SELECT ids FROM kept WHERE n = ?", [middle]))
            low, high = (middle, high) if _ordered(ids) <= ordered else (low, middle - 1)
        return low

    def _reaching(
        self, place: int, at: int | None, most: int, rows: Sequence[Any], others: Mapping[Ids, int]
    ) -> set[Ids]:
        """Return groups of other days that a page may have.

        `rows`: the first that are of these days alone. `at`: what `before` has.
        """
        own = [row[place] for row in rows]
        least = own[-1] if len(own) == most else _LEAST
        if at is None:
            least = max(least, _nth(most, [*others.values(), *own]))
        else:
            others = {ids: amount for ids, amount in others.items() if amount <= at}
        sums = {ids: amount for ids, amount in self._touched(place, least, others) if at is None or amount <= at}
        # Of those with as much as `before` some come before it: they push nothing off the page.
        behind = sums.values() if at is None else [amount for amount in sums.values() if amount < at]
        least = max(least, _nth(most, [*behind, *own]))
        return {ids for ids, amount in sums.items() if amount >= least}

    def _touched(self, place: int, least: int, others: Mapping[Ids, int]) -> Iterator[tuple[Ids, int]]:
        """Yield sums with the other days that reach `least`.

        Those with the most there are looked up. Of the rest, none can that has not enough in these days.
        """
        rest = self._rest(place, least, sorted(others.values(), reverse=True))
        looked_up = [ids for ids, amount in others.items() if amount > rest]
        kept = {row[-1]: row[place] for row in self._look_up(looked_up)}
        found = ((ids, kept.get(ids, 0) + others[ids]) for ids in looked_up)
        yield from (each for each in found if each[1] >= least)
        if len(looked_up) < len(others):
            yield from self._met(place, least, {ids: used for ids, used in others.items() if used <= rest}, rest)

    def _rest(self, place: int, least: int, amounts: Sequence[int]) -> int:
        """Choose from which amount on groups are looked up.

        So that these looks, and what is passed on the way down for the rest, take the least time.
        """
        best = (len(amounts) * _LOOK, _LEAST)
        for number in _doubled(_LOOKED_UP, len(amounts)):
            enough = least - amounts[number]
            passed = next((more for amount, more in self._steps[place] if amount < enough), self.groups)
            best = min(best, (number * _LOOK + passed, amounts[number]))
        return best[1]

    def _met(self, place: int, least: int, others: dict[Ids, int], rest: int) -> Iterator[tuple[Ids, int]]:
        """Yield the same of groups with no more than `rest`."""
        where, values = (f"WHERE {AMOUNTS[place]} >= ?", [least - rest]) if least > rest else ("", [])
        for amount, ids in self._rows(f"SELECT {AMOUNTS[place]}, ids FROM kept {where}", values):  # noqa: S608
            if ids in others and (together := amount + others.pop(ids)) >= least:
                yield ids, together
        yield from (each for each in others.items() if each[1] >= least)  # of the other days alone

    def _look_up(self, groups: Sequence[Ids]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(groups), _AT_ONCE):
            some = groups[start : start + _AT_ONCE]
            yield from self._rows(f"{_KEPT} WHERE ids IN ({', '.join('?' * len(some))})", some)

    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        cursor = self._database.execute(query, values)
        try:
            yield from cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Give its room back, once no thread reads it."""
        with self._lock:
            self._is_closed = True
            self._database.close()


def _nth(number: int, amounts: list[int]) -> int:
    """Return the amount that so many reach, or the least."""
    return sorted(amounts)[-number] if len(amounts) >= number else _LEAST


def _doubled(number: int, end: int) -> Iterator[int]:
    while number < end:
        yield number
        number = max(1, number * 2)


def _key(row: Sequence[Any], place: int) -> tuple[Any, ...]:
    return (-row[place], -row[0], _ordered(row[-1]))


def _ordered(ids: Ids) -> tuple[Any, ...]:
    """Return what orders ids, as a page has them.

    None first, then by code point.
    """
    return tuple(part for text in ids.split(BETWEEN) for part in (text != NONE, text))
