"""Read the rows stored since an earlier look, whatever their time.

SQLite numbers rows in the order in which they are stored. PostgreSQL writes its transaction's number into each row (a
column with a default, `migrations.steps`), and says of a snapshot which of them it sees: those that ended later than
others which began after them, too. MariaDB has neither.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal_column, select, text

from gateway.usage.reports import Groups, UsageQuery
from gateway.usage.sql.long_ids import in_sums
from gateway.usage.sql.migrations.steps import BY_TRANSACTION
from gateway.usage.sql.pages.kept_totals import AT_ONCE
from gateway.usage.sql.sums.additions import DAY_MS
from gateway.usage.sql.sums.sum_queries import AMOUNTS, part_of_rows, reads_rows, rows_of_days_query
from gateway.usage.sql.table import TRANSACTION, ai_usage, schema_steps

_ROWID: ColumnElement[int] = literal_column(f"{ai_usage.name}.rowid")
_SNAPSHOT = "CAST(:mark AS txid_snapshot)"
# Of transactions that had not begun, and of those that went on: by themselves, for one may go on for hours. Where the
# table was brought from another server, older rows have numbers that are still to come.
_BEGAN = f"txid_snapshot_xmax({_SNAPSHOT}) AND {TRANSACTION} < txid_snapshot_xmax(txid_current_snapshot())"
_WENT_ON = f"ANY (ARRAY (SELECT txid_snapshot_xip({_SNAPSHOT}))) AND {TRANSACTION} IS NOT NULL"
_PLACES = f"SELECT ctid FROM {ai_usage.name} WHERE {TRANSACTION}"  # noqa: S608 - names of ours
# By their place in the table: together with a condition on their time, the index of that would be taken instead.
_IS_NEW = text(f"{ai_usage.name}.ctid = ANY (ARRAY ({_PLACES} >= {_BEGAN} UNION ALL {_PLACES} = {_WENT_ON}))")
_MARKS: dict[str, Select[Any]] = {
    "sqlite": select(func.coalesce(func.max(_ROWID), 0)).select_from(ai_usage),
    "postgresql": select(text("CAST(txid_current_snapshot() AS text)")),
}
_STEP = select(schema_steps.c.step).where(schema_steps.c.step == BY_TRANSACTION)


class NewRows:
    """What one snapshot sees of them."""

    def __init__(self, connection: Connection, dialect: str) -> None:
        self._connection = connection
        self._dialect = dialect

    def are_known(self) -> bool:
        """Whether this database tells them from others."""
        if self._dialect == "postgresql":
            return self._connection.scalar(_STEP) is not None
        return self._dialect in _MARKS

    def mark(self) -> Any:
        """What `of_groups` begins behind, another time."""
        return self._connection.scalar(_MARKS[self._dialect])

    def count(self, days: Collection[int]) -> int:
        """How many rows the sums have of these days, old and new."""
        return int(self._connection.scalar(rows_of_days_query(days)) or 0) if days else 0

    def count_since(self, mark: Any, days: Collection[int]) -> int:
        """How many of these days are new."""
        rows = self._since(mark, select(func.count()).select_from(ai_usage).where(ai_usage.c.summed.is_not(None)))
        of_days = (ai_usage.c.time_ms.between(day * DAY_MS, day * DAY_MS + DAY_MS - 1) for day in days)
        return sum(int(self._connection.scalar(rows.where(of_day)) or 0) for of_day in of_days)

    def of_groups(
        self, usage: UsageQuery, groups: Groups, mark: Any, days: Collection[int]
    ) -> Generator[Sequence[Any]]:
        """Yield the new rows' sums by group, ids as sums have them.

        Amounts first; a group comes once for each day.
        """
        are_whole, width = self._dialect == "sqlite" or reads_rows(usage, groups), len(AMOUNTS)
        for day in days:
            part = part_of_rows(usage, groups, range(day * DAY_MS, day * DAY_MS + DAY_MS))
            query = part._replace(found=self._since(mark, part.found)).summed()
            with self._connection.execute(query, execution_options={"yield_per": AT_ONCE}) as found:
                for row in found:
                    yield row if are_whole else (*row[:width], *map(_as_in_sums, row[width:]))

    def _since(self, mark: Any, query: Select[Any]) -> Select[Any]:
        if self._dialect == "sqlite":
            # Not by their time: a day has more of them.
            return query.where(mark < _ROWID).with_hint(ai_usage, "NOT INDEXED", "sqlite")
        return query.where(_IS_NEW.bindparams(mark=mark))


def _as_in_sums(of: Any) -> Any:
    return in_sums(of, {}) if isinstance(of, str) else of
