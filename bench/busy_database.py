"""A ledger of millions of rows whose last day goes on: made once, asked often (bench.busy_reports).

Of SQLite it is a file, of PostgreSQL a server's folder that the tests' wheel brought; both stay where they are.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from kit.postgres import INSTALLED, PrivatePostgres, _site_of_the_wheel

from gateway.types import Secret
from gateway.usage.sql.rows_store import Store
from gateway.usage.sql.sums.day_blocks import number_of

DAY_MS = 86_400_000
TODAY_AT_MS = 23 * 3_600_000  # of the last day: most of its sums are there
FILE, DATABASE = "usage.db", "usage"
_TIMES = {"ai_usage": "time_ms", "ai_usage_daily": "day_ms", "ai_usage_hourly": "hour_ms"}
_INDEXES = "SELECT indexdef, indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY(%s)"
_TRUTHS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND data_type = 'boolean'"
_TABLES = ("ai_usage_prices", "ai_usage_marks", "ai_usage_made", "ai_usage_blocks", "ai_usage_ranks")
_LARGE = ("ai_usage_hourly", "ai_usage_daily", "ai_usage")


class KeptServer(PrivatePostgres):
    """A server whose folder stays; the socket lies in it."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "data").exists():
            folder.mkdir(parents=True, exist_ok=True)
            super().__init__(folder)
            return
        self._directory, self._data = folder, folder / "data"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._programs = (folder if self._user else _site_of_the_wheel()) / INSTALLED / "bin"

    def end(self) -> None:
        """Let it write everything down, so that the next start recovers nothing."""
        self._run("pg_ctl", "-w", "-D", self._data, "-m", "fast", "stop")

    def url(self) -> Secret:
        return Secret(self._url(DATABASE))


@contextmanager
def served(database: str, folder: Path) -> Iterator[Secret]:
    """Its URL; a server runs until the end of the block."""
    if database == "sqlite":
        yield Secret(f"sqlite:///{folder.absolute() / FILE}")
        return
    server = KeptServer(folder.absolute())
    server.start()
    try:
        yield server.url()
    finally:
        server.end()


def today_ms(url: Secret) -> int:
    """The last day that has sums."""
    with closing(Store(url)) as store, store._database.begin() as connection:
        return int(connection.exec_driver_sql("SELECT max(day_ms) FROM ai_usage_daily").scalar() or 0)


def forget_runs(url: Secret) -> int:
    """Take out what earlier runs wrote on the last day; return its rows."""
    with closing(Store(url)) as store:
        store.prepare()
        first_ms = today_ms(url)
        with store._database.begin() as connection:
            connection.exec_driver_sql(f"DELETE FROM ai_usage WHERE time_ms >= {first_ms} AND length(request_id) <> 32")
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM ai_usage WHERE time_ms >= {first_ms}").scalar()
        from_ms: int | None = first_ms
        while from_ms is not None:
            from_ms = store.undo_some(from_ms).until_ms
        while store.add_some():
            pass
    return int(rows or 0)


def make_sqlite(filled: Path, folder: Path) -> None:
    """Copy a filled ledger; its last whole day becomes today."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(filled, folder / FILE)
    url = Secret(f"sqlite:///{folder.absolute() / FILE}")
    with closing(Store(url)) as store:
        store.prepare()
        last = today_ms(url)
        with store._database.begin() as connection:
            for table, column in _TIMES.items():
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column} >= {last}")
            connection.exec_driver_sql(f"DELETE FROM ai_usage_made WHERE block >= {number_of(last // DAY_MS, 0)}")
            connection.exec_driver_sql("DELETE FROM ai_usage_marks WHERE name = 'cached_before_ms'")
        while due := store.due_blocks(last - DAY_MS + TODAY_AT_MS):
            store.make_blocks(due)
            print(f"\r{len(due)} blocks and ranks left ", end="", flush=True)
    print()


def make_postgresql(sqlite_file: Path, folder: Path) -> None:
    """The same rows and sums, copied from SQLite's file."""
    server = KeptServer(folder.absolute())
    server.start()
    try:
        first = server.url().reveal().replace(f"/{DATABASE}?", "/postgres?")
        with psycopg.connect(first, autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}".encode())
        with closing(Store(server.url())) as store:
            store.prepare()
        _copy(sqlite_file, server.url())
    finally:
        server.end()


def _copy(sqlite_file: Path, url: Secret) -> None:
    source = sqlite3.connect(f"file:{sqlite_file}?mode=ro", uri=True)
    with psycopg.connect(url.reveal()) as target:
        indexes = target.execute(_INDEXES, (list(_LARGE),)).fetchall()
        keys = [(definition, name) for definition, name in indexes if name.endswith("_pkey")]
        for _, name in keys:
            target.execute(f"ALTER TABLE {name.removesuffix('_pkey')} DROP CONSTRAINT {name}".encode())
        for _, name in indexes:
            target.execute(f"DROP INDEX IF EXISTS {name}".encode())
        for table in (*_TABLES, *_LARGE):
            columns = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            truths = {name for (name,) in target.execute(_TRUTHS, (table,))}
            target.execute(f"TRUNCATE {table}".encode())
            chosen = ", ".join(f"iif({name}, 't', 'f')" if name in truths else name for name in columns)
            with target.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copying:
                for row in source.execute(f"SELECT {chosen} FROM {table}"):
                    copying.write_row(row)
            print(table, "copied", flush=True)
        for definition, name in indexes:
            target.execute(definition.encode())
            print(name, "made", flush=True)
        for _, name in keys:
            target.execute(f"ALTER TABLE {name.removesuffix('_pkey')} ADD PRIMARY KEY USING INDEX {name}".encode())
        target.commit()
        target.autocommit = True
        target.execute("VACUUM ANALYZE")
