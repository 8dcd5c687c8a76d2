"""Connect to the database: URLs, drivers' settings, errors without secrets."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, PoolResetState, QueuePool, create_engine, event, make_url
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError

from gateway.config.private_files import make_private_database, make_private_directory
from gateway.errors import DatabaseAway, LedgerUnusable
from gateway.types import Secret
from gateway.usage.sql.deadline import Deadline
from gateway.usage.sql.drivers import drivername_of

CONNECT_SECONDS = 3
PING_SECONDS = 2
LOCK_SECONDS = 2  # how long one try waits for SQLite's lock; the next try follows
_GRACE_SECONDS = 1  # after the server's own limit, which says in words what took too long
_MOST_CHARACTERS = 300
_STEPS_BETWEEN_LOOKS = 20_000  # of SQLite's machine, well under a millisecond
_WRITERS_CACHE = (
    "cache_size=-8000"  # KB: the pages of five indexes that a batch goes into; in the default they take turns
)
_SOCKET, _OPENING = "gateway.socket", "gateway.opening"  # what we keep beside each connection


class Database:
    """One database, for a writer or a reader.

    Nothing is connected before the first statement. `latest`: the URL as it is configured now; a new login holds for
    new connections, anything else from the next start on.
    """

    def __init__(
        self, url: Secret, *, read_only: bool, statement_seconds: float, latest: Callable[[], Secret] | None = None
    ) -> None:
        self._url = _parsed(url)
        self._latest = latest
        self._read_only = read_only
        self._statement_seconds = statement_seconds
        self._running: set[Deadline] = set()
        self._running_lock = threading.Lock()
        self.engine = self._engine()
        self.dialect = self.engine.dialect.name

    @contextlib.contextmanager
    def begin(self, deadline: Deadline | None = None) -> Iterator[Connection]:
        """A transaction that ends within its time, whatever the server does.

        Raises what the driver raises, DatabaseAway where there is no connection or the server has fallen silent, and
        TimeoutError where the deadline was over before it began.
        """
        deadline = deadline or self.deadline()
        try:
            connection = self.engine.connect()
        except (SQLAlchemyError, OSError) as error:
            raise DatabaseAway(self.describe(error)) from None
        with connection, self._counted(deadline):
            if deadline.is_over():  # by now nobody waits: the connection is left as it is, for the next
                raise TimeoutError("the work was given up before it began")
            try:
                with deadline.over(connection.info.get(_SOCKET)), connection.begin():
                    self._start_clock(connection, deadline)
                    yield connection
            except DBAPIError as error:
                if error.connection_invalidated and deadline.has_passed():
                    raise DatabaseAway(f"the database gave no answer within {deadline.seconds:g} s") from None
                raise

    def deadline(self) -> Deadline:
        """For one transaction, from now on."""
        # SQLite has no server with a limit of its own that should be reached first.
        grace = 0 if self.dialect == "sqlite" else _GRACE_SECONDS
        return Deadline(self._statement_seconds + grace)

    def cut(self) -> None:
        """End what runs, for it is not waited for any more."""
        with self._running_lock:
            running = list(self._running)
        for deadline in running:
            deadline.cut()

    @contextlib.contextmanager
    def _counted(self, deadline: Deadline) -> Iterator[None]:
        with self._running_lock:
            self._running.add(deadline)
        try:
            yield
        finally:
            with self._running_lock:
                self._running.discard(deadline)

    # -- servers

    def _engine(self) -> Engine:
        if self._url.get_backend_name() == "sqlite":
            return self._sqlite_engine()
        try:
            # A report is several statements that must see the same.
            isolation = {"isolation_level": "REPEATABLE READ"} if self._read_only else {}
            arguments = self._connect_arguments()
            more = {"connect_args": arguments, "pool_reset_on_return": None} | isolation
            engine = create_engine(self._url, hide_parameters=True, **more)
        except ImportError as error:
            raise LedgerUnusable(f"the driver for {self._url.drivername} is not installed: {error}") from None
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "checkout", self._check)
        event.listen(engine, "reset", self._reset)
        event.listen(engine, "close", _forget)
        return engine

    def _connect_arguments(self) -> dict[str, object]:
        """Return the driver's connection arguments.

        A peer that went away without a word must not hold the ledger for longer than it takes to notice.
        """
        if self._url.get_driver_name() == "psycopg":
            keepalives = {"tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5}
            return {"connect_timeout": CONNECT_SECONDS, **keepalives}
        seconds = self._statement_seconds + _GRACE_SECONDS
        return {"connect_timeout": CONNECT_SECONDS, "read_timeout": seconds, "write_timeout": seconds}

    def _connect(self, dialect: Any, record: Any, arguments: Any, named: dict[str, Any]) -> Any:
        """Connect, and keep a hold of the socket.

        Greeting and settings have a deadline, too.
        """
        named |= self._login()
        opening = contextlib.ExitStack()
        if dialect.driver == "pymysql" and not named.get("unix_socket"):
            # Its own way gives the server's greeting as long as a statement.
            sock = socket.create_connection(
                (named.get("host") or "localhost", named.get("port") or 3306), CONNECT_SECONDS
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            held: socket.socket | None = sock.dup()  # with TLS the driver takes the first one apart
            opening.enter_context(Deadline(CONNECT_SECONDS).over(held))
            try:
                connection = dialect.connect(*arguments, **named, defer_connect=True)
                connection.connect(sock)
            except BaseException:
                opening.close()
                _close(held)
                _close(sock)
                raise
        else:
            connection = dialect.connect(*arguments, **named)
            held = socket.socket(fileno=os.dup(connection.fileno())) if hasattr(connection, "fileno") else None
            opening.enter_context(Deadline(CONNECT_SECONDS).over(held))
        record.info[_SOCKET] = held
        record.info[_OPENING] = opening
        return connection

    def _login(self) -> dict[str, Any]:
        """The present login; where more than that has changed, the one before."""
        if self._latest is None:
            return {}
        with contextlib.suppress(LedgerUnusable):
            url = _parsed(self._latest())
            if _without_login(url) == _without_login(self._url):
                self._url = url  # errors are cleared of its password
        found = self.engine.dialect.create_connect_args(self._url)[1]
        return {name: found[name] for name in ("user", "password") if name in found}

    def _set_up(self, connection: Any, _: object) -> None:
        milliseconds = max(1, round(self._statement_seconds * 1000))
        with connection.cursor() as cursor:
            for setting in _settings(self.engine.dialect.name, connection, milliseconds):
                cursor.execute(setting)
            connection.commit()
            with contextlib.suppress(self.engine.dialect.loaded_dbapi.Error):  # not every server has them
                for setting in _wishes(self.engine.dialect.name):
                    cursor.execute(setting)
        connection.commit()  # of a transaction that failed it is a rollback

    def _check(self, connection: Any, record: Any, _: object) -> None:
        """Check the connection, and replace all where it fails."""
        opening = record.info.pop(_OPENING, None)
        if opening is not None:  # made a moment ago
            opening.close()
            return
        try:
            with Deadline(PING_SECONDS).over(record.info.get(_SOCKET)):
                self.engine.dialect.do_ping(connection)
        except self.engine.dialect.loaded_dbapi.Error:
            raise InvalidatePoolError from None

    def _reset(self, connection: Any, record: Any, state: PoolResetState) -> None:
        """Roll back; a server that has gone is for `_check` to notice."""
        if state.transaction_was_reset:
            return
        try:
            connection.rollback()
        except self.engine.dialect.loaded_dbapi.Error:
            with contextlib.suppress(OSError, AttributeError):
                record.info.get(_SOCKET).shutdown(socket.SHUT_RDWR)

    # -- SQLite

    def _sqlite_engine(self) -> Engine:
        path = self._url.database
        if not path or path == ":memory:":
            raise LedgerUnusable("a ledger in memory would be gone with the process: name a file, sqlite:///PATH")
        engine = create_engine(
            "sqlite+pysqlite://",
            hide_parameters=True,
            creator=lambda: self._open_file(Path(path)),
            poolclass=QueuePool,  # the URL alone looks like a database in memory
        )
        engine.dialect.statement_compiler = _WithHints
        return engine

    def _open_file(self, path: Path) -> sqlite3.Connection:
        if not self._read_only:
            make_private_directory(path.parent)
            make_private_database(path)
        # It asks None for an adapter, and then for a protocol, each time with an error that it drops: half of a row.
        sqlite3.register_adapter(type(None), _as_it_is)
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={'rw' if self._read_only else 'rwc'}",
            uri=True,
            timeout=LOCK_SECONDS,
            check_same_thread=False,  # the pool lends each to one thread at a time
        )
        try:
            # FULL: with WAL and NORMAL a loss of power undoes commits, and their journal is deleted by then.
            settings = (
                ("query_only=ON",) if self._read_only else ("journal_mode=WAL", "synchronous=FULL", _WRITERS_CACHE)
            )
            for setting in settings:
                connection.execute(f"PRAGMA {setting}").close()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _start_clock(self, connection: Connection, deadline: Deadline) -> None:
        """Interrupt SQLite when the deadline is over.

        It works in our own thread, and asks now and then whether to go on. Writing is short.
        """
        driver = connection.connection.driver_connection
        if self._read_only and isinstance(driver, sqlite3.Connection):
            driver.set_progress_handler(deadline.is_over, _STEPS_BETWEEN_LOOKS)
            driver.execute(
                "BEGIN"
            ).close()  # it begins none for what only reads: each statement would see another state

    # -- errors

    def describe(self, error: BaseException) -> str:
        """Describe an error in one line for operators.

        The driver's own words, without statement, parameters or password.
        """
        if isinstance(error, DatabaseAway):
            return str(error)
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = " ".join(str(cause).split())[:_MOST_CHARACTERS]
        for secret in _secrets_of(self._url):
            text = text.replace(secret, "***")
        return f"{type(cause).__name__}: {text}" if text else type(cause).__name__

    def close(self) -> None:
        self.engine.dispose()

    def __repr__(self) -> str:
        return f"<Database {self._url.get_backend_name()}{', read only' if self._read_only else ''}>"


class _WithHints(SQLiteCompiler):
    """SQLAlchemy writes no hints for SQLite, which takes `INDEXED BY`."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        return text


def is_deadlock(error: DBAPIError) -> bool:
    """Whether another transaction won: it is worth trying again at once."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) in ("40P01", "40001"):  # PostgreSQL's
        return True
    return bool(cause is not None and cause.args and cause.args[0] in (1213, 1020))  # MariaDB's


def _as_it_is(value: None) -> None:
    return value


def _forget(_: object, record: Any) -> None:
    """The connection is closed: so is our hold of its socket."""
    opening, held = record.info.pop(_OPENING, None), record.info.pop(_SOCKET, None)
    if opening is not None:
        opening.close()
    _close(held)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


def _parsed(secret: Secret) -> URL:
    try:
        url = make_url(secret.reveal())
    except Exception:  # the error's text and cause may quote the password: neither is passed on
        raise LedgerUnusable("the URL of the ledger's database cannot be read") from None
    return url.set(drivername=drivername_of(url.drivername))


def _without_login(url: URL) -> URL:
    return url._replace(username=None, password=None)


def _secrets_of(url: URL) -> list[str]:
    values = [url.password, *(value for values in url.normalized_query.values() for value in values)]
    return [str(value) for value in values if value and len(str(value)) >= 4]


def _settings(dialect: str, connection: Any, milliseconds: int) -> list[str]:
    """Return the statements that begin each connection.

    `mysql` is what MariaDB may be called as well; the server names itself.
    """
    if dialect == "postgresql":
        return [f"SET statement_timeout = {milliseconds}"]
    is_mariadb = "mariadb" in connection.get_server_info().lower()
    limit = f"max_statement_time = {milliseconds / 1000}" if is_mariadb else f"max_execution_time = {milliseconds}"
    # Strict: a value that does not fit is an error, not cut in silence.
    return [f"SET SESSION {limit}", "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"]


def _wishes(dialect: str) -> list[str]:
    """Return settings that may be refused.

    That a query ends whose asker has gone (PostgreSQL 14 and newer, on most systems).
    """
    return ["SET client_connection_check_interval = 1000"] if dialect == "postgresql" else []
