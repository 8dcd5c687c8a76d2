"""What waits for the store: in order in memory, and whole in the journal."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from objects_kit import DAY, Bench, record

from gateway.errors import StoreUnavailable
from gateway.objects.changes import Drop, Operation, Put, PutContent
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.pending import Pending
from gateway.objects.record import Place
from gateway.objects.sqlite import FILE_NAME


def put(object_id: str, body: bytes = b"") -> Put:
    return Put(record(object_id, body=body), 1)


def test_the_last_change_of_an_id_is_what_is_known_until_the_store_has_it() -> None:
    pending, drop = Pending(), Drop("a", "file", "42")
    pending.add([put("a"), drop, put("b")])
    pending.remove([put("a")])
    assert pending.knows("a")
    assert pending.record("a") is None
    pending.remove([drop])
    assert not pending.knows("a")
    assert pending.record("b") == record("b")
    pending.remove([put("b")])
    assert pending.is_empty
    assert not pending.knows("b")


def test_where_content_was_made_is_known_until_the_store_has_it() -> None:
    pending = Pending()
    first, second = (PutContent(("aa",), Place(each, "42"), 1) for each in ("here", "there"))
    pending.add([first, second])
    pending.remove([first])
    assert pending.place("aa") == Place("there", "42")
    pending.remove([second])
    assert pending.place("aa") is None


def test_memory_has_a_bound_and_room_again_when_the_store_has_taken_some() -> None:
    pending = Pending(most_bytes=5_000)
    for _ in range(3):
        batch: list[Operation] = [put(f"file-{number}", b"x" * 1_000) for number in range(2)]
        pending.add(batch)
        assert not pending.overflowed
        pending.remove(batch)
    pending.add([put(f"file-{number}", b"x" * 1_000) for number in range(3)])
    assert pending.overflowed
    assert len(pending) == 2
    assert not pending.knows("file-2")
    assert not pending.is_empty


def test_a_line_of_any_length_is_read_back(tmp_path: Path) -> None:
    journal = ObjectJournal(tmp_path)
    hashes = tuple(f"{number:064x}" for number in range(10_000))
    written: list[Operation] = [put("a"), PutContent(hashes, Place("here", "42"), 1), put("b", b"x" * 16_000)]
    for each in written:
        journal.append([each])
    assert [each for part in journal.operations() for each in part] == written
    journal.close()


async def test_what_only_the_journal_holds_is_not_called_unknown(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    index._pending._most_bytes = 1_500
    holder = sqlite3.connect(embedded_bench.directory / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await index.remember([record("file-1"), record("file-2")])
    index._records.drop("file-2")  # as another's use of the cache does, sooner or later
    with pytest.raises(StoreUnavailable):
        await index.find(["file-2"])
    with pytest.raises(StoreUnavailable):
        await index.listed("42", "file", limit=10)
    holder.execute("COMMIT")
    holder.close()


async def test_what_has_expired_is_deleted(embedded_bench: Bench) -> None:
    index = await embedded_bench.open()
    await index.remember([record("resp-1", kind="response"), record("file-1")])
    await index.remember_content(["aa"], owner="42", account="here")
    await embedded_bench.close(index)
    embedded_bench.clock.ahead = 36 * DAY
    index = await embedded_bench.open()
    await index.remember([record("file-2")])
    await embedded_bench.close(index)
    with sqlite3.connect(embedded_bench.directory / FILE_NAME) as database:
        assert [row[0] for row in database.execute("SELECT id FROM objects ORDER BY id")] == ["file-1", "file-2"]
        assert database.execute("SELECT count(*) FROM contents").fetchone() == (0,)
    database.close()
