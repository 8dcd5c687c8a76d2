"""Keep the totals of a report's groups, and add new rows.

What has as many groups as there are sums (users and models of a month) takes seconds to sum. Kept are the sums of all
groups, in a database of SQLite's own that has no name and is gone with its connection: beyond its cache it lies in the
system's directory for such files. A page is the first rows of one of its indexes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gateway.usage.reports import Order, UsageQuery
from gateway.usage.sql.rows import NONE
from gateway.usage.sql.sums.ranks import AMOUNT_OF, BEHIND_QUOTE
from gateway.usage.sql.sums.sum_queries import AMOUNTS

MOST_GROUPS = 1_000_000  # of one span: some 100 MB in three orders
_CACHE_KB = 1_000
AT_ONCE = 500  # rows that are read together
_ORDERS: tuple[Order, ...] = ("cost", "tokens", "requests")
_WIDTH = len(AMOUNTS)
_MOST = 2**63 - 1  # beyond it SQLite counts on with fractions, not exactly
_ID_MARK = "="  # before each id but `NONE`, which comes first


class NotKept(Exception):
    """Too many groups, too high a sum, or ids that may be one row."""


class Span(NamedTuple):
    """The days that were summed, and the changes up to then.

    Days since 1970, and those of them that go on; changes of days that had ended, see `kept_pages.Marks`.
    """

    days: frozenset[int]
    open_days: frozenset[int]
    changes: Hashable


class Seen(NamedTuple):
    """Which rows the totals have.

    `mark`: see `new_rows`; `rows`: how many of the open days, whoever's.
    """

    mark: Any
    rows: int


class KeptTotals:
    """The sums of each group, for threads.

    `places`: what rows call what they are of, and whether it is a time. Those of time come before the ids in a page.
    """

    def __init__(self, places: Sequence[tuple[str, bool]], span: Span, seen: Seen) -> None:
        self.span, self.seen = span, seen
        self.groups = 0
        self._sums = [0] * _WIDTH
        names = [name for name, _ in places]
        self._found = namedtuple("Found", (*AMOUNTS, *names))  # type: ignore[misc]
        self._of = [f"of{place}" for place in range(len(places))]
        self._times = [name for name, (_, is_time) in zip(self._of, places, strict=True) if is_time]
        self._ids = [name for name in self._of if name not in self._times]
        self._lock = threading.RLock()
        self._is_closed = False
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for setting in (f"cache_size=-{_CACHE_KB}", "journal_mode=OFF", "synchronous=OFF"):
            self._database.execute(f"PRAGMA {setting}").close()

    @contextmanager
    def held(self, seconds: float) -> Iterator[bool]:
        """Hold it for this thread.

        False: another did for so long, or it is closed.
        """
        if not self._lock.acquire(timeout=seconds):
            yield False
            return
        try:
            yield not self._is_closed
        finally:
            self._lock.release()

    def fill(self, rows: Iterable[Sequence[Any]], rest: Callable[[], None]) -> None:
        """Take each group's amounts, and what it is of, in any order.

        `rest` is called between helpings. Raises NotKept, and what SQLite raises where there is no room.
        """
        columns = [f"{name} {'INTEGER' if name in self._times else 'TEXT'}" for name in self._of]
        columns += [f"{name} INTEGER" for name in AMOUNTS]
        key = ", ".join(self._of)
        self._database.execute(f"CREATE TABLE kept ({', '.join(columns)}, PRIMARY KEY ({key})) WITHOUT ROWID")
        self._add_all(rows, rest)
        for order in _ORDERS:
            rest()
            self._database.execute(f"CREATE INDEX by_{order} ON kept ({', '.join(self._ordered(order))})")

    def add(
        self, rows: Iterable[Sequence[Any]], seen: Seen, open_days: frozenset[int], rest: Callable[[], None]
    ) -> None:
        """Add rows that came since, by their groups.

        `open_days`: days that have begun besides. Raises as `fill`; then it is to be closed.
        """
        self._add_all(rows, rest)
        self.seen = seen
        days, old, changes = self.span
        self.span = Span(days | open_days, old | open_days, changes)

    def page(self, order: Order | None, before: Any, most: int) -> list[Any]:
        """Return the first rows behind `before`, while it is held.

        `before`: a row of the report, its amounts first.
        """
        where, values = ("", []) if before is None else self._behind(order or "requests", before)
        query = f"SELECT {', '.join((*AMOUNTS, *self._of))} FROM kept {where} "  # noqa: S608 - names of ours
        query += f"ORDER BY {', '.join((*self._ordered(order or 'requests'), *self._ids))} LIMIT {most}"
        rows = self._database.execute(query, values).fetchall()
        return [self._found(*row[:_WIDTH], *map(_read, row[_WIDTH:])) for row in rows]

    @property
    def is_by_time(self) -> bool:
        """Whether a report has more days than these totals."""
        return bool(self._times)

    @property
    def totals(self) -> tuple[int, ...]:
        """All groups' sums, while it is held."""
        return tuple(self._sums)

    def _add_all(self, rows: Iterable[Sequence[Any]], rest: Callable[[], None]) -> None:
        read = iter(rows)
        while helping := list(islice(read, AT_ONCE)):
            self._add(helping)
            rest()

    def _add(self, rows: Sequence[Sequence[Any]]) -> None:
        if any(isinstance(of, str) and NONE < of < BEHIND_QUOTE for row in rows for of in row[_WIDTH:]):
            raise NotKept  # in quotes: it may come together with another, which a database tells
        some = [(*map(int, row[:_WIDTH]), *map(_stored, row[_WIDTH:])) for row in rows]
        self._sums = [before + sum(row[place] for row in some) for place, before in enumerate(self._sums)]
        if max(self._sums) > _MOST:
            raise NotKept
        columns = (*AMOUNTS, *self._of)
        more = ", ".join(f"{name} = {name} + excluded.{name}" for name in AMOUNTS)
        statement = f"INSERT INTO kept ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
        self._database.execute("BEGIN")
        self._database.executemany(f"{statement} ON CONFLICT ({', '.join(self._of)}) DO UPDATE SET {more}", some)
        self._database.execute("COMMIT")
        self.groups += len(some)
        if self.groups > MOST_GROUPS and self.count() > MOST_GROUPS:
            raise NotKept

    def count(self) -> int:
        """Count `groups`: those of new rows were added, though they may have come again."""
        with self._lock:
            if not self._is_closed:
                (self.groups,) = self._database.execute("SELECT count(*) FROM kept").fetchone()
            return self.groups

    def _ordered(self, order: Order) -> list[str]:
        by_requests = [] if order == "requests" and not self._times else ["requests DESC"]
        return [f"{AMOUNT_OF[order]} DESC", *self._times, *by_requests]

    def _behind(self, order: Order, before: Any) -> tuple[str, list[Any]]:
        """Return the condition of what comes later, and its values."""
        row = dict(zip(AMOUNTS, map(int, before[:_WIDTH]), strict=True))
        row |= dict(zip(self._of, map(_stored, before[_WIDTH:]), strict=False))
        amount = AMOUNT_OF[order]
        ids = f"({', '.join(self._ids)}) > ({', '.join('?' * len(self._ids))})" if self._ids else "0"
        condition, values = ids, [row[name] for name in self._ids]
        for column, further in (("requests", "<"), *((name, ">") for name in reversed(self._times)), (amount, "<")):
            condition = f"({column} {further} ? OR {column} = ? AND {condition})"
            values = [row[column], row[column], *values]
        return f"WHERE {amount} <= ? AND {condition}", [row[amount], *values]

    def close(self) -> None:
        """Give its room back, once no thread reads it."""
        with self._lock:
            self._is_closed = True
            self._database.close()


class Keeping(Protocol):
    """A report's kept totals, as one snapshot has them."""

    def held(self, usage: UsageQuery) -> AbstractContextManager[KeptTotals | None]:
        """Hold a span's totals; None: nothing is kept of it.

        The block ends where they cannot be read.
        """

    def asked(self, usage: UsageQuery, seconds: float) -> None:
        """Keep it for the next one, where it took long."""


def _stored(of: Any) -> Any:
    """A time as it is; ids so that `NONE` comes first."""
    if not isinstance(of, str):
        return int(of)
    return "" if of == NONE else _ID_MARK + of


def _read(of: Any) -> Any:
    return of if not isinstance(of, str) else of[1:] or NONE
