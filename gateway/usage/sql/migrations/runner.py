"""Take the steps that a database lacks.

A start that is stopped or killed leaves whole steps, and the next goes on. A step and the record of it are one
transaction where the database can do that (SQLite, PostgreSQL); on MariaDB a step that was cut off is taken again.
Several processes may start at once: one takes a step, the others wait and look again. A runner of our own rather than
Alembic: that is 270 KB and Mako for what is a list and a lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import DBAPIError

from gateway.usage.sql.migrations.steps import STEPS, Step
from gateway.usage.sql.table import SCHEMA_VERSION, SchemaTooNew, insert_new, schema_steps, schema_version

Begin = Callable[[], AbstractContextManager[Connection]]  # a transaction
_POSTGRESQL_LOCK = 0x65636C69  # "ecli"
_MARIADB_LOCK = "SHA1(CONCAT(DATABASE(), '.ai_usage'))"  # the server's locks are for all of its databases
_LOCK_SECONDS = 10
_LOCK_NOT_HAD = ("55P03", 1205)  # PostgreSQL's word and MariaDB's for a table that others did not let go of in time


class _Busy(Exception):
    """Another process is changing the tables."""


def migrate(begin: Begin, steps: Sequence[Step] = STEPS) -> None:
    """Take every step that is missing.

    Raises SchemaTooNew, and what the driver raises."""
    while steps_missing(begin, steps):
        with begin() as connection, _alone(connection):
            missing = _missing(connection, steps)
            if missing:
                _take(connection, missing[0])


def take_one(begin: Begin, steps: Sequence[Step] = STEPS) -> int:
    """Take one step; return how many are left.

    Where another process is taking one, nothing is done. Raises as `migrate`.
    """
    try:
        with begin() as connection, _alone(connection, waits=False):
            missing = _missing(connection, steps)
            if missing:
                _take(connection, missing[0])
            return max(0, len(missing) - 1)
    except _Busy:
        return steps_left(begin, steps)
    except DBAPIError as error:
        if not _is_lock_not_had(error):
            raise
        return steps_left(begin, steps)


def steps_left(begin: Begin, steps: Sequence[Step] = STEPS) -> int:
    """Count what is left once tables are ready.

    It waits for nobody who takes a step.
    """
    with begin() as connection:
        taken = set(connection.scalars(select(schema_steps.c.step)))
    return sum(step.number not in taken for step in steps)


def steps_missing(begin: Begin, steps: Sequence[Step] = STEPS) -> int:
    """Count what is left to do. Raises as `migrate`.

    Where all are taken, who takes a later step is not waited for.
    """
    if _are_taken(begin, steps):
        return 0
    with begin() as connection, _undisturbed(connection):
        return len(_missing(connection, steps))


def _are_taken(begin: Begin, steps: Sequence[Step]) -> bool:
    """Whether all are taken, without a look at tables being changed."""
    try:
        with begin() as connection:
            version = connection.scalar(select(func.max(schema_version.c.version)))
            taken = set(connection.scalars(select(schema_steps.c.step)))
    except DBAPIError:  # there are no such tables yet; whatever else it is comes again
        return False
    return (version or 0) <= SCHEMA_VERSION and taken.issuperset(step.number for step in steps)


def _is_lock_not_had(error: DBAPIError) -> bool:
    cause = error.orig
    words = (getattr(cause, "sqlstate", None), *(cause.args[:1] if cause is not None else ()))
    return any(word in _LOCK_NOT_HAD for word in words if isinstance(word, str | int))


def _undisturbed(connection: Connection) -> AbstractContextManager[None]:
    """Wait, to look alone, for who is changing tables.

    Only on MariaDB, which does not describe them meanwhile.
    """
    return _alone(connection) if connection.dialect.name in ("mysql", "mariadb") else contextlib.nullcontext()


def _missing(connection: Connection, steps: Sequence[Step]) -> list[Step]:
    known = inspect(connection)
    if known.has_table(schema_version.name):
        version = connection.scalar(select(func.max(schema_version.c.version)))
        if version is not None and version > SCHEMA_VERSION:
            raise SchemaTooNew(f"table ai_usage is of version {version}, this gateway knows {SCHEMA_VERSION}")
    if not known.has_table(schema_steps.name):
        return list(steps)
    taken = set(connection.scalars(select(schema_steps.c.step)))
    return [step for step in steps if step.number not in taken]


def _take(connection: Connection, step: Step) -> None:
    schema_steps.create(connection, checkfirst=True)
    step.take(connection)
    dialect = connection.dialect.name
    connection.execute(insert_new(schema_version, dialect), {"version": step.version})
    connection.execute(insert_new(schema_steps, dialect), {"step": step.number, "name": step.name})


@contextlib.contextmanager
def _alone(connection: Connection, *, waits: bool = True) -> Iterator[None]:
    """Keep other processes out until the transaction ends.

    MariaDB's lock knows of no transaction, and is given back after it. Raises TimeoutError, and _Busy at once where it
    does not wait.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver begins none for changes of tables
        yield
    elif connection.dialect.name == "postgresql":
        if waits:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})")
        elif not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_POSTGRESQL_LOCK})").scalar():
            raise _Busy
        # Whoever comes to the table after us waits behind us for who reads it: a backup may, for an hour.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        yield
    else:
        seconds = _LOCK_SECONDS if waits else 0
        if connection.exec_driver_sql(f"SELECT GET_LOCK({_MARIADB_LOCK}, {seconds})").scalar() != 1:
            raise TimeoutError("another process is changing the ledger's tables") if waits else _Busy
        try:
            connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
            yield
            connection.exec_driver_sql("COMMIT")
        finally:
            with contextlib.suppress(Exception):  # gone with the connection
                connection.exec_driver_sql(f"SELECT RELEASE_LOCK({_MARIADB_LOCK})")
                connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")
