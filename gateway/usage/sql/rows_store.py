"""Write rows in repeatable batches, and expire old ones.

Used by one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, delete, inspect, select, text
from sqlalchemy.exc import DataError, IntegrityError, StatementError

from gateway.types import Secret
from gateway.usage.sql.database import Database
from gateway.usage.sql.long_ids import fitted
from gateway.usage.sql.migrations.runner import migrate
from gateway.usage.sql.rows import Row
from gateway.usage.sql.table import ai_usage, insert_new, long_ids, prices

WRITE_SECONDS = 15
_EXPIRED_AT_ONCE = 500
ROWS_AT_ONCE = (400, 100, 25, 5)  # a statement of each size; SQLite takes 32,766 parameters
_NOT_THE_DATABASES_FAULT = (DataError, IntegrityError, OverflowError, UnicodeError, ValueError)


class Store:
    """Write to the ledger's table.

    Every method may raise what the driver raises; `describe` has it in words.
    """

    def __init__(self, url: Secret) -> None:
        self._database = Database(url, read_only=False, statement_seconds=WRITE_SECONDS)
        self._insert, self._parameters = _prepared(self._database)
        sizes = ROWS_AT_ONCE if self._database.dialect == "sqlite" else ()
        self._insert_many = [(size, _for_many_rows(self._insert, size)) for size in sizes]
        self._known_prices: set[str | None] = {None}  # are there already
        self._lengths: dict[str, int] = {}  # of the columns that take only so many characters

    def prepare(self) -> None:
        """Make or migrate the tables. Raises SchemaTooNew."""
        migrate(self._database.begin)
        with self._database.begin() as connection:
            self._lengths = _lengths(connection)

    def ping(self) -> None:
        """Raise where the database does not answer."""
        with self._database.begin() as connection:
            connection.execute(text("SELECT 1"))

    def insert(self, rows: Sequence[Row]) -> list[tuple[Row, Exception]]:
        """Store rows that are new; return those never storable.

        Those that no try will ever get in.
        """
        try:
            self._insert_together(rows)
        except Exception as error:
            if not _is_about_a_row(error):
                raise
            return self._insert_one_by_one(rows)
        return []

    def _insert_together(self, rows: Sequence[Row]) -> None:
        too_long: dict[str, str] = {}
        if self._lengths:
            rows = [fitted(row, self._lengths, too_long) for row in rows]
        parameters = [self._parameters(row) for row in rows]
        new_prices = {row["price_id"]: row["price"] for row in rows if row["price_id"] not in self._known_prices}
        with self._database.begin() as connection:
            if new_prices:
                insert_price = insert_new(prices, self._database.dialect)
                connection.execute(insert_price, [{"id": key, "price": new_prices[key]} for key in sorted(new_prices)])
            if too_long:
                insert_id = insert_new(long_ids, self._database.dialect)
                connection.execute(insert_id, [{"hash": key, "id": whole} for key, whole in too_long.items()])
            for size, insert in self._insert_many:
                while len(parameters) > size - size // 4:
                    together, parameters = parameters[:size], parameters[size:]
                    # Where a few are missing, the last comes again: a row that is there already is left alone.
                    together += together[-1:] * (size - len(together))
                    connection.exec_driver_sql(insert, tuple(chain.from_iterable(together)))
            if parameters:
                connection.exec_driver_sql(self._insert, parameters)
        self._known_prices.update(new_prices)

    def _insert_one_by_one(self, rows: Sequence[Row]) -> list[tuple[Row, Exception]]:
        """So that one bad row holds up nothing but itself."""
        refused = []
        for row in rows:
            try:
                self._insert_together([row])
            except Exception as error:
                if not _is_about_a_row(error):
                    raise
                refused.append((row, error))
        return refused

    def expire(self, before_ms: int) -> int:
        """Delete a few older rows; return how many.

        0: none are left.
        """
        old = select(ai_usage.c.request_id).where(ai_usage.c.time_ms < before_ms).limit(_EXPIRED_AT_ONCE)
        with self._database.begin() as connection:
            ids = list(connection.scalars(old))
            if ids:
                connection.execute(delete(ai_usage).where(ai_usage.c.request_id.in_(ids)))
        return len(ids)

    def describe(self, error: BaseException) -> str:
        return self._database.describe(error)

    def cut(self) -> None:
        """End what another thread does in the database.

        Its time is up.
        """
        self._database.cut()

    def close(self) -> None:
        self._database.close()


def _lengths(connection: Connection) -> dict[str, int]:
    """Return the columns' lengths as the table has them.

    An earlier version may have made it. SQLite holds to no length.
    """
    if connection.dialect.name == "sqlite":
        return {}
    columns = inspect(connection).get_columns(ai_usage.name)
    return {each["name"]: length for each in columns if (length := getattr(each["type"], "length", None))}


def _prepared(database: Database) -> tuple[str, Callable[[Row], Any]]:
    """Return the insert for the driver, and a row's parameters.

    Compiled once: the values are plain already, and SQLAlchemy's look at each of them took half of the whole time.
    """
    compiled = insert_new(ai_usage, database.dialect).compile(dialect=database.engine.dialect)
    order = compiled.positiontup
    return str(compiled), dict if order is None else itemgetter(*order)


def _for_many_rows(insert: str, rows: int) -> str:
    """The same for several rows.

    SQLite's driver lets go of the interpreter's lock for each statement that it runs, and has to win it back from the
    event loop each time. One statement for many rows spares both threads most of that.
    """
    before, values, after = insert.partition(f"({', '.join('?' * len(ai_usage.columns))})")
    return before + ", ".join([values] * rows) + after


def _is_about_a_row(error: Exception) -> bool:
    cause = error.orig if type(error) is StatementError and error.orig is not None else error
    return isinstance(cause, _NOT_THE_DATABASES_FAULT)
