"""Finished rows go to the database from memory; what memory does not hold is read back from the journal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ledgerkit import (
    OpenLedger,
    admission,
    eventually,
    outcomes,
    program,
    segment_files,
    serve,
    settlement,
    sqlite_url,
    stored,
)

from gateway.types import Secret
from gateway.usage import Ledger


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another process holds the SQLite file."""
    with program("hold_lock.py", path) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"locked\n"
        try:
            yield
        finally:
            holder.stdin.close()


def damage(path: Path, what: bytes) -> None:
    """Changes the last place in the file that says so."""
    data = path.read_bytes()
    assert what in data
    with path.open("r+b") as file:
        file.seek(data.rindex(what))
        file.write(b"?")


async def test_rows_come_from_memory_whatever_became_of_the_journal(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """The journal is for who comes after a death: while the process lives, a bad sector in it costs nothing."""
    url = sqlite_url(tmp_path / "usage.db")
    async with locked(tmp_path / "usage.db"):
        ledger = await open_ledger(url, reached=False)
        ids = serve(ledger, 3)
        (path,) = segment_files(tmp_path / "journal")
        damage(path, ids[0].encode())
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    await ledger.close()
    assert segment_files(tmp_path / "journal") == []


@pytest.mark.parametrize("most", [0, 1, 7])
async def test_beyond_its_bound_rows_are_read_back(open_ledger: OpenLedger, tmp_path: Path, most: int) -> None:
    """A database that is away for hours fills the journal, not memory; then rows come from memory again."""
    url = sqlite_url(tmp_path / "usage.db")
    async with locked(tmp_path / "usage.db"):
        ledger = await open_ledger(url, reached=False, most_in_memory=most, segment_bytes=2_000, sync_seconds=0.01)
        ledger.admit(admission("long"))
        ledger.admit(admission("never ends"))
        ids = serve(ledger, 100)
        assert ledger.status().waiting == 100
        assert len(ledger._journal.finished) == most
        await eventually(lambda: len(segment_files(tmp_path / "journal")) > 1)
        ids += serve(ledger, 50)
        ledger.settle(settlement("long"))
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys([*ids, "long"], "ok")
    assert (ledger.status().waiting, ledger.status().open) == (0, 1)
    assert ledger._journal.gap is None
    before = segment_files(tmp_path / "journal")
    serve(ledger, 20)
    await eventually(lambda: set(before).isdisjoint(segment_files(tmp_path / "journal")))
    await ledger.close()
    await open_ledger(url)
    assert outcomes(url)["never ends"] == "interrupted"
    assert len(stored(url)) == 172


async def test_an_end_that_the_journal_does_not_give_back_is_interrupted(
    open_ledger: OpenLedger, log_entries: list[Any], tmp_path: Path
) -> None:
    """Bytes that changed before they were read back: the others arrive, and the file stays for people to look at."""
    url = sqlite_url(tmp_path / "usage.db")
    async with locked(tmp_path / "usage.db"):
        ledger = await open_ledger(url, reached=False, most_in_memory=0)
        ids = serve(ledger, 3)
        (path,) = segment_files(tmp_path / "journal")
        damage(path, ids[1].encode())
    await ledger.flushed(20)
    ends = {**dict.fromkeys(ids, "ok"), ids[1]: "interrupted"}
    assert outcomes(url) == ends
    ids += serve(ledger, 1)
    await ledger.close()
    await open_ledger(url)
    assert outcomes(url) == {**ends, ids[3]: "ok"}
    assert path.with_suffix(".damaged").exists()
    assert [entry["damaged"] for entry in log_entries[1] if entry["log_level"] == "error"] == [1]


async def _served_at_random(ledger: Ledger, dice: random.Random, count: int) -> dict[str, str]:
    """Requests that overlap, some of which never end. Returns the outcome that each is to have in the end."""
    under_way: list[str] = []
    for _ in range(count):
        ledger.admit(each := admission())
        under_way.append(each.request_id)
        while under_way and dice.random() < 0.6:
            ledger.settle(settlement(under_way.pop(dice.randrange(len(under_way)))))
        if dice.random() < 0.05:
            await asyncio.sleep(dice.random() * 0.01)
    return dict.fromkeys(under_way, "interrupted")


@pytest.mark.parametrize("most", [0, 3, 50])
async def test_whatever_the_order_each_has_its_row(url: Secret, open_ledger: OpenLedger, most: int) -> None:
    """Segments come and go, memory is full and is not, while requests overlap: nothing is lost, doubled or mistaken."""
    dice = random.Random(most)
    ledger = await open_ledger(url, most_in_memory=most, segment_bytes=3_000, sync_seconds=0.01)
    unended = await _served_at_random(ledger, dice, 1_500)
    await ledger.flushed(20)
    ended = outcomes(url)
    assert len(ended) == 1_500 - len(unended) == len(stored(url))
    assert set(ended.values()) == {"ok"}
    await ledger.close()
    await open_ledger(url)
    assert outcomes(url) == ended | unended


async def test_what_the_disk_refused_is_not_kept_once_it_is_stored(url: Secret, open_ledger: OpenLedger) -> None:
    """Served on without a journal: a row in the database is in no danger, and its records are forgotten."""
    ledger = await open_ledger(url, max_journal_bytes=1, when_unwritable="serve")
    ledger.admit(admission("open"))
    ids = serve(ledger, 5)
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert (ledger.status().waiting, ledger.status().lost) == (0, 0)
    ledger.settle(settlement("open"))
    await ledger.flushed(20)
    assert outcomes(url)["open"] == "ok"
