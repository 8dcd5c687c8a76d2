"""What storing a row of usage costs: CPU time of the ledger's threads, and of the loop that hands rows over.

A command of its own: `python -m bench.ledger [--rows N] [--json]`.

Rows of 10,000 users at 3,000 a second through `Ledger.admit` and `settle` into SQLite with its sums, as the gateway
stores them: from memory, in batches, beside the loop.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from bench.reports import records_of
from gateway.observability.logging import make_logger
from gateway.types import Secret
from gateway.usage import Ledger

ROWS, A_SECOND, AT_A_TIME = 30_000, 3_000, 30
WARM_UP_ROWS = 1_000
FLUSH_SECONDS = 120


class Stored(msgspec.Struct, frozen=True):
    """CPU microseconds a row: of each thread by its name, of all of them, and of the event loop."""

    rows: int
    threads: dict[str, float]
    threads_us: float
    loop_us: float


async def measure(folder: Path, rows: int) -> Stored:
    url = Secret(f"sqlite:///{folder / 'usage.db'}")
    ledger = Ledger.open(url, folder / "journal", log=make_logger("json", stream=io.StringIO()))
    try:
        await _store(ledger, range(WARM_UP_ROWS))  # what is made when first used
        before = _threads_seconds()
        loop_seconds = await _store(ledger, range(WARM_UP_ROWS, WARM_UP_ROWS + rows))
        each = {name: (now - before.get(name, 0.0)) / rows * 1e6 for name, now in _threads_seconds().items()}
    finally:
        await ledger.close()
    return Stored(rows, each, sum(each.values()), loop_seconds / rows * 1e6)


async def _store(ledger: Ledger, numbers: range) -> float:
    """CPU seconds of the loop, from the first row to the moment when all are in the database."""
    chance, spent = random.Random(7), 0.0
    for first in range(0, len(numbers), AT_A_TIME):
        records = [records_of(number, time.time(), chance) for number in numbers[first : first + AT_A_TIME]]
        began = time.thread_time()
        for admitted, ended in records:
            ledger.admit(admitted)
            ledger.settle(ended)
        spent += time.thread_time() - began
        await asyncio.sleep(AT_A_TIME / A_SECOND)
    await ledger.flushed(FLUSH_SECONDS)
    return spent


def _threads_seconds() -> dict[str, float]:
    """CPU seconds of the ledger's threads so far."""
    ours = [each for each in threading.enumerate() if each.name.startswith("ledger-")]
    return {each.name: int(_schedule(each).split()[0]) / 1e9 for each in ours}


def _schedule(thread: threading.Thread) -> str:
    return Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stored = asyncio.run(measure(Path(directory), options.rows))
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(stored))
    else:
        print(stored)


if __name__ == "__main__":
    main()
