"""What the gateway keeps on disk is its owner's alone, whatever the umask: credentials and who used what are in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kit import KEYS, Stage
from kit.stage import ask, endpoint, model

from gateway.config.private_files import make_private_database, make_private_directory, open_private


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        make_private_directory(tmp_path / "a" / "b")
        os.close(open_private(tmp_path / "a" / "file", os.O_RDWR))
        make_private_database(tmp_path / "a" / "b" / "x.db")
        with closing(sqlite3.connect(tmp_path / "a" / "b" / "x.db")) as database:
            database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x)")
            modes = {path.name: mode(path) for path in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "file": 0o600, "x.db": 0o600, "x.db-wal": 0o600, "x.db-shm": 0o600}
    assert mode(tmp_path / "a") == 0o700


def test_a_directory_that_is_there_is_left_as_it_is_and_files_are_tightened(tmp_path: Path) -> None:
    """A directory may be shared; files of an older version were made with what the umask left."""
    tmp_path.chmod(0o755)
    files = [tmp_path / name for name in ("x.db", "x.db-wal", "x.db-shm")]
    for file in files:
        file.touch(0o644)
    make_private_directory(tmp_path)
    make_private_database(files[0])
    os.close(open_private(files[0], os.O_RDONLY))
    assert [mode(file) for file in files] == [0o600] * 3
    assert mode(tmp_path) == 0o755


def test_a_database_in_use_keeps_its_locks(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops a process's locks on it: SQLite's, too."""
    path = tmp_path / "x.db"
    make_private_database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        make_private_database(path)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with closing(sqlite3.connect(path, timeout=0)) as other:
                    other.execute("CREATE TABLE t (x)")
            except sqlite3.OperationalError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "another process got in"


async def test_all_that_a_gateway_keeps_is_private(tmp_path: Path) -> None:
    with umask(0):
        async with Stage.open(tmp_path, lambda up: [model("m", [endpoint(up, "a")])]) as stage:
            assert (await stage.post(ask("m"), key=KEYS["user"])).status == 200
            kept = list((tmp_path / "data").rglob("*"))
            assert {"gateway.db", "gateway.db-wal", "journal"} <= {path.name for path in kept}
            assert any(path.suffix == ".journal" for path in kept)
            assert {path.name: oct(mode(path)) for path in kept if mode(path) & 0o077} == {}
            assert mode(tmp_path / "data") == 0o700
    assert (tmp_path / "data" / "usage.db").exists()
    assert mode(tmp_path / "data" / "usage.db") == 0o600
