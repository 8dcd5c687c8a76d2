"""How long reports take over millions of rows: python -m bench.reports --rows 10_000_000 [--url URL]

Fills a new ledger (365 days, 10,000 users, 500 organisations, 50 models of 8 endpoints each) through the writer's own
store, then asks every kind of report a few times, cache warm, and prints the 95th percentile of each. Nothing but the
ledger runs: what a report takes beside traffic is the loop's affair. Without `--url` the database is SQLite's, in a
directory that goes away at the end; a URL must name an empty database.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.types import Secret
from gateway.usage import Admission, Group, Settlement, UsageQuery
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.rows import row_of
from gateway.usage.sql.rows_store import Store

DAYS, USERS, ORGANISATIONS, MODELS, ENDPOINTS = 365, 10_000, 500, 50, 8
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST = (FIRST + timedelta(days=DAYS - 1)).date()
BATCH = 2_000
TIMES = 20

Ask = Callable[[Reader], Awaitable[Any]]


def rows_of(count: int) -> Iterator[list[dict[str, Any]]]:
    """In order of time, as a ledger grows."""
    chance = random.Random(7)
    step = timedelta(days=DAYS) / count
    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        yield [_row(number, (FIRST + number * step).timestamp(), chance) for number in numbers]


def _row(number: int, at: float, chance: random.Random) -> dict[str, Any]:
    user, model = chance.randrange(USERS), chance.randrange(MODELS)
    admitted = Admission(
        request_id=f"{number:032x}",
        client_request_id=None,
        time=at,
        user=user,
        organisation=user % ORGANISATIONS,
        key=f"key-{user}",
        model=model,
        route="/v1/chat/completions",
        streamed=True,
        counted_on=f"user:{user}",
    )
    prompt, completion = chance.randrange(4_000), chance.randrange(1_000)
    ended = Settlement(
        request_id=admitted.request_id,
        served_model=None,
        endpoint=f"e{chance.randrange(ENDPOINTS)}",
        status=200,
        outcome="ok",
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        usage_source="reported",
        cost_nano=2_500 * prompt + 10_000 * completion,
        first_byte_ms=200.0,
        duration_ms=900.0,
        attempts=1,
    )
    return row_of(admitted, ended)


def fill(url: Secret, count: int) -> float:
    """Store the rows; return the writer's CPU time for each, in microseconds."""
    spent = 0.0
    with closing(Store(url)) as store:
        store.prepare()
        for number, rows in enumerate(rows_of(count)):
            begun = time.thread_time()
            store.insert(rows)
            spent += time.thread_time() - begun
            if number % 50 == 0:
                print(f"\r{number * BATCH:,} of {count:,} rows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return spent / count * 1e6


def questions() -> dict[str, Ask]:
    month = LAST.replace(day=1)
    asked: dict[str, Ask] = {}
    whose: dict[str, dict[str, Any]] = {"all": {}, "a user": {"user": 42}, "an organisation": {"organisation": 42}}
    groups: dict[str, tuple[tuple[Group, ...], ...]] = {
        "all": (
            (),
            ("day",),
            ("model",),
            ("endpoint",),
            ("day", "model"),
            ("hour",),
            ("user",),
            ("organisation",),
            ("key",),
        ),
        "a user": ((), ("day",), ("model",), ("endpoint",), ("key",), ("day", "model")),
        "an organisation": ((), ("day",), ("model",), ("endpoint",), ("user",), ("day", "model")),
    }
    for span, first in (("month", month), ("year", FIRST.date())):
        for owner, narrowed in whose.items():
            for by in groups[owner]:
                name = f"{owner}, {span}, by {' and '.join(by) or 'nothing'}"
                asked[name] = _report(UsageQuery(first, LAST, **narrowed), by)
    asked["a limit, a month"] = lambda reader: reader.counted_on("user:42", _seconds(month))
    asked["a limit, an odd minute"] = lambda reader: reader.counted_on("user:42", _seconds(LAST) + 86_340)
    return asked


def _seconds(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _report(usage: UsageQuery, groups: tuple[Group, ...]) -> Ask:
    return lambda reader: reader.report(usage, *groups)


async def measure(url: Secret) -> dict[str, float]:
    """Return each question's 95th percentile in milliseconds."""
    reader = Reader(url, query_seconds=60)
    try:
        return {name: await _percentile(reader, ask) for name, ask in questions().items()}
    finally:
        await reader.close()


async def _percentile(reader: Reader, ask: Ask) -> float:
    await ask(reader)
    took = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        await ask(reader)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.quantiles(took, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", type=Secret)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = arguments.url or Secret(f"sqlite:///{Path(directory) / 'usage.db'}")
        print(f"writer: {fill(url, arguments.rows):.1f} µs CPU a row")
        for name, milliseconds in asyncio.run(measure(url)).items():
            print(f"{milliseconds:9.1f} ms  {name}")


if __name__ == "__main__":
    main()
