"""Order and cut a report in memory; in SQL: `sql/pages/page_queries.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from gateway.types import Id, id_text
from gateway.usage.reports import Order, Totals, UsageReport, UsageRow

_AMOUNTS: dict[Order, Callable[[Totals], int]] = {
    "cost": lambda totals: totals.cost_nano,
    "tokens": lambda totals: totals.tokens,
    "requests": lambda totals: totals.requests,
}


class Paging(NamedTuple):
    """How much of a report is wanted.

    `order`: the most of it first; None: as reports are. `after`: the `lastId` of the page before.
    """

    order: Order | None = None
    limit: int | None = None
    after: str | None = None


WHOLE = Paging()


class Page(NamedTuple):
    """A report of fewer rows, its totals whole.

    `last`: None where it has no rows.
    """

    report: UsageReport
    has_more: bool
    last: str | None


def page_of(report: UsageReport, wanted: Paging) -> Page:
    """Cut a page out of a report.

    Raises ValueError where no row is `after`.
    """
    rows = list(report.rows)
    if wanted.order is not None:
        amount = _AMOUNTS[wanted.order]
        rows.sort(key=lambda row: -amount(row.totals))
    if wanted.after is not None:
        rows = _behind(rows, wanted.after)
    return cut(UsageReport(report.totals, tuple(rows)), wanted.limit)


def cut(report: UsageReport, limit: int | None) -> Page:
    """Take the first rows; all without a limit."""
    most = len(report.rows) if limit is None else limit
    rows = report.rows[:most]
    return Page(UsageReport(report.totals, rows), len(report.rows) > most, row_id(rows[-1]) if rows else None)


def row_id(row: UsageRow) -> str:
    """What identifies a row.

    Its id, or the ids of all its groups with commas in between.
    """
    others = [value for value in (row.model, row.second) if value is not None]
    if not others:
        return _plain(row.of)
    return ",".join(quote(_plain(value), safe="") for value in (row.of, *others))


def _plain(value: Id | None) -> str:
    return "null" if value is None else id_text(value)


def _behind(rows: list[UsageRow], after: str) -> list[UsageRow]:
    for place, row in enumerate(rows):
        if row_id(row) == after:
            return rows[place + 1 :]
    raise ValueError("`after` must be the `lastId` of a page of the same report.")
