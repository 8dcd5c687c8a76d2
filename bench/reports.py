"""How long reports take over millions of rows: python -m bench.reports --rows 10_000_000 [--url URL]

Fills a new ledger (365 days, 10,000 users, 500 organisations, 50 models of 8 endpoints each) through the writer's own
store, then asks every kind of report a few times, cache warm, and prints the median and the 95th percentile of each, in
CPU time: a machine's other work must not count. With `--sums` the rows are left out and SQLite makes up the sums of so
many by itself, in a tenth of the time; what is read from rows (hours of a user) is then empty. Without `--url` the
database is SQLite's, in a directory that goes away at the end; a URL must name an empty database.
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
ENDED = FIRST + timedelta(days=DAYS, hours=2)
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
        roll(store)
    return spent / count * 1e6


def make_up(url: Secret, count: int) -> None:
    """Sums without rows, a day at a time."""
    with closing(Store(url)) as store:
        store.prepare()
        used = "1, 0, 2500, 2000, 500, 9000000"
        for day in range(DAYS):
            first = round((FIRST + timedelta(days=day)).timestamp() * 1000)
            rows = (
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count // DAYS}), r AS "
                f"MATERIALIZED (SELECT i, abs(random()) % {USERS} AS u, abs(random()) % {MODELS} AS m, "
                f"abs(random()) % {ENDPOINTS} AS e FROM n)"
            )
            days = f"SELECT {first}, u % {ORGANISATIONS}, u, 'key-' || u, m, 'e' || e, {used} FROM r"
            hour = f"{first} + i % 24 * 3600000"
            hours = f"SELECT {hour}, o, 1, {used} FROM r, (SELECT '*' AS o UNION SELECT 'k:' UNION SELECT 'c:user:')"
            hours = hours.replace(" o,", " CASE o WHEN '*' THEN o WHEN 'k:' THEN o || 'key-' || u ELSE o || u END,")
            add = "ON CONFLICT DO UPDATE SET requests = requests + 1"
            with store._database.begin() as connection:
                connection.exec_driver_sql(f"{rows} INSERT INTO ai_usage_daily {days} ORDER BY 1, 2, 3, 4, 5, 6 {add}")
                connection.exec_driver_sql(f"{rows} INSERT INTO ai_usage_hourly {hours} ORDER BY 1, 2 {add}")
                connection.exec_driver_sql(f"INSERT INTO ai_usage_made VALUES ({first // 86_400_000 * 16 + 15})")
            print(f"\r{day + 1} of {DAYS} days", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        roll(store)


def roll(store: Store) -> None:
    """Make the blocks of days that have ended, as the writer does once a day."""
    begun, blocks = time.thread_time(), 0
    while due := store.due_blocks(round(ENDED.timestamp() * 1000)):
        blocks += store.make_blocks(due)
    print(f"{blocks} blocks of days: {(time.thread_time() - begun) / max(1, blocks) * 1000:.1f} ms CPU each")


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
            ("organisation", "user"),
            ("day", "organisation"),
            ("organisation", "model"),
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


async def measure(url: Secret) -> None:
    """Print each question's median and 95th percentile, in milliseconds of this process's CPU time."""
    reader = Reader(url, query_seconds=60)
    print("p50, p95 of the CPU's milliseconds (a server's own are not among them)")
    try:
        for name, ask in questions().items():
            half, most = await _percentile(reader, ask)
            print(f"{half:9.1f} {most:9.1f}  {name}", flush=True)
    finally:
        await reader.close()


async def _percentile(reader: Reader, ask: Ask) -> tuple[float, float]:
    await ask(reader)
    took = []
    for _ in range(TIMES):
        begun = time.process_time()
        await ask(reader)
        took.append((time.process_time() - begun) * 1000)
    return statistics.median(took), statistics.quantiles(took, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", type=Secret)
    parser.add_argument("--sums", action="store_true", help="sums alone, without rows (SQLite)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = arguments.url or Secret(f"sqlite:///{Path(directory) / 'usage.db'}")
        if arguments.sums:
            make_up(url, arguments.rows)
        else:
            print(f"writer: {fill(url, arguments.rows):.1f} µs CPU a row")
        asyncio.run(measure(url))


if __name__ == "__main__":
    main()
