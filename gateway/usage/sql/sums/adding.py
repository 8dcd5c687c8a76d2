"""Add rows to the sums, within the transaction that brings them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from gateway.usage.sql.long_ids import in_sums
from gateway.usage.sql.sums.additions import Additions, Key, Values, additions_of
from gateway.usage.sql.sums.day_blocks import DAY, around, number_of
from gateway.usage.sql.sums.sum_tables import CHANGES, GATE, HOURLY_VALUES, VALUES, daily, hours, made, marks
from gateway.usage.sql.table import insert_new, long_ids

_AT_ONCE = (200, 50, 10, 1)  # a statement of each size on SQLite
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
        of_days, of_hours = added.daily, added.hours
        if self._dialect != "sqlite":
            whole: dict[str, str] = {}
            of_days, of_hours = _fitted(of_days, whole, _part), _fitted(of_hours, whole, _owner)
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
        listed = set(connection.scalars(select(made.c.block).where(made.c.block.in_(asked))))
        if changed := sorted(listed.difference(each[0] for each in numbers.values())):
            connection.execute(delete(made).where(made.c.block.in_(changed)))
            count_change(connection)
        if new := [{"block": each[0]} for each in numbers.values() if each[0] not in listed]:
            connection.execute(insert_new(made, self._dialect), new)

    def _upsert(self, connection: Connection, table: Table, sums: list[tuple[Key, Values]]) -> None:
        """Add them; on SQLite many by one statement, see `row_inserts`."""
        parameters = [key + values for key, values in sums]
        if self._dialect != "sqlite":
            if parameters:
                connection.exec_driver_sql(_statement(table, self._dialect, 1), parameters)
            return
        zeros, parameters = _without_zeros(parameters, len(table.primary_key))
        for size in _AT_ONCE:
            while len(parameters) > min(size - size // 4, size - 1):
                together, parameters = parameters[:size], parameters[size:]
                # Where a few are missing, the last comes again with nothing to add.
                nothing = together[-1][: len(table.primary_key)]
                nothing += (0,) * (len(together[-1]) - len(nothing))
                together += [nothing] * (size - len(together))
                statement = _statement(table, self._dialect, size, zeros)
                connection.exec_driver_sql(statement, tuple(chain.from_iterable(together)))


def _without_zeros(parameters: list[Values], keys: int) -> tuple[tuple[int, ...], list[Values]]:
    """Leave out columns that have nothing to add; return their places, too."""
    columns = list(enumerate(zip(*parameters, strict=True)))
    zeros = tuple(place for place, column in columns if place >= keys and not any(column))
    if not zeros or len(zeros) == len(columns) - keys:
        return (), parameters
    return zeros, list(zip(*(column for place, column in columns if place not in zeros), strict=True))


def _fitted(
    sums: list[tuple[Key, Values]], whole: dict[str, str], fit: Callable[[Any, dict[str, str]], Any]
) -> list[tuple[Key, Values]]:
    """Fit keys to their columns; `whole` gets the ids that are longer."""
    return sorted((tuple(fit(part, whole) for part in key), values) for key, values in sums)


def _owner(part: int | str, whole: dict[str, str]) -> int | str:
    if not isinstance(part, str):
        return part
    kind, colon, of = part.partition(":")
    return kind + colon + in_sums(of, whole)


def _part(part: int | str, whole: dict[str, str]) -> int | str:
    return in_sums(part, whole) if isinstance(part, str) else part


@lru_cache(maxsize=_MOST_STATEMENTS)
def _statement(table: Table, dialect: str, rows: int, zeros: tuple[int, ...] = ()) -> str:
    """`zeros`: the places of columns that have nothing to add."""
    names = [column.name for column in table.columns]
    values = [name for place, name in enumerate(names) if name in _VALUES[table.name] and place not in zeros]
    mark = "?" if dialect == "sqlite" else "%s"
    row = f"({', '.join('0' if place in zeros else mark for place in range(len(names)))})"
    # SQLite would copy each page before, to undo the statement alone: all is undone where one fails.
    insert = "INSERT OR FAIL" if dialect == "sqlite" else "INSERT"
    insert = f"{insert} INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # names of ours
    if dialect in ("mysql", "mariadb"):
        return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(f'{name} = {name} + VALUES({name})' for name in values)}"
    keys = ", ".join(column.name for column in table.primary_key)
    changed = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in values)
    return f"{insert} ON CONFLICT ({keys}) DO UPDATE SET {changed}"
