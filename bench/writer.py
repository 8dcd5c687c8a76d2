"""What the ledger's writer takes for each row: python -m bench.writer [--rows 40000] [--users 200] [--days 0]

Makes finished rows from records as the event loop leaves them in memory, and stores them with their sums in batches, as
the writer's thread does. It prints CPU microseconds a row by that thread's clock, the least of a few rounds, each in a
new database: making rows, storing them, and of that SQLite's work by table; what is left is Python's, and the end of
each transaction. `--days 0` is a burst at 3,000 a second; else the rows are spread over so many days, in order of time.
Users have one key and some models each. `--folder /dev/shm` keeps the database in memory.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, event

from gateway.types import Secret
from gateway.usage import Admission, Settlement
from gateway.usage.sql.rows import row_of
from gateway.usage.sql.rows_store import Store
from gateway.usage.writer import BATCH_ROWS

MODELS, ENDPOINTS, ORGANISATIONS = 50, 8, 500
BURST_SECONDS = 1 / 3_000
FROM = 1_700_006_400.0
PRICE = '{"input": 3.0, "output": 12.0}'
TABLES = ("ai_usage_hourly", "ai_usage_daily", "ai_usage")

Records = tuple[Admission, Settlement]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    asked = list(records(options.rows, options.users, options.days, options.models))
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as a server has it
    rounds = [_round(asked, options.batch, options.folder) for _ in range(options.rounds)]
    best = min(rounds, key=lambda each: each.made_us + each.stored_us)
    print(
        f"{best.made_us + best.stored_us:.1f} µs a row: made {best.made_us:.2f}, stored {best.stored_us:.2f}, of that"
    )
    for table, spent_us in best.by_table_us.items():
        print(f"  {table:<16} {spent_us:5.2f}")
    print(f"  {'the rest':<16} {best.stored_us - sum(best.by_table_us.values()):5.2f}")


class Round(NamedTuple):
    """CPU microseconds a row."""

    made_us: float
    stored_us: float
    by_table_us: dict[str, float]


def records(count: int, users: int, days: int, models: int) -> Iterator[Records]:
    """In order of time; ids are the same objects each time, as those of settings are."""
    chance = random.Random(17)
    step = days * 86_400 / count if days else BURST_SECONDS
    names = [[f"{kind}-{user}" for kind in ("user", "key", "grant")] for user in range(users)]
    organisations = [f"organisation-{number}" for number in range(ORGANISATIONS)]
    model_names = [f"model-{number}" for number in range(MODELS)]
    endpoints = [f"endpoint-{number}" for number in range(ENDPOINTS)]
    for number in range(count):
        user = chance.randrange(users)
        name, key, grant = names[user]
        model = model_names[(user + chance.randrange(models)) % MODELS]
        at = FROM + number * step
        admitted = Admission(
            request_id=f"{round(at * 1000):012x}{chance.getrandbits(80):020x}",
            client_request_id=None,
            time=at,
            user=name,
            organisation=organisations[user % ORGANISATIONS],
            key=key,
            model=model,
            route="/v1/chat/completions",
            streamed=True,
            counted_on=grant,
        )
        prompt, completion = chance.randrange(10, 5_000), chance.randrange(1, 900)
        yield (
            admitted,
            Settlement(
                request_id=admitted.request_id,
                served_model=model,
                endpoint=endpoints[user % ENDPOINTS],
                status=200,
                outcome="ok",
                prompt_tokens=prompt,
                completion_tokens=completion,
                total_tokens=prompt + completion,
                usage_source="reported",
                cost_nano=3_000 * prompt + 12_000 * completion,
                first_byte_ms=120.5,
                duration_ms=800.25,
                attempts=1,
                price=PRICE,
            ),
        )


def _round(asked: list[Records], batch: int, folder: Path | None) -> Round:
    directory = Path(tempfile.mkdtemp(dir=folder))
    made = stored = 0.0
    try:
        with closing(Store(Secret(f"sqlite:///{directory / 'usage.db'}"))) as store, _Watch() as watch:
            store.prepare()
            watch.spent.clear()
            for first in range(0, len(asked), batch):
                begun = time.thread_time()
                rows = [row_of(*each) for each in asked[first : first + batch]]
                between = time.thread_time()
                if store.insert(rows):
                    raise ValueError("the database refuses a row")
                stored += time.thread_time() - between
                made += between - begun
    finally:
        shutil.rmtree(directory)
    each = 1e6 / len(asked)
    return Round(made * each, stored * each, {table: watch.spent[table] * each for table in TABLES})


class _Watch:
    """The time of statements, by the table that they write to."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._begun = 0.0

    def __enter__(self) -> _Watch:
        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._before)
        event.remove(Engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._begun = time.thread_time()

    def _after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        spent = time.thread_time() - self._begun
        begins = statement[:60]  # they are long
        table = next((table for table in TABLES if f" {table} " in begins), "")
        self.spent[table] += spent  # type: ignore[assignment]


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m bench.writer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=BATCH_ROWS, help="rows a transaction (default: the writer's most)")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--models", type=int, default=3, help="of each user")
    parser.add_argument("--days", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the database is made (default: the system's for such)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
