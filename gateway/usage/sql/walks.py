"""Walk along one user's rows in order of time.

Or an organisation's, a few days at a time. Their index begins with the day, so that a batch of rows goes into few of
its pages. A single day's rows of one user lie in order and are not sorted; the more days without rows, the more are
asked for together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, func, select, union_all
from sqlalchemy.ext.compiler import compiles

from gateway.usage.sql.table import ai_usage

DAY_MS = 86_400_000
MARIADBS_DAY = "day_number"  # a column that is computed: it has no indexes of expressions
DAY_OF = f"time_ms / {DAY_MS}"  # word for word in the index and in each query
_MOST_DAYS = 256

Walk = tuple[ColumnElement[Any], Sequence[str]]  # the column that narrows it, and every text that it may have


class DayOf(ColumnElement[int]):
    """A row's day since 1970, as the indexes have it."""

    type = BigInteger()
    inherit_cache = True


@compiles(DayOf)
def _expression(element: DayOf, compiler: Any, **_: Any) -> str:
    return f"({ai_usage.name}.{DAY_OF})"


@compiles(DayOf, "mysql")
@compiles(DayOf, "mariadb")
def _column(element: DayOf, compiler: Any, **_: Any) -> str:
    return f"{ai_usage.name}.{MARIADBS_DAY}"


def of_days(days: Sequence[int]) -> ColumnElement[bool]:
    return DayOf().in_(bindparam(None, list(days), expanding=True, literal_execute=True))


def edges_query() -> Select[Any]:
    """Query the times of the oldest and the newest row."""
    edges = (("oldest", func.min), ("newest", func.max))
    return select(*(select(edge(ai_usage.c.time_ms)).scalar_subquery().label(name) for name, edge in edges))


def spans(first: int, last: int, *, newest_first: bool = False) -> Iterator[range]:
    """Yield all days in growing pieces; both ends count."""
    length = 1
    while first <= last:
        if newest_first:
            yield range(max(first, last - length + 1), last + 1)
            last -= length
        else:
            yield range(first, min(last, first + length - 1) + 1)
            first += length
        length = min(length * 2, _MOST_DAYS)


def walk_query(query: Select[Any], walked: Walk, days: Sequence[int], order: Sequence[str], most: int) -> Any:
    """Return the query of a piece's first rows.

    `order`: names of columns, `-` before those that fall.
    """
    column, forms = walked
    query = query.where(of_days(days)) if len(days) > 1 else query.where(DayOf() == days[0])
    if len(days) > 1 or len(forms) == 1:
        narrowed = query.where(column.in_(forms) if len(forms) > 1 else column == forms[0])
        return narrowed.order_by(*_ordered(ai_usage.c, order)).limit(most)
    # Of several texts for one id each has its own walk: in one condition they would be sorted anew.
    parts = [query.where(column == form).order_by(*_ordered(ai_usage.c, order)).limit(most) for form in forms]
    merged = union_all(*(select(part.subquery(f"walk{place}")) for place, part in enumerate(parts)))
    return merged.order_by(*_ordered(merged.selected_columns, order)).limit(most)


def _ordered(columns: Any, order: Sequence[str]) -> list[Any]:
    return [columns[name[1:]].desc() if name.startswith("-") else columns[name] for name in order]
