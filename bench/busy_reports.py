"""Reports up to a day that goes on, while requests are written: part of python -m bench.reports --folder.

A process of its own records 500 requests a second by a gateway's ledger: users at random, each with a model and an
endpoint of its own, so that a run adds as many sums to the last day as there are users, however long it is. All
processes take the last day of the ledger for today, at eleven in the evening.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace

from bench.busy_database import DAY_MS, TODAY_AT_MS, forget_runs, today_ms
from bench.reports import USERS, Answered, figures, p95, questions, records_of
from gateway.process.serve import settle_the_collector
from gateway.types import Secret
from gateway.usage import Ledger, UsageQuery
from gateway.usage.sql.reader import Reader

RATE, TICK_SECONDS = 500, 0.02
GOAL_MS = 100.0
SPAN_DAYS = 30
EXPORTS, LIMITS_ASKED = 2, 40
PREPARING_SECONDS = 60.0
SECONDS_EACH = 0.6  # a question is asked for so long, three times at least


def shift_clock(now_ms: int) -> None:
    """Have this process take that time for now."""
    real, ahead = time.time, now_ms / 1000 - time.time()
    time.time = lambda: real() + ahead


# -- the process that writes


async def write(url: Secret) -> None:
    """Record requests until the standard input ends."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger.open(url, Path(directory), log=structlog.get_logger())
        await ledger.flushed()
        print("writing", flush=True)
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        chance, begun, written = random.Random(time.time_ns()), time.monotonic(), 0
        run = f"busy-{time.time_ns():x}"
        while not ended.done():
            while written < (time.monotonic() - begun) * RATE:
                record(ledger, f"{run}-{written}", chance.randrange(USERS))
                written += 1
            await asyncio.sleep(TICK_SECONDS)
        begun_at = time.monotonic()
        await ledger.flushed()
        print(f"{written:,} requests recorded, {written / (begun_at - begun):.0f} a second", flush=True)
        await ledger.close()


def record(ledger: Ledger, name: str, user: int) -> None:
    """A user's requests are all alike."""
    admitted, ended = records_of(0, time.time(), random.Random(user))
    ledger.admit(replace(admitted, request_id=name))
    ledger.settle(replace(ended, request_id=name))


# -- the one that asks


async def ask(url: Secret, only: str, today: date) -> tuple[list[Answered], list[Answered]]:
    """Ask every question; then a limit, beside exports."""
    reader = Reader(url, query_seconds=60)
    settle_the_collector()  # as a gateway does
    try:
        found = []
        spans = {"month": (today - timedelta(days=SPAN_DAYS - 1), today)}
        for name, question in questions(spans, today).items():
            if only in name:
                found.append(await asked(reader, name, question))
        return found, await beside_exports(reader, today) if only in "limits beside exports" else []
    finally:
        await reader.close()


async def asked(reader: Reader, name: str, question: Callable[[Reader], Awaitable[Any]]) -> Answered:
    """The first time apart: what took long is kept for the next."""
    begun = time.perf_counter()
    await question(reader)
    first = (time.perf_counter() - begun) * 1000
    await reader.has_prepared(PREPARING_SECONDS)
    answered = Answered(name, *await figures(reader, question, least=3, seconds=SECONDS_EACH), first=first)
    print(answered, flush=True)
    return answered


async def beside_exports(reader: Reader, today: date) -> list[Answered]:
    """Rebuild limits while exports run, as after a restart of Redis."""
    exported = [0] * EXPORTS

    async def export(place: int) -> None:
        async for _ in reader.export(UsageQuery(today - timedelta(days=300), today)):
            exported[place] += 1

    running = [asyncio.create_task(export(place)) for place in range(EXPORTS)]
    await asyncio.sleep(0.5)
    now, found = time.time(), []
    for name, since in (("a month", now - SPAN_DAYS * 86_400), ("an odd minute", now - 5 * 86_400 - 1_234)):
        took = []
        for number in range(LIMITS_ASKED):
            begun = time.perf_counter()
            await reader.counted_on(f"user:{number}", since)
            took.append((time.perf_counter() - begun) * 1000)
        what = f"a limit, {name}, beside {EXPORTS} exports"  # whose CPU is that of the exports, too
        found.append(Answered(what, 0.0, 0.0, statistics.median(took), p95(took), took[0]))
        print(found[-1], flush=True)
    assert not any(each.done() for each in running), "an export ended before"
    print(f"{sum(exported):,} rows exported meanwhile", flush=True)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return found


def run(url: Secret, only: str) -> list[Answered]:
    """Everything, beside a process that writes."""
    print(f"{forget_runs(url):,} requests on the last day so far", flush=True)
    now_ms = today_ms(url) + TODAY_AT_MS
    shift_clock(now_ms)
    today = datetime.fromtimestamp(now_ms // DAY_MS * 86_400, UTC).date()
    command = [sys.executable, "-m", "bench.busy_reports", "--now-ms", str(now_ms)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        writer.stdin.write(url.reveal() + "\n")
        writer.stdin.flush()
        while (line := writer.stdout.readline()) and line != "writing\n":
            print(line, end="", flush=True)
        found, limits = asyncio.run(ask(url, only, today))
    finally:
        told = writer.communicate()[0]
    print(told, end="")
    over = [each for each in (*found, *limits) if each.clock_p95 > GOAL_MS]
    print(f"{len(found) + len(limits) - len(over)} of {len(found) + len(limits)} within {GOAL_MS:.0f} ms at p95")
    for each in sorted(over, key=lambda each: -each.clock_p95):
        print(f"over: {each}")
    slow = [each for each in found if each.first > GOAL_MS]
    print(f"{len(slow)} took longer the first time they were asked:")
    for each in sorted(slow, key=lambda each: -each.first):
        print(f"first {each.first:9.1f}  {each.name}")
    return [*found, *limits]


def main() -> None:
    parser = argparse.ArgumentParser(description="The process that writes; its URL comes by the standard input")
    parser.add_argument("--now-ms", type=int, required=True)
    arguments = parser.parse_args()
    url = Secret(sys.stdin.readline().strip())
    shift_clock(arguments.now_ms)
    asyncio.run(write(url))


if __name__ == "__main__":
    main()
