"""Add rows to the sums, within the transaction that brings them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from gateway.usage.sql.long_ids import in_sums
from gateway.usage.sql.sums.additions import Additions, additions_of
from gateway.usage.sql.sums.day_blocks import DAY, around, number_of
from gateway.usage.sql.sums.sum_tables import CHANGES, GATE, HOURLY_VALUES, VALUES, daily, hours, made, marks
from gateway.usage.sql.table import insert_new, long_ids

_AT_ONCE = (200, 50, 10, 1)  # a statement of each size on SQLite
_LOOKED_AT_ONCE = 1_000  # blocks
_MOST_STATEMENTS = 64
_VALUES = {daily.name: VALUES, hours.name: HOURLY_VALUES}
_HELD = select(marks.c.value).where(marks.c.name == GATE).with_for_update(read=True)
_CHANGED = update(marks).where(marks.c.name == CHANGES).values(value=marks.c.value + 1)


def count_change(connection: Connection) -> None:
    """Say that days which had ended have changed."""
    connection.execute(_CHANGED)


class Adder:
    """Add to the sums by statements that are made once."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def hold_gate(self, connection: Connection) -> None:
        """Keep the sums from being made anew until the transaction ends.

        SQLite has one writer anyway.
        """
        if self._dialect != "sqlite":
            connection.execute(_HELD)

    def add(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        self.add_sums(connection, additions_of(rows))

    def add_sums(self, connection: Connection, added: Additions) -> None:
        if self._dialect == "sqlite":
            _upsert_many(connection, daily, added.daily)
            _upsert_many(connection, hours, added.hours)
        else:
            whole: dict[str, str] = {}
            of_days, of_hours = _fitted(daily, added.daily, whole, _part), _fitted(hours, added.hours, whole, _owner)
            if whole:
                ids = [{"hash": key, "id": whole[key]} for key in sorted(whole)]
                connection.execute(insert_new(long_ids, self._dialect), ids)
            self._upsert(connection, daily, of_days)
            self._upsert(connection, hours, of_hours)
        self._list(connection, added.days)

    def _list(self, connection: Connection, of_days: list[int]) -> None:
        """List the days, and strike out the blocks around them.

        They had them without these rows. Blocks are made while the gate is closed: none comes between the look and
        the end.
        """
        numbers = {day: [number_of(day, DAY), *around(day)] for day in of_days}
        asked = [number for each in numbers.values() for number in each]
        listed = set[int]()
        for begun in range(0, len(asked), _LOOKED_AT_ONCE):
            some = tuple(asked[begun : begun + _LOOKED_AT_ONCE])
            listed.update(connection.exec_driver_sql(_look(self._dialect, len(some)), some).scalars())
        if changed := sorted(listed.difference(each[0] for each in numbers.values())):
            connection.execute(delete(made).where(made.c.block.in_(changed)))
            count_change(connection)
        if new := [{"block": each[0]} for each in numbers.values() if each[0] not in listed]:
            connection.execute(insert_new(made, self._dialect), new)

    def _upsert(self, connection: Connection, table: Table, sums: list[tuple[Any, ...]]) -> None:
        if sums:
            connection.exec_driver_sql(_statement(table, self._dialect, 1), sums)


def _upsert_many(connection: Connection, table: Table, sums: list[Any]) -> None:
    """Add them, many by one statement, see `row_inserts`."""
    keys = len(table.primary_key)
    zeros, parameters = _without_zeros(sums, keys, len(table.columns))
    of_a_sum = len(table.columns) - len(zeros)
    left = len(parameters) // of_a_sum
    for size in _AT_ONCE:
        while left > min(size - size // 4, size - 1):
            together, parameters = parameters[: size * of_a_sum], parameters[size * of_a_sum :]
            if left < size:  # where a few are missing, the last comes again with nothing to add
                nothing = together[-of_a_sum:][:keys] + [0] * (of_a_sum - keys)
                together += nothing * (size - left)
            connection.exec_driver_sql(_statement(table, "sqlite", size, zeros), tuple(together))
            left = max(0, left - size)


def _without_zeros(sums: list[Any], keys: int, columns: int) -> tuple[tuple[int, ...], list[Any]]:
    """Return the places of empty columns, and all other parameters."""
    zeros = [place for place in range(keys, columns) if not any(sums[place::columns])]
    if not zeros or len(zeros) == columns - keys:
        return (), sums
    parameters = sums.copy()  # it may come again
    for gone, place in enumerate(reversed(zeros)):
        del parameters[place :: columns - gone]
    return tuple(zeros), parameters


def _fitted(
    table: Table, sums: list[Any], whole: dict[str, str], fit: Callable[[Any, dict[str, str]], Any]
) -> list[tuple[Any, ...]]:
    """Fit keys to their columns, and sort, against deadlocks.

    `whole` gets the ids that are longer.
    """
    columns, keys = len(table.columns), len(table.primary_key)
    each = (sums[begun : begun + columns] for begun in range(0, len(sums), columns))
    return sorted((*(fit(part, whole) for part in of[:keys]), *of[keys:]) for of in each)


def _owner(part: int | str, whole: dict[str, str]) -> int | str:
    if not isinstance(part, str):
        return part
    kind, colon, of = part.partition(":")
    return kind + colon + in_sums(of, whole)


def _part(part: int | str, whole: dict[str, str]) -> int | str:
    return in_sums(part, whole) if isinstance(part, str) else part


@lru_cache(maxsize=_MOST_STATEMENTS)
def _look(dialect: str, numbers: int) -> str:
    """Return the query of which of so many blocks are listed."""
    marked = ", ".join([_mark(dialect)] * numbers)
    return f"SELECT {made.c.block.name} FROM {made.name} WHERE {made.c.block.name} IN ({marked})"  # noqa: S608 - names of ours


def _mark(dialect: str) -> str:
    return "?" if dialect == "sqlite" else "%s"


@lru_cache(maxsize=_MOST_STATEMENTS)
def _statement(table: Table, dialect: str, rows: int, zeros: tuple[int, ...] = ()) -> str:
    """`zeros`: the places of columns that have nothing to add."""
    names = [column.name for column in table.columns]
    values = [name for place, name in enumerate(names) if name in _VALUES[table.name] and place not in zeros]
    row = f"({', '.join('0' if place in zeros else _mark(dialect) for place in range(len(names)))})"
    # SQLite would copy each page before, to undo the statement alone: all is undone where one fails.
    insert = "INSERT OR FAIL" if dialect == "sqlite" else "INSERT"
    insert = f"{insert} INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # names of ours
    if dialect in ("mysql", "mariadb"):
        return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(f'{name} = {name} + VALUES({name})' for name in values)}"
    keys = ", ".join(column.name for column in table.primary_key)
    changed = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in values)
    return f"{insert} ON CONFLICT ({keys}) DO UPDATE SET {changed}"
