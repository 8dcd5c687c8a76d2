"""How a ledger of the first release is brought up to date: python -m bench.migration --rows 1_000_000 [--url URL]

Makes such a database by its own SQL (rows over 300 days, 2,000 users, 100 organisations, 50 models), opens a ledger on
it as a gateway does, and goes on recording requests, a hundred a second. It prints how long the tables took, how long
the rows, and meanwhile: the longest that the rebuilding of a limit waited for the journal to be in the database, the
longest report, and whether any of its totals was wrong. Without `--url` the database is SQLite's, in a directory that
goes away at the end; a URL must name an empty database.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from datetime import date
from pathlib import Path

import structlog
from sqlalchemy import Engine, create_engine, text

from gateway.types import Secret
from gateway.usage import Admission, Ledger, Settlement, UsageQuery
from gateway.usage.sql.drivers import drivername_of
from gateway.usage.sql.migrations.steps import STEPS

RELEASES = Path(__file__).parents[1] / "tests" / "usage" / "releases"
DAYS = 300
EVER = UsageQuery(date(2000, 1, 1), date(2099, 1, 1))
_COLUMNS = (
    "request_id, client_request_id, time_ms, user_id, organisation_id, key_id, model, endpoint_id, route, streamed, "
    "status, outcome, answered, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, total_tokens, "
    "usage_source, cost_nano, first_byte_ms, duration_ms, attempts, counted_on"
)
_ONE_WITHOUT = "SELECT 1 FROM ai_usage WHERE summed IS NULL LIMIT 1"  # a look at all would take MariaDB half a second
# In words that SQLite, PostgreSQL and MariaDB have in common.
_ROW = (
    "'old-' || i, NULL, t, i % 2000 || '', i % 100 || '', 'key-' || (i % 2000), 'm' || (i % 50), 'e' || (i % 8), "
    "'/v1/chat/completions', 1 = 1, 200, 'ok', i % 9 > 0, 100 + i % 7, 10, 0, 0, 110 + i % 7, 'reported', "
    "1000 + i % 1000, 1.5, 9.5, 1, 'user:' || (i % 2000) || ':model:quick'"
)


def engine_of(url: Secret) -> Engine:
    scheme, _, rest = url.reveal().partition("://")
    return create_engine(f"{drivername_of(scheme)}://{rest}")


def fill(url: Secret, rows: int, *, days: int = DAYS) -> None:
    """The first release's tables and so many rows, the last of them now."""
    engine = engine_of(url)
    kind = "mariadb" if engine.dialect.name in ("mysql", "mariadb") else engine.dialect.name
    statements = (RELEASES / f"release_1.{kind}.sql").read_text().split(";\n")[:-1]
    step_ms = days * 86_400_000 // rows
    first_ms = round(time.time() * 1000) - rows * step_ms
    numbers = f"SELECT 0, {first_ms} UNION ALL SELECT i + 1, t + {step_ms} FROM n WHERE i < {rows - 1}"
    with engine.begin() as connection:
        if kind == "mariadb":
            connection.exec_driver_sql("SET SESSION sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')")
            connection.exec_driver_sql("SET SESSION max_recursive_iterations = 4294967295")
        for statement in statements:
            if not statement.strip().startswith("INSERT INTO ai_usage ("):
                connection.exec_driver_sql(statement)
        made = f"INSERT INTO ai_usage ({_COLUMNS}) WITH RECURSIVE n(i, t) AS ({numbers}) SELECT {_ROW} FROM n"
        connection.execute(text(made))
    engine.dispose()


class Course:
    """What is seen from outside while the ledger comes up to date."""

    def __init__(self, ledger: Ledger, before: int) -> None:
        self.ledger, self.before = ledger, before
        self.recorded = 0
        self.waited = self.asked = 0.0  # the longest, in seconds
        self.wrong = 0

    async def record(self) -> None:
        """A hundred requests a second."""
        while True:
            request_id = f"new-{self.recorded}"
            self.ledger.admit(
                Admission(
                    request_id, None, time.time(), 42, 10, "laptop", "m1", "/v1/chat/completions", False, "user:42"
                )
            )
            self.ledger.settle(Settlement(request_id, None, "e1", 200, "ok", total_tokens=10))
            self.recorded += 1
            await asyncio.sleep(0.01)

    async def ask(self) -> None:
        """What a limit waits for, and a report: every row of before and those that are flushed, none twice."""
        while True:
            begun, least = time.monotonic(), self.before + self.recorded
            await self.ledger.flushed()
            self.waited = max(self.waited, time.monotonic() - begun)
            begun = time.monotonic()
            found = (await self.ledger.reader.report(EVER)).totals.requests
            self.asked = max(self.asked, time.monotonic() - begun)
            self.wrong += not least <= found <= self.before + self.recorded
            await asyncio.sleep(0.05)


async def watch(url: Secret, rows: int, directory: Path) -> None:
    begun, cpu = time.monotonic(), time.process_time()
    ledger = Ledger.open(url, directory / "journal", log=structlog.get_logger())
    course = Course(ledger, rows)
    work = [asyncio.create_task(course.record())]
    await ledger.flushed()
    print(f"tables ready, first requests stored: {time.monotonic() - begun:.1f} s", flush=True)
    work.append(asyncio.create_task(course.ask()))
    engine = engine_of(url)
    for what, query, wanted in (
        (
            "every row in the sums",
            f"SELECT count(*) FROM ({_ONE_WITHOUT}) AS one",
            0,
        ),
        ("every step taken", "SELECT count(*) FROM ai_usage_steps", len(STEPS)),
    ):
        while await asyncio.to_thread(_number, engine, query) != wanted:
            assert not any(each.done() for each in work), work
            await asyncio.sleep(0.5)
        print(f"{what}: {time.monotonic() - begun:.1f} s, CPU {time.process_time() - cpu:.1f} s", flush=True)
    for each in work:
        each.cancel()
    await ledger.close()
    print(f"{course.recorded} requests meanwhile; a limit waited {course.waited:.2f} s at most, a report took ", end="")
    print(f"{course.asked:.2f} s at most; {course.wrong} wrong totals")


def _number(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar() or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", type=Secret)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = arguments.url or Secret(f"sqlite:///{os.path.join(directory, 'usage.db')}")
        fill(url, arguments.rows)
        asyncio.run(watch(url, arguments.rows, Path(directory)))


if __name__ == "__main__":
    main()
