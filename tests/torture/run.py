"""One mode, from the first request to the last row."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from kit import KEYS

from gateway.demo.faults import BY_NAME
from torture.book import Book
from torture.clients import MOST_TOKENS, Client
from torture.gateways import ADMIN_KEY
from torture.gauges import Holding, Samples, at_rest, resident_mb, still_reserved
from torture.house import HEALED_SECONDS, House
from torture.options import Options
from torture.troubles import Troubles

Say = Callable[[str], None]

_PROGRESS_SECONDS = 10.0
# A cache that fills, an allocator that keeps what it has. A leak of a few bytes a request exceeds it in half an hour.
GROWTH_MB, GROWTH_PART = 8.0, 0.05
# A database's or Redis's connection that is opened on demand may stand at one moment and not at another.
SPARE_DESCRIPTORS, SPARE_TASKS = 4, 2
_MOST_TOLD = 20
MEMORY_FLAT = "memory flat once warm"
WARMING_SECONDS = 60.0


@dataclass(frozen=True)
class Check:
    name: str
    wrongs: list[str]
    told: str  # what was measured

    @property
    def holds(self) -> bool:
        return not self.wrongs


@dataclass
class Result:
    options: Options
    book: Book
    troubles: dict[str, int]
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


async def tortured(options: Options, directory: Path, say: Say) -> Result:
    """Runs one mode in this (empty) directory."""
    book = Book()
    async with House.standing(options, directory, book) as house:
        ports = " and ".join(str(gateway.port) for gateway in house.gateways)
        say(f"{options.mode}: {options.workers} worker(s) on port {ports}, seed {options.seed}")
        samples = Samples()
        async with load(house, book):
            await asyncio.sleep(options.warm_up_seconds)
        base = await at_rest(house, book)
        began = asyncio.get_running_loop().time()
        troubles = Troubles(house, book)
        async with load(house, book, partial(samples.take, house), troubles.run):
            await progress(house, book, troubles, say)
        await house.all_up()
        reserved = await still_reserved(house)
        rest = await at_rest(house, book)
        used = await tokens_used(house)
        exit_code = await house.stop()
        rows = house.rows()
    result = Result(options, book, dict(troubles.done))
    result.checks = [
        Check("clients got what the contract has for them", book.wrongs, f"{len(book.heard)} requests"),
        store_check(book, house),
        ledger_check(book, rows, [gateway.directory for gateway in house.gateways]),
        totals_check(rows, used, forgiven_tokens(house)),
        Check("reservations and slots given back", reserved, f"{len(reserved)} held"),
        rest_check(base, rest),
        memory_check(samples, began, options),
        Check("stopped well", [] if exit_code == 0 else [f"exit code {exit_code}"], f"exit code {exit_code}"),
        log_check([gateway.log_file for gateway in house.gateways]),
        faults_check(book),
    ]
    return result


@asynccontextmanager
async def load(house: House, book: Book, *beside: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Clients ask while the block lasts, and what is `beside` them runs as long: it is given the end."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for each in beside:
            group.create_task(_until(each, over))
        stamp = len(book.heard)
        for number in range(house.options.clients):
            group.create_task(Client(stamp + number, house, book).run(over))
        try:
            yield
        finally:
            over.set()


async def _until(what: Callable[[asyncio.Event], Awaitable[None]], over: asyncio.Event) -> None:
    await what(over)


async def progress(house: House, book: Book, troubles: Troubles, say: Say) -> None:
    """Lets the time pass, and says now and then how far it is."""
    loop = asyncio.get_running_loop()
    began, options = loop.time(), house.options
    while (left := began + options.seconds - loop.time()) > 0:
        await asyncio.sleep(min(left, _PROGRESS_SECONDS))
        done = ", ".join(f"{count} {name}" for name, count in sorted(troubles.done.items()))
        age, held = loop.time() - began, ", ".join(memory_of(house))
        say(f"{options.mode} {age:5.0f} s: {len(book.heard)} requests, {len(book.wrongs)} wrong; {held}; {done}")


def memory_of(house: House) -> list[str]:
    """Of each worker that lives at this moment."""
    told = []
    for pid in house.workers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            told.append(f"{resident_mb(pid):.0f} MB")
    return told


async def tokens_used(house: House) -> dict[str, float]:
    """The tokens that limits have counted for the user of most requests, by model."""
    used = {}
    for name in house.models:
        reply = await house.call("GET", f"/api/admin/explain?user=42&model={name}")
        for each in reply.json()["limits"]:
            if each["limit"] == "tokens":
                used[name] = each["used"]
    return used


def store_check(book: Book, house: House) -> Check:
    """What callers were told of the store, against when Redis, or a database that totals are read from, was away.

    On a machine that is busy elsewhere Redis may need more than its 250 ms: then the gateway's log says so.
    """
    said_away = [at - _wall_clock_ahead() for at in _times_in_logs(house, "redis is away")]
    told = [each for each in book.heard.values() if each.code == "store_unavailable"]
    unexplained = [each for each in told if not house.store_may_be_away(each.began, each.ended)]
    wrongs = [
        f"{each}: and the store was there"
        for each in unexplained
        if not any(each.began - HEALED_SECONDS <= at <= each.ended for at in said_away)
    ]
    return Check("store_unavailable only while a store is away", wrongs, f"{len(told)}, {len(unexplained)} by slowness")


def _wall_clock_ahead() -> float:
    """Of the loop's clock, which all times of a run are told in."""
    return time.time() - asyncio.get_running_loop().time()


def _times_in_logs(house: House, event: str) -> list[float]:
    texts = [gateway.log_file.read_text() for gateway in house.gateways]
    lines = [json.loads(line) for text in texts for line in text.splitlines() if f'"{event}"' in line]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]


def forgiven_tokens(house: House) -> int:
    """A killed worker's last words to Redis, and what was on its way to the ledger when Redis came back empty.

    Nothing in one process: there the totals are read from the ledger after every death.
    """
    return 0 if house.redis is None else (house.deaths + len(house.redis_away)) * house.options.clients * MOST_TOKENS


def ledger_check(book: Book, rows: list[dict[str, Any]], directories: list[Path]) -> Check:
    wrongs = list(book.against(rows))
    journal = [str(each) for directory in directories for each in (directory / "data" / "journal").iterdir()]
    return Check("ledger agrees with the independent count", wrongs + journal, f"{len(rows)} rows")


def totals_check(rows: list[dict[str, Any]], used: dict[str, float], forgiven: int) -> Check:
    """`forgiven`: tokens that deaths may have cost the limits' totals, which are not the ledger."""
    ledger: dict[str, float] = dict.fromkeys(used, 0)
    for row in rows:
        name = str(row["counted_on"]).removeprefix("user:42:model:id-")
        if name in ledger and row["answered"]:
            ledger[name] += row["total_tokens"]
    off = {name: used[name] - ledger[name] for name in used if used[name] != ledger[name]}
    wrongs = [f"{name}: {by:+.0f} of {ledger[name]:.0f} tokens in the ledger" for name, by in off.items()]
    is_fine = sum(map(abs, off.values())) <= forgiven
    told = f"off by {sum(map(abs, off.values())):.0f} of {sum(ledger.values()):.0f} tokens"
    return Check("totals of limits are those of the ledger", [] if is_fine else wrongs, told)


def rest_check(base: list[Holding], rest: list[Holding]) -> Check:
    most_tasks = max(each.tasks for each in base) + SPARE_TASKS
    most_descriptors = max(each.descriptors for each in base) + SPARE_DESCRIPTORS
    wrongs = [
        f"{each}; at the beginning {base}"
        for each in rest
        if each.in_flight or each.tasks > most_tasks or each.descriptors > most_descriptors
    ]
    told = "; ".join(f"{each.tasks} tasks, {each.descriptors} descriptors" for each in rest)
    return Check("in flight 0, tasks and descriptors back to base", wrongs, told)


def memory_check(samples: Samples, began: float, options: Options) -> Check:
    """A process grows in its first minute, whatever it does: a run that ends soon after it is not judged."""
    since = max(options.seconds * 0.6, options.kills_until + WARMING_SECONDS)
    if options.seconds - since < WARMING_SECONDS:
        return Check(MEMORY_FLAT, [], "too short to tell")
    grown = samples.growth_mb(began + since)
    wrongs = [
        f"process {pid} grew from {first:.1f} to {last:.1f} MB"
        for pid, (first, last) in grown.items()
        if last - first > GROWTH_MB + GROWTH_PART * first
    ]
    if not grown:
        wrongs = ["no process lived long enough to tell"]
    told = "; ".join(f"{first:.1f} → {last:.1f} MB" for first, last in grown.values())
    return Check(MEMORY_FLAT, wrongs, told)


def log_check(files: list[Path]) -> Check:
    lines, wrongs = 0, list[str]()
    for line in itertools.chain.from_iterable(map(_lines_of, files)):
        lines += 1
        if len(wrongs) < _MOST_TOLD and (fault := _fault_of_line(line)):
            wrongs.append(f"{fault}: {line[:1500]}")
    return Check("nothing in the log that should not be there", wrongs, f"{lines} lines")


def _lines_of(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as log:
        yield from log


def _fault_of_line(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return "not a log line"
    if "exception" in record:
        return "an exception"
    secrets = [*KEYS.values(), ADMIN_KEY]
    return "a key" if any(secret in line for secret in secrets) else None


def faults_check(book: Book) -> Check:
    """In a run too short for that, a kind may be missing by chance."""
    met = {name for name, _ in book.faults}
    is_long = book.faults.total() > 30 * len(BY_NAME)
    missing = sorted(set(BY_NAME) - met) if is_long else []
    return Check("every fault was met", [f"{each} never came" for each in missing], f"{len(met)} kinds")
