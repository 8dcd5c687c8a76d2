"""How long reports take over millions of rows: python -m bench.reports --rows 10_000_000 [--url URL]

Fills a new ledger (365 days, 10,000 users, 500 organisations, 50 models of 8 endpoints each) through the writer's own
store, then asks for a page of every report a few times, cache warm: by each group and each two, of everybody, of an
organisation and of a user, over a month and over a year less a few days (which no one block covers). It prints the
median and the 95th percentile of each, in CPU time and by the clock, where a machine's other work counts, and a
server's. With `--sums` the rows are left out and SQLite makes up the sums of so many by itself, in a tenth of the time;
what is read from rows (hours of a user) is then empty. With `--json` the figures are written to a file.
Pages that a process keeps (`pages.kept_pages`, `pages.kept_totals`) are found anew each time, unless `--kept`.
Without `--url` the database is SQLite's, in a directory that goes away at the end; a URL must name an empty database,
or with `--filled` one that was filled so before.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import msgspec

from bench.targets import REPOSITORY, gateway_version
from gateway.types import Secret
from gateway.usage import Admission, Group, Order, Settlement, UsageQuery
from gateway.usage.row_pages import Paging
from gateway.usage.sql.pages import kept_pages
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.rows import Row, row_of
from gateway.usage.sql.rows_store import Store
from gateway.usage.sql.sums.sum_tables import HOURLY_VALUES, VALUES, daily, hours
from gateway.usage.views import answer_of

DAYS, USERS, ORGANISATIONS, MODELS, ENDPOINTS = 365, 10_000, 500, 50, 8
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
ENDED = FIRST + timedelta(days=DAYS, hours=2)
LAST = (FIRST + timedelta(days=DAYS - 1)).date()
BATCH = 2_000
USED = {"requests": 1, "tokens": 2_500, "prompt_tokens": 2_000, "completion_tokens": 500, "cost_nano": 9_000_000}
TIMES, LIMIT = 20, 1_000
LEAST_TIMES, SECONDS_EACH = 5, 2.0  # a slow report is asked for as often as that time allows, but so often at least
GROUPS: tuple[Group, ...] = get_args(Group)
ORDERS: tuple[Order | None, ...] = (None, "cost")

Ask = Callable[[Reader], Awaitable[Any]]


def rows_of(count: int) -> Iterator[list[Row]]:
    """In order of time, as a ledger grows."""
    chance = random.Random(7)
    step = timedelta(days=DAYS) / count
    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        yield [_row(number, (FIRST + number * step).timestamp(), chance) for number in numbers]


def _row(number: int, at: float, chance: random.Random) -> Row:
    return row_of(*records_of(number, at, chance))


def records_of(number: int, at: float, chance: random.Random) -> tuple[Admission, Settlement]:
    """What the journal gets of a request."""
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
    return admitted, ended


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
        into = {table.name: f"{table.name} ({', '.join(table.c.keys())})" for table in (daily, hours)}
        for day in range(DAYS):
            first = round((FIRST + timedelta(days=day)).timestamp() * 1000)
            rows = (
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count // DAYS}), r AS "
                f"MATERIALIZED (SELECT i, abs(random()) % {USERS} AS u, abs(random()) % {MODELS} AS m, "
                f"abs(random()) % {ENDPOINTS} AS e FROM n)"
            )
            of_days = f"SELECT {first}, u % {ORGANISATIONS}, u, 'key-' || u, m, 'e' || e, {_used(VALUES)} FROM r"
            owner = "CASE o WHEN '*' THEN o WHEN 'k:' THEN o || 'key-' || u ELSE o || u END"
            of_hours = f"SELECT {first} + i % 24 * 3600000, {owner}, 1, {_used(HOURLY_VALUES)} FROM r, "
            of_hours += "(SELECT '*' AS o UNION SELECT 'k:' UNION SELECT 'c:user:')"
            add = "ON CONFLICT DO UPDATE SET requests = requests + 1"
            with store._database.begin() as connection:
                connection.exec_driver_sql(
                    f"{rows} INSERT INTO {into[daily.name]} {of_days} ORDER BY 1, 2, 3, 4, 5, 6 {add}"
                )
                connection.exec_driver_sql(f"{rows} INSERT INTO {into[hours.name]} {of_hours} ORDER BY 1, 2 {add}")
                connection.exec_driver_sql(f"INSERT INTO ai_usage_made VALUES ({first // 86_400_000 * 16 + 15})")
            print(f"\r{day + 1} of {DAYS} days", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        roll(store)


def _used(values: Sequence[str]) -> str:
    """What each row brings to the sums, in the order of their columns."""
    return ", ".join(str(USED.get(name, 0)) for name in values)


def roll(store: Store) -> None:
    """Make the blocks of days that have ended, as the writer does once a day."""
    begun, blocks = time.thread_time(), 0
    while due := store.due_blocks(round(ENDED.timestamp() * 1000)):
        blocks += store.make_blocks(due)
    print(f"{blocks} blocks of days: {(time.thread_time() - begun) / max(1, blocks) * 1000:.1f} ms CPU each")


SPANS = {
    "month": (LAST.replace(day=1), LAST),
    "year": (FIRST.date() + timedelta(days=1), LAST - timedelta(days=11)),
}


def questions(spans: Mapping[str, tuple[date, date]] = SPANS, last: date = LAST) -> dict[str, Ask]:
    """By name; `last`: the last day that has sums."""
    whose: dict[str, dict[str, Any]] = {"all": {}, "an organisation": {"organisation": 42}, "a user": {"user": 42}}
    asked: dict[str, Ask] = {}
    for (owner, narrowed), (span, days) in product(whose.items(), spans.items()):
        for by in (*((group,) for group in GROUPS), *combinations(GROUPS, 2)):
            for order in ORDERS:
                name = f"{owner}, {span}, by {' and '.join(by)}{f', the most {order} first' if order else ''}"
                asked[name] = _page(UsageQuery(*days, **narrowed), by, order)
    asked["a limit, a month"] = lambda reader: reader.counted_on("user:42", _seconds(spans["month"][0]))
    asked["a limit, an odd minute"] = lambda reader: reader.counted_on("user:42", _seconds(last) + 86_340)
    return asked


def _seconds(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _page(usage: UsageQuery, groups: tuple[Group, ...], order: Order | None) -> Ask:
    async def ask(reader: Reader) -> bytes:
        page = await reader.page(usage, groups, Paging(order, LIMIT))
        return msgspec.json.encode(answer_of(usage, page, groups, {}, is_page=True))

    return ask


class Answered(msgspec.Struct, frozen=True):
    """One report's times, in milliseconds: of this process's CPU, and of the clock."""

    name: str
    cpu_p50: float
    cpu_p95: float
    clock_p50: float
    clock_p95: float
    first: float = 0.0  # by the clock, where it was taken apart

    def __str__(self) -> str:
        return f"{self.cpu_p50:9.1f}{self.cpu_p95:9.1f}{self.clock_p50:9.1f}{self.clock_p95:9.1f}  {self.name}"


class Answers(msgspec.Struct, frozen=True):
    """What one run of this command found, and of what."""

    when: str  # a date, UTC
    version: str
    command: str
    rows: int
    database: str
    answered: list[Answered]


async def measure(url: Secret, only: str) -> list[Answered]:
    """Ask, and print each question's figures."""
    reader, answered = Reader(url, query_seconds=60), []
    print("CPU: p50, p95; clock: p50, p95; in milliseconds (a server's CPU is in the clock alone)", file=sys.stderr)
    try:
        for name, ask in questions().items():
            if only in name:
                answered.append(Answered(name, *await figures(reader, ask)))
                print(answered[-1], flush=True)
    finally:
        await reader.close()
    return answered


async def figures(reader: Reader, ask: Ask, *, least: int = LEAST_TIMES, seconds: float = SECONDS_EACH) -> list[float]:
    """CPU and clock, median and 95th percentile of each."""
    await ask(reader)
    took: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + seconds
    while len(took[0]) < least or (len(took[0]) < TIMES and time.perf_counter() < until):
        begun = time.process_time(), time.perf_counter()
        await ask(reader)
        for figures, now, before in zip(took, (time.process_time(), time.perf_counter()), begun, strict=True):
            figures.append((now - before) * 1000)
    return [figure for each in took for figure in (statistics.median(each), p95(each))]


def p95(figures: list[float]) -> float:
    return statistics.quantiles(figures, n=20, method="inclusive")[-1]


_MAKING = """make such a folder: of SQLite from a filled file (--rows 10_000_000 --url sqlite:///FILE), whose last
whole day becomes today; of PostgreSQL from such a folder's usage.db, by copying"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", type=Secret)
    parser.add_argument("--sums", action="store_true", help="sums alone, without rows (SQLite)")
    parser.add_argument("--filled", action="store_true", help="the database is there: ask alone")
    parser.add_argument("--only", default="", help="questions with these words, such as 'all, month'")
    parser.add_argument("--kept", action="store_true", help="pages that were found before may be kept")
    parser.add_argument(
        "--folder",
        type=Path,
        help="made by --make, with so many rows as --rows says: ask while 500 requests a second are written",
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite", help="what is in the folder")
    parser.add_argument("--make", type=Path, metavar="FILE", help=_MAKING)
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    arguments = parser.parse_args()
    answered = _busy(arguments) if arguments.folder else _quiet(arguments)
    if arguments.json:
        _write(arguments, answered)


def _busy(arguments: argparse.Namespace) -> list[Answered]:
    from bench import busy_database, busy_reports  # which ask as this module does

    if arguments.make is not None:
        make = busy_database.make_sqlite if arguments.database == "sqlite" else busy_database.make_postgresql
        make(arguments.make, arguments.folder)
        return []
    with busy_database.served(arguments.database, arguments.folder) as url:
        return busy_reports.run(url, arguments.only)


def _quiet(arguments: argparse.Namespace) -> list[Answered]:
    if not arguments.kept:
        kept_pages.KEPT_FROM_SECONDS = math.inf
    with tempfile.TemporaryDirectory() as directory:
        url = arguments.url or Secret(f"sqlite:///{Path(directory) / 'usage.db'}")
        if arguments.filled:
            print("filled before")
        elif arguments.sums:
            make_up(url, arguments.rows)
        else:
            print(f"writer: {fill(url, arguments.rows):.1f} µs CPU a row")
        return asyncio.run(measure(url, arguments.only))


def _write(arguments: argparse.Namespace, answered: list[Answered]) -> None:
    path: Path = arguments.json
    if answered:
        command = " ".join(["python -m bench.reports", *sys.argv[1:]])
        version, database = gateway_version(REPOSITORY), {"sqlite": "SQLite"}.get(arguments.database, "PostgreSQL")
        found = Answers(f"{datetime.now(UTC):%Y-%m-%d}", version, command, arguments.rows, database, answered)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main()
