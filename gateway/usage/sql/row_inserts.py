"""Insert rows by statements that are made once.

The values are plain already: SQLAlchemy's look at each of them took half of the whole time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter, pos
from typing import Any

from sqlalchemy import Boolean, Connection, Engine

from gateway.usage.sql.rows import Row
from gateway.usage.sql.table import ai_usage

_AT_ONCE = (400, 100, 25, 5, 1)  # a statement of each size; SQLite takes 32,766 parameters
_NAMES = frozenset(column.name for column in ai_usage.columns)
_OPTIONAL = frozenset(column.name for column in ai_usage.columns if column.nullable)
_TRUTHS = frozenset(column.name for column in ai_usage.columns if isinstance(column.type, Boolean))
_MOST_STATEMENTS = 64

Insert = Callable[[Connection, Sequence[Row]], None]


def inserter(engine: Engine) -> Insert:
    """How rows go into this database. It raises what the driver raises."""
    if engine.dialect.name == "sqlite":
        return _insert_into_sqlite
    compiled = ai_usage.insert().compile(dialect=engine.dialect)
    statement, order = str(compiled), compiled.positiontup
    values_of: Callable[[Row], Any] = (
        Row._asdict if order is None else itemgetter(*(Row._fields.index(name) for name in order))
    )

    def insert(connection: Connection, rows: Sequence[Row]) -> None:
        if rows:
            connection.exec_driver_sql(statement, [values_of(row) for row in rows])

    return insert


def _insert_into_sqlite(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert a few hundred by one statement.

    The driver lets go of the interpreter's lock for each statement that it runs, and has to win it back from the event
    loop each time. Columns that no row has a value in are left out, and truths are numbers: the driver asks None and
    bool for an adapter and a protocol, which takes longer than three numbers.
    """
    there = [
        (name, tuple(map(pos, column)) if name in _TRUTHS else column)
        for name, column in zip(Row._fields, zip(*rows, strict=True), strict=False)
        if name in _NAMES and not (name in _OPTIONAL and column[0] is None and column.count(None) == len(column))
    ]
    names = tuple(name for name, _ in there)
    values = list(zip(*(column for _, column in there), strict=True))
    begun = 0
    for size in _AT_ONCE:
        while len(values) - begun >= size:
            some = tuple(chain.from_iterable(values[begun : begun + size]))
            connection.exec_driver_sql(_statement(names, size), some)
            begun += size


@lru_cache(maxsize=_MOST_STATEMENTS)
def _statement(names: tuple[str, ...], rows: int) -> str:
    """Return an insert that stops where a row is there already.

    The transaction is rolled back then. Left to undo the statement alone (`OR ABORT`), SQLite copies each page that it
    changes to a file before, which takes as long as the rest of it.
    """
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT OR FAIL INTO {ai_usage.name} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of ours
