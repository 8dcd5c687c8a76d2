"""A program for the tests: a ledger whose journal and database share a disk that is full for a while."""

from __future__ import annotations

import asyncio
import collections
import resource
import signal
import sys
import tempfile
from pathlib import Path

from ledgerkit import admission, capturing_log, eventually, outcomes, settlement, sqlite_url

from gateway.errors import JournalUnavailable
from gateway.usage import Ledger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


async def main(directory: Path) -> None:
    url = sqlite_url(directory / "usage.db")
    ledger = Ledger.open(url, directory / "journal", log=capturing_log()[0], sync_seconds=0.05)
    await ledger.flushed(20)
    admitted = [admission() for _ in range(50)]
    for each in admitted:
        ledger.admit(each)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.status().journal_bytes + 10, hard))
    try:
        ledger.admit(admission())
    except JournalUnavailable:
        say("refused")
    for each in admitted:
        ledger.settle(settlement(each.request_id))
    await eventually(lambda: ledger.status().database_error)
    say(f"waiting {ledger.status().waiting}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await ledger.flushed(20)
    await eventually(lambda: ledger.status().is_well)
    say(f"in memory {ledger.status().in_memory}, well {ledger.status().is_well}")
    await ledger.close()
    say(str(dict(collections.Counter(outcomes(url).values()))))


with tempfile.TemporaryDirectory() as temporary:
    asyncio.run(main(Path(temporary)))
