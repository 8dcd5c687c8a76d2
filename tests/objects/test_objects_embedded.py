"""The embedded index: behind the request, whatever its file is doing."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat

import pytest
from objects_kit import Bench, record
from store.grants_kit import Log

from gateway.errors import ConfigError, LedgerUnavailable, StoreUnavailable
from gateway.objects.sqlite import FILE_NAME, SqliteObjects


async def test_what_is_remembered_is_in_the_journal_before_it_is_in_the_store(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    await index.remember([record("file-1")])
    assert index.waiting_bytes > 0
    assert set(await index.find(["file-1"])) == {"file-1"}
    assert len((await index.listed("42", "file", limit=10)).records) == 1  # waits for the store
    assert index.waiting_bytes == 0


async def test_a_database_that_somebody_holds_stops_no_remembering(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    holder = sqlite3.connect(embedded_bench.directory / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for number in range(20):
        await index.remember([record(f"file-{number}", owner=str(number % 2), created=number + 1)])
    assert await index.remember([record("file-1", owner="7")]) == {"file-1"}
    await index.forget("file-3")
    assert len(await index.find([f"file-{number}" for number in range(30)])) == 19
    holder.execute("COMMIT")
    holder.close()
    assert len((await index.listed("1", "file", limit=30)).records) == 9


async def test_a_list_says_that_it_cannot_tell_while_the_database_takes_nothing(
    embedded_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.objects.sqlite.BUSY_SECONDS", 0.01)
    index = await embedded_bench.open()
    holder = sqlite3.connect(embedded_bench.directory / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await index.remember([record("file-1")])
    with pytest.raises(StoreUnavailable):
        await index.listed("42", "file", limit=10)
    with pytest.raises(StoreUnavailable):
        await index.set_home("42", "here")
    assert set(await index.find(["file-1"])) == {"file-1"}
    holder.execute("COMMIT")
    holder.close()


async def test_a_disk_that_is_full_refuses_instead_of_forgetting(
    embedded_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = await embedded_bench.open()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gateway.usage.journal.segments.os.write", full)
    with pytest.raises(LedgerUnavailable):
        await index.remember([record("file-1")])
    monkeypatch.undo()
    assert await index.find(["file-1"]) == {}
    await index.remember([record("file-1")])
    assert set(await index.find(["file-1"])) == {"file-1"}


async def test_files_are_for_their_owner_alone(embedded_bench: Bench) -> None:
    await (await embedded_bench.open()).remember([record("file-1")])
    files = [path for path in embedded_bench.directory.rglob("*") if path.is_file()]
    assert {path.name.partition("-")[0] for path in files} >= {FILE_NAME}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_a_journal_whose_directory_was_deleted_begins_anew(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    for path in (embedded_bench.directory / "journal").iterdir():
        path.unlink()
    for number in range(3):
        await index.remember([record(f"file-{number}")])
        await index.listed("42", "file", limit=10)
    assert len(list((embedded_bench.directory / "journal").iterdir())) == 1


def test_a_store_that_cannot_be_opened_is_a_mistake_of_the_configuration(embedded_bench: Bench, log: Log) -> None:
    embedded_bench.directory.mkdir()
    (embedded_bench.directory / FILE_NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"store\.path"):
        SqliteObjects(embedded_bench.directory, log.logger, object_days=lambda: 400)


async def test_damage_in_a_journal_hides_nothing_beside_it(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    holder = sqlite3.connect(embedded_bench.directory / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for number in range(3):
        await index.remember([record(f"file-{number}")])
    (segment,) = (embedded_bench.directory / "journal").iterdir()
    left = segment.read_bytes()
    holder.execute("COMMIT")
    holder.close()
    for number in range(3):
        await index.forget(f"file-{number}")
    await embedded_bench.close(index)
    lines = left.splitlines(keepends=True)
    damaged = lines[0] + lines[1][:40] + b"\x00garbage\n" + lines[2] + lines[0][:30]
    (embedded_bench.directory / "journal" / f"{'a' * 16}-00000001.journal").write_bytes(damaged)
    again = await embedded_bench.open()
    assert set(await again.find(["file-0", "file-1", "file-2"])) == {"file-0", "file-2"}
