"""Read the days that are added to kept totals: each group's amount first, all of it for few."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select

from gateway.usage.sql.pages.kept_totals import BETWEEN, NotKept
from gateway.usage.sql.sums.sum_queries import Part

MOST_GROUPS = 200_000
AT_ONCE = 500  # rows that are read together
_MOST_NAMED = 2_000  # ids in one statement


class OtherDays:
    """Some parts of a report, by its groups' ids."""

    def __init__(self, connection: Connection, parts: Sequence[Part], places: Sequence[str]) -> None:
        self._connection = connection
        self._parts = parts
        self._places = places

    def amounts(self, place: int) -> dict[str, int]:
        """Sum one amount of each group.

        Raises NotKept beyond MOST_GROUPS: so many in memory are more than a page is worth.
        """
        found: dict[str, int] = {}
        for part in self._parts:
            for ids, used in self._rows(part.found.add_columns(self._joined(part), part.amounts[place])):
                found[ids] = found.get(ids, 0) + int(used)
                if len(found) > MOST_GROUPS:
                    raise NotKept("the days beside have too many groups")
        return found

    def whole(self, groups: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Sum all amounts of these groups, found by each of their ids."""
        found: dict[str, tuple[int, ...]] = {}
        named = zip(self._places, zip(*(ids.split(BETWEEN) for ids in groups), strict=True), strict=True)
        by = {name: {*ids} for name, ids in named}
        for part in self._parts:
            near = [part.of[name].in_(ids) for name, ids in by.items() if len(ids) <= _MOST_NAMED]
            for row in self._rows(part.found.add_columns(*part.amounts, self._joined(part)).where(*near)):
                ids, used = row[-1], map(int, row[:-1])
                if ids in groups:
                    found[ids] = tuple(map(add, found[ids], used) if ids in found else used)
        return found

    def _rows(self, query: Select[Any]) -> Iterator[Any]:
        """Read a few at a time: the collector meets fewer."""
        for some in self._connection.execute(query).partitions(AT_ONCE):
            yield from some

    def _joined(self, part: Part) -> ColumnElement[str]:
        """Join a group's ids to one text."""
        first, *others = (part.of[name] for name in self._places)
        for column in others:
            first = first.concat(BETWEEN).concat(column)
        return first
