"""The way to the database: what its URL may be, how each kind is connected to, and errors told without secrets."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from gateway.ledger.drivers import drivername_of
from gateway.ledger.faults import LedgerUnusable
from gateway.types import Secret

CONNECT_SECONDS = 5
LOCK_SECONDS = 2  # how long one try waits for SQLite's lock; the next try follows
_MOST_CHARACTERS = 300
_STEPS_BETWEEN_LOOKS = 20_000  # of SQLite's machine, well under a millisecond


class Database:
    """One database as a writer or a reader sees it. Nothing is connected before the first statement."""

    def __init__(self, url: Secret, *, read_only: bool, statement_seconds: float) -> None:
        self._url = _parsed(url)
        self._read_only = read_only
        self._statement_seconds = statement_seconds
        self.engine = self._engine()
        self.dialect = self.engine.dialect.name

    def _engine(self) -> Engine:
        if self._url.get_backend_name() == "sqlite":
            return self._sqlite_engine()
        try:
            engine = create_engine(
                self._url, hide_parameters=True, pool_pre_ping=self._read_only, connect_args=self._connect_arguments()
            )
        except ImportError as error:
            raise LedgerUnusable(f"the driver for {self._url.drivername} is not installed: {error}") from None
        statement = _time_limit(engine.dialect.name, getattr(engine.dialect, "is_mariadb", False))
        milliseconds = max(1, round(self._statement_seconds * 1000))

        @event.listens_for(engine, "connect")
        def limit_statements(connection: Any, _: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement.format(ms=milliseconds, seconds=milliseconds / 1000))
            connection.commit()

        return engine

    def _connect_arguments(self) -> dict[str, object]:
        """A peer that went away without a word must not hold the ledger for longer than it takes to notice."""
        arguments: dict[str, object] = {"connect_timeout": CONNECT_SECONDS}
        if self._url.get_driver_name() == "psycopg":
            arguments |= {"tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5}
        return arguments

    # -- SQLite

    def _sqlite_engine(self) -> Engine:
        path = self._url.database
        if not path or path == ":memory:":
            raise LedgerUnusable("a ledger in memory would be gone with the process: name a file, sqlite:///PATH")
        return create_engine(
            "sqlite+pysqlite://",
            hide_parameters=True,
            creator=lambda: self._open_file(Path(path)),
            poolclass=QueuePool,  # the URL alone looks like a database in memory
        )

    def _open_file(self, path: Path) -> sqlite3.Connection:
        if not self._read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={'rw' if self._read_only else 'rwc'}",
            uri=True,
            timeout=LOCK_SECONDS,
            check_same_thread=False,  # the pool lends each to one thread at a time
        )
        try:
            # FULL: with WAL and NORMAL a loss of power undoes commits, and their journal is deleted by then.
            settings = ("query_only=ON",) if self._read_only else ("journal_mode=WAL", "synchronous=FULL")
            for setting in settings:
                connection.execute(f"PRAGMA {setting}").close()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def start_clock(self, connection: Any) -> None:
        """Gives what is run on this DBAPI connection from now on its time; servers do that by themselves."""
        if isinstance(connection, sqlite3.Connection):
            give_up_at = time.monotonic() + self._statement_seconds
            connection.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS_BETWEEN_LOOKS)

    # -- errors

    def describe(self, error: BaseException) -> str:
        """One line for operators: the driver's own words, without statement, parameters or password."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        told = " ".join(str(cause).split())[:_MOST_CHARACTERS]
        for secret in _secrets_of(self._url):
            told = told.replace(secret, "***")
        return f"{type(cause).__name__}: {told}" if told else type(cause).__name__

    def close(self) -> None:
        self.engine.dispose()

    def __repr__(self) -> str:
        return f"<Database {self._url.get_backend_name()}{', read only' if self._read_only else ''}>"


def _parsed(secret: Secret) -> URL:
    try:
        url = make_url(secret.reveal())
    except Exception:  # the error's text and cause may quote the password: neither is passed on
        raise LedgerUnusable("the URL of the ledger's database cannot be read") from None
    return url.set(drivername=drivername_of(url.drivername))


def _secrets_of(url: URL) -> list[str]:
    values = [url.password, *(value for values in url.normalized_query.values() for value in values)]
    return [str(value) for value in values if value and len(str(value)) >= 4]


def _time_limit(dialect: str, is_mariadb: bool) -> str:
    if dialect == "postgresql":
        return "SET statement_timeout = {ms}"
    return "SET SESSION max_statement_time = {seconds}" if is_mariadb else "SET SESSION max_execution_time = {ms}"
