"""Insert rows by statements that are made once.

The values are plain already: SQLAlchemy's look at each of them took half of the whole time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Boolean, Engine

from gateway.usage.sql.rows import COLUMNS, Row, values_of
from gateway.usage.sql.table import ai_usage

_AT_ONCE = (400, 100, 25, 5, 1)  # a statement of each size; SQLite takes 32,766 parameters
_OPTIONAL = tuple(place for place, name in enumerate(COLUMNS) if ai_usage.columns[name].nullable)
_TRUTHS = frozenset(name for name in COLUMNS if isinstance(ai_usage.columns[name].type, Boolean))
_MOST_STATEMENTS = 64

Statements = list[tuple[str, Any]]  # with parameters, as the driver takes them
Prepare = Callable[[Sequence[Row], Callable[[], None]], Statements]


def preparer(engine: Engine) -> Prepare:
    """How rows become statements for this database; `rest` is called between helpings."""
    if engine.dialect.name == "sqlite":
        return _for_sqlite
    compiled = ai_usage.insert().compile(dialect=engine.dialect)
    statement, order = str(compiled), compiled.positiontup

    def prepare(rows: Sequence[Row], _: Callable[[], None]) -> Statements:
        named = [_by_name(values) for values in values_of(rows)]
        parameters = named if order is None else [tuple(map(each.__getitem__, order)) for each in named]
        return [(statement, parameters)] if parameters else []

    return prepare


def _by_name(values: tuple[Any, ...]) -> dict[str, Any]:
    named = zip(COLUMNS, values, strict=True)
    return {name: bool(value) if name in _TRUTHS else value for name, value in named}


def _for_sqlite(rows: Sequence[Row], rest: Callable[[], None]) -> Statements:
    """Insert a few hundred by one statement.

    The driver lets go of the interpreter's lock for each statement that it runs, and has to win it back from the event
    loop each time. Columns that no row has a value in are left out: the driver asks None for an adapter and a
    protocol, which takes longer than three numbers.
    """
    helpings, absent = [], list(_OPTIONAL)
    for some in _helpings(rows):
        values = list(chain.from_iterable(values_of(some)))
        absent = [place for place in absent if values[place :: len(COLUMNS)].count(None) == len(some)]
        helpings.append((len(some), values))
        if len(some) == _AT_ONCE[0]:
            rest()
    names = tuple(name for place, name in enumerate(COLUMNS) if place not in absent)
    for _, values in helpings:
        for gone, place in enumerate(reversed(absent)):
            del values[place :: len(COLUMNS) - gone]
    return [(_statement(names, size), tuple(values)) for size, values in helpings]


def _helpings(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    begun = 0
    for size in _AT_ONCE:
        while len(rows) - begun >= size:
            yield rows[begun : begun + size]
            begun += size


@lru_cache(maxsize=_MOST_STATEMENTS)
def _statement(names: tuple[str, ...], rows: int) -> str:
    """Return an insert that stops where a row is there already.

    The transaction is rolled back then. Left to undo the statement alone (`OR ABORT`), SQLite copies each page that it
    changes to a file before, which takes as long as the rest of it.
    """
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT OR FAIL INTO {ai_usage.name} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of ours
