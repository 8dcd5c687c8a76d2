"""Processes die, disks lie: what was acknowledged is in the database afterwards, once, with the right outcome."""

from __future__ import annotations

import asyncio
import collections
import os
import random
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from ledgerkit import (
    OpenLedger,
    admission,
    leave_journal,
    outcomes,
    program,
    segment_files,
    settlement,
    sqlite_url,
    stored,
)
from sumskit import check_sums

from gateway.types import Secret
from gateway.usage.journal.journal import to_line
from gateway.usage.journal.records import Record
from gateway.usage.journal.segments import other_owners

KILLS = int(os.environ.get("LEDGER_KILLS", "10"))  # LEDGER_KILLS=200: the long run, a few minutes
AT_ONCE = 2


def until_killed(worker: Popen[bytes], lines: int) -> list[bytes]:
    """Reads that many lines, kills the worker, and reads what it had still said before it died."""
    assert worker.stdout is not None
    said = [worker.stdout.readline() for _ in range(lines)]
    worker.kill()
    said += worker.stdout.read().splitlines(keepends=True)
    worker.wait()
    return [line for line in said if line.endswith(b"\n")]


def ids_of(said: list[bytes], kind: bytes) -> set[str]:
    return {line[2:-1].decode() for line in said if line.startswith(kind)}


@pytest.mark.timeout(max(120, 10 * KILLS))
async def test_kill_at_any_moment_loses_and_doubles_nothing(
    url: Secret, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    """Workers are killed at full speed and others, which replay what those left, start and die beside them."""
    said: list[bytes] = []
    for _ in range(KILLS // AT_ONCE):
        workers = [program("worker.py", url.reveal(), tmp_path / "journal") for _ in range(AT_ONCE)]
        for worker in workers:
            with worker:
                lines = int(10 ** random.uniform(0, 4.6))  # in its first moments, or in the middle of flushing
                said += await asyncio.to_thread(until_killed, worker, lines)
    await open_ledger(url)
    found = outcomes(url)
    check_sums(url)
    admitted, settled = ids_of(said, b"a"), ids_of(said, b"s")
    assert len(admitted) > KILLS
    assert len(stored(url)) == len(found)
    assert admitted - set(found) == set()
    assert len(set(found) - admitted) <= KILLS  # written, and killed before it could say so
    assert {found[request_id] for request_id in settled} == {"ok"}
    unsettled = collections.Counter(found[request_id] for request_id in admitted - settled)
    assert set(unsettled) <= {"ok", "interrupted"}
    assert unsettled["ok"] <= KILLS
    assert segment_files(tmp_path / "journal")[:-1] == []
    assert list((tmp_path / "journal").glob("*.damaged")) == []


async def test_many_starting_at_once_replay_each_journal_once(
    open_ledger: OpenLedger, log_entries: list[list[Any]], tmp_path: Path
) -> None:
    """Eight dead journals, three workers starting together: the work is shared out, nothing is replayed twice."""
    url = sqlite_url(tmp_path / "usage.db")
    for dead in range(8):
        lines = [to_line(record) for n in range(50) for record in (admission(f"{dead}-{n}"), settlement(f"{dead}-{n}"))]
        leave_journal(tmp_path / "journal", lines)
    ledgers = [await open_ledger(url, reached=False) for _ in range(3)]
    await asyncio.gather(*(ledger.flushed(20) for ledger in ledgers))
    assert len(stored(url)) == 400
    told = [entry for entries in log_entries for entry in entries if entry["event"].startswith("replayed")]
    assert [entry["settled"] for entry in told] == [50] * 8


async def test_a_replay_that_was_cut_off_is_done_again(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """The database may have taken a part already: the rows stay as they are, the rest is added."""
    url = sqlite_url(tmp_path / "usage.db")
    lines = [to_line(record) for n in range(10) for record in (admission(f"{n}"), settlement(f"{n}"))]
    leave_journal(tmp_path / "journal", lines[:11])
    await (await open_ledger(url)).close()
    assert outcomes(url)["5"] == "interrupted"
    leave_journal(tmp_path / "journal", lines)
    await open_ledger(url)
    assert len(stored(url)) == 10


async def test_an_end_without_its_beginning_spoils_nothing(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Of a request whose admission was destroyed there is no row to make; the others arrive."""
    url = sqlite_url(tmp_path / "usage.db")
    records: list[Record] = [
        settlement("orphan"),
        settlement("late"),
        admission("late"),
        admission("a"),
        settlement("a"),
    ]
    leave_journal(tmp_path / "journal", map(to_line, records))
    await open_ledger(url)
    assert outcomes(url) == {"late": "ok", "a": "ok"}


async def test_a_torn_last_record_is_harmless(
    open_ledger: OpenLedger, log_entries: list[list[Any]], tmp_path: Path
) -> None:
    """A kill within a write is expected: no error is told, the file goes."""
    url = sqlite_url(tmp_path / "usage.db")
    path = leave_journal(tmp_path / "journal", [to_line(admission("a")), to_line(settlement("a"))])
    path.write_bytes(path.read_bytes() + to_line(admission("b"))[:40])
    await open_ledger(url)
    assert outcomes(url) == {"a": "ok"}
    assert [entry["log_level"] for entry in log_entries[0]] == ["info"]
    assert not path.exists()


async def test_a_damaged_journal_gives_what_it_can_and_is_kept(
    open_ledger: OpenLedger, log_entries: list[list[Any]], tmp_path: Path
) -> None:
    """A bad sector costs the records in it; the file is set aside for people, counted, and not read for ever."""
    url = sqlite_url(tmp_path / "usage.db")
    lines = [to_line(record) for n in range(5) for record in (admission(f"{n}"), settlement(f"{n}"))]
    path = leave_journal(tmp_path / "journal", lines)
    data = bytearray(path.read_bytes())
    data[len(b"".join(lines[:5])) + 20] ^= 0xFF  # within the third request's settlement
    path.write_bytes(data)
    ledger = await open_ledger(url)
    assert outcomes(url) == {"0": "ok", "1": "ok", "2": "interrupted", "3": "ok", "4": "ok"}
    assert ledger.status().damaged == 1
    (error,) = [entry for entry in log_entries[0] if entry["log_level"] == "error"]
    assert error["kept_as"] == str(path.with_suffix(".damaged"))
    assert path.with_suffix(".damaged").read_bytes() == data
    assert len(other_owners(tmp_path / "journal", "")) == 1


async def test_a_journal_that_may_not_be_read_holds_up_nothing(
    open_ledger: OpenLedger, log_entries: list[list[Any]], tmp_path: Path
) -> None:
    """A file of another system user, or a folder of that name, is told in the log; our own usage goes on."""
    url = sqlite_url(tmp_path / "usage.db")
    (tmp_path / "journal" / "0123456789abcdef-00000001.journal").mkdir(parents=True)
    ledger = await open_ledger(url)
    ledger.admit(admission("a"))
    ledger.settle(settlement("a"))
    await ledger.flushed(20)
    assert outcomes(url) == {"a": "ok"}
    assert "a journal cannot be replayed" in [entry["event"] for entry in log_entries[0]]
