"""Write rows in repeatable batches, and expire old ones.

Used by one thread.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection, func, inspect, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from gateway.types import Secret
from gateway.usage.sql.database import Database, is_deadlock
from gateway.usage.sql.long_ids import fitted
from gateway.usage.sql.migrations.runner import migrate, steps_left, steps_missing, take_one
from gateway.usage.sql.migrations.steps import AT_ONCE
from gateway.usage.sql.row_inserts import preparer
from gateway.usage.sql.rows import Row
from gateway.usage.sql.sums import keeping, recounting, rolling
from gateway.usage.sql.sums.adding import Adder
from gateway.usage.sql.sums.additions import additions_of_rows
from gateway.usage.sql.table import ai_usage, insert_new, long_ids, prices

WRITE_SECONDS = 15
STEP_SECONDS = 3_600  # an index of a hundred million rows
_A_MOMENT_SECONDS = 3.0
_ASKED_AT_ONCE = 500  # ids
_MOST_DEADLOCKS = 5  # in a row
_NOT_THE_DATABASES_FAULT = (DataError, IntegrityError, OverflowError, UnicodeError, ValueError)


def _go_on() -> None:
    """Take no rest."""


class Store:
    """Write to the ledger's table.

    Every method may raise what the driver raises; `describe` has it in words.
    """

    def __init__(self, url: Secret, latest: Callable[[], Secret] | None = None) -> None:
        """`latest`: see `Database`."""
        self._database = Database(url, read_only=False, statement_seconds=WRITE_SECONDS, latest=latest)
        self._patient = Database(url, read_only=False, statement_seconds=STEP_SECONDS, latest=latest)
        self._statements = preparer(self._database.engine)
        self._adder = Adder(self._database.dialect)
        self._migrating_until = time.monotonic() + _A_MOMENT_SECONDS  # it may turn out to be
        self._known_prices: set[str | None] = {None}  # are there already
        self._lengths: dict[str, int] = {}  # of the columns that take only so many characters

    def prepare(self) -> None:
        """Make or migrate the tables, as far as writing needs it.

        What takes its time is left to `take_step`. Raises SchemaTooNew.
        """
        if steps_missing(self._database.begin, AT_ONCE):
            with self._migrating():
                migrate(self._patient.begin, AT_ONCE)  # one of them makes an index of all old rows
        with self._database.begin() as connection:
            is_new = connection.scalar(select(ai_usage.c.request_id).limit(1)) is None
            self._lengths = _lengths(connection)
        if is_new:
            migrate(self._database.begin)

    def take_step(self) -> int:
        """Take a step that could wait; return how many are left."""
        if steps_left(self._database.begin) == 0:
            return 0
        with self._migrating():
            return take_one(self._patient.begin)

    @property
    def is_migrating(self) -> bool:
        """Whether steps are taken, or may have been a moment ago."""
        return time.monotonic() < self._migrating_until

    @contextlib.contextmanager
    def _migrating(self) -> Iterator[None]:
        self._migrating_until = math.inf
        try:
            yield
        finally:
            self._migrating_until = time.monotonic() + _A_MOMENT_SECONDS

    def ping(self) -> None:
        """Raise where the database does not answer."""
        with self._database.begin() as connection:
            connection.execute(text("SELECT 1"))

    def insert(self, rows: Sequence[Row], rest: Callable[[], None] = _go_on) -> list[tuple[Row, Exception]]:
        """Store rows that are new; return those never storable.

        Those that no try will ever get in. `rest` is called now and then, while no transaction is open.
        """
        try:
            self._insert_together(rows, rest)
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            return self._insert_those_missing(rows)
        return []

    def _insert_together(self, rows: Sequence[Row], rest: Callable[[], None] = _go_on) -> None:
        """Store all of them and their sums, or nothing.

        Raises IntegrityError where one is there already.
        """
        too_long: dict[str, str] = {}
        if self._lengths:
            rows = [fitted(row, self._lengths, too_long) for row in rows]
        new_prices = {row.price_id: row.price for row in rows if row.price_id not in self._known_prices}
        statements = self._statements(rows, rest)
        added = additions_of_rows(rows, rest)
        for is_last in (False,) * _MOST_DEADLOCKS + (True,):
            try:
                with self._database.begin() as connection:
                    self._adder.hold_gate(connection)
                    self._insert_beside(connection, new_prices, too_long)
                    for statement, values in statements:
                        connection.exec_driver_sql(statement, values)
                    self._adder.add_sums(connection, added)
            except DBAPIError as error:
                if is_last or not is_deadlock(error):
                    raise
            else:
                break
        self._known_prices.update(new_prices)

    def _insert_beside(
        self, connection: Connection, new_prices: dict[str | None, str | None], too_long: dict[str, str]
    ) -> None:
        dialect = self._database.dialect
        if new_prices:
            ids = [{"id": key, "price": new_prices[key]} for key in sorted(key for key in new_prices if key)]
            connection.execute(insert_new(prices, dialect), ids)
        if too_long:
            whole = [{"hash": key, "id": too_long[key]} for key in sorted(too_long)]
            connection.execute(insert_new(long_ids, dialect), whole)

    def _insert_those_missing(self, rows: Sequence[Row]) -> list[tuple[Row, Exception]]:
        """Leave alone what comes again, and refuse single bad rows."""
        missing = rows
        try:
            missing = self._missing(rows)
            if missing:
                self._insert_together(missing)
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            return self._insert_in_halves(missing)
        return []

    def _missing(self, rows: Sequence[Row]) -> list[Row]:
        """Return those that are not there, each once."""
        by_id: dict[str, Row] = {}
        for row in rows:
            by_id.setdefault(row.request_id, row)
        with self._database.begin() as connection:
            ids = list(by_id)
            for start in range(0, len(ids), _ASKED_AT_ONCE):
                asked = ai_usage.c.request_id.in_(ids[start : start + _ASKED_AT_ONCE])
                for request_id in connection.scalars(select(ai_usage.c.request_id).where(asked)):
                    by_id.pop(request_id, None)
        return list(by_id.values())

    def _insert_in_halves(self, rows: Sequence[Row]) -> list[tuple[Row, Exception]]:
        """Find the bad rows among them; all others are stored."""
        if len(rows) == 1:
            return self._insert_alone(rows[0])
        refused = []
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            try:
                missing = self._missing(half)
                if missing:
                    self._insert_together(missing)
            except Exception as error:
                if not _is_about_a_row(error):
                    raise
                refused += self._insert_in_halves(half)
        return refused

    def _insert_alone(self, row: Row) -> list[tuple[Row, Exception]]:
        try:
            if self._missing([row]):
                self._insert_together([row])
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            if self._is_missing(row):
                return [(row, error)]
        return []

    def _is_missing(self, row: Row) -> bool:
        """Whether no other process has stored it meanwhile.

        An id that cannot even be queried is nowhere.
        """
        try:
            return bool(self._missing([row]))
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            return True

    def expire(self, before_ms: int) -> int:
        """Delete a few older summed rows; return how many.

        0: none are left.
        """
        with self._database.begin() as connection:
            return keeping.expire_rows(connection, before_ms)

    def expire_sums(self, before_ms: int) -> None:
        """Delete older sums."""
        with self._database.begin() as connection:
            keeping.expire_sums(connection, before_ms)

    def add_some(self) -> int:
        """Add a few unsummed rows to the sums; return how many.

        0: all are, or another process was faster.
        """
        try:
            with self._database.begin() as connection:
                return keeping.add_some(connection, self._adder)
        except keeping.Overtaken:
            return 0

    def recount_some(self) -> bool:
        """Add cached tokens that older sums lack; False: none do.

        Of a few rows, the newest first.
        """
        try:
            with self._database.begin() as connection:
                return recounting.recount_some(connection, self._adder)
        except keeping.Overtaken:
            return True

    def due_blocks(self, now_ms: int) -> list[int]:
        """Return the blocks of days that can be made now (see `sums.day_blocks`)."""
        with self._database.begin() as connection:
            return rolling.due_blocks(connection, now_ms)

    def make_blocks(self, due: Sequence[int]) -> int:
        """Make the first of them; return how many are done with."""
        with self._database.begin() as connection:
            return rolling.make_blocks(connection, due)

    def is_summed(self) -> bool:
        """Whether every row is in the sums."""
        with self._database.begin() as connection:
            return keeping.is_summed(connection)

    def count(self) -> int:
        with self._database.begin() as connection:
            return connection.scalar(select(func.count()).select_from(ai_usage)) or 0

    def undo_some(self, from_ms: int) -> keeping.Undone:
        """Take the next days' rows out of the sums."""
        with self._database.begin() as connection:
            return keeping.undo_some(connection, from_ms)

    def describe(self, error: BaseException) -> str:
        return self._database.describe(error)

    def cut(self) -> None:
        """End what another thread does in the database.

        Its time is up.
        """
        self._database.cut()
        self._patient.cut()

    def close(self) -> None:
        self._database.close()
        self._patient.close()


def _lengths(connection: Connection) -> dict[str, int]:
    """Return the columns' lengths as the table has them.

    An earlier version may have made it. SQLite holds to no length.
    """
    if connection.dialect.name == "sqlite":
        return {}
    columns = inspect(connection).get_columns(ai_usage.name)
    return {each["name"]: length for each in columns if (length := getattr(each["type"], "length", None))}


def _is_about_a_row(error: Exception) -> bool:
    cause = error.orig if type(error) is StatementError and error.orig is not None else error
    return isinstance(cause, _NOT_THE_DATABASES_FAULT)
