"""Rounds over running work: one worker of all makes them, and what is lost is booked by its reservation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from objects_kit import Bench, Clock
from store.grants_kit import Log

from gateway.batches.settler import Settler, View
from gateway.errors import StoreUnavailable
from gateway.objects.index import ObjectIndex
from gateway.objects.record import ObjectRecord, Unsettled
from gateway.proxy.books.bookings import Deferred, Used, packed
from gateway.proxy.keeping.refresher import Seen
from gateway.usage import Admission

ADMISSION = Admission("r1", None, 1.0, 42, None, "k", 1, "batches", False)
DEFERRED = Deferred(
    admission=ADMISSION,
    model=1,
    endpoint="a",
    attempts=1,
    is_batch=True,
    requests=3,
    prompt_tokens=30,
    completion_tokens=300,
    cost_nano=5,
)
WORK = Unsettled(id="batch-1", kind="batch", owner="42", account="a", model="1", reservation=packed(DEFERRED))
OVER = b'{"id":"batch-1","status":"completed","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}'


class Upstream:
    """Stands for what reads objects: it says the same each time."""

    def __init__(self, seen: Seen | None) -> None:
        self.seen = seen
        self.looks = 0

    async def look(self, record: ObjectRecord) -> Seen | None:
        self.looks += 1
        return self.seen


class Books:
    """Stands for the bookings. `fails`: the store is away as the row is there already."""

    def __init__(self, index: ObjectIndex) -> None:
        self.index = index
        self.booked: list[Used] = []
        self.held = 0
        self.fails = False

    async def hold(self, work: Unsettled) -> None:
        self.held += 1

    async def book(self, work: Unsettled, used: Used, catalogue: Any) -> None:
        self.booked.append(used)
        if self.fails:
            raise StoreUnavailable("away")
        await self.index.settled(work.id)


def settler(index: ObjectIndex, books: Books, upstream: Upstream, log: Log, **more: Any) -> Settler:
    async def view() -> View:
        return View(None, upstream)  # type: ignore[arg-type]

    return Settler(index, books, view, log.logger, **more)  # type: ignore[arg-type]


async def test_one_worker_of_all_looks_until_it_is_gone(redis_bench: Bench, log: Log) -> None:
    upstream = Upstream(Seen(200, b'{"id":"batch-1","status":"in_progress"}'))
    indexes = [await redis_bench.open(), await redis_bench.open()]
    await indexes[0].begin(WORK)
    books = [Books(index) for index in indexes]
    first, second = [settler(*each, upstream, log) for each in zip(indexes, books, strict=True)]
    for _ in range(3):
        await asyncio.gather(first.poll(), second.poll())
    assert sorted(each.held for each in books) == [0, 3]
    assert upstream.looks == 3


async def test_another_worker_takes_over(redis_bench: Bench, log: Log) -> None:
    upstream = Upstream(Seen(200, b'{"id":"batch-1","status":"in_progress"}'))
    indexes = [await redis_bench.open(), await redis_bench.open()]
    await indexes[0].begin(WORK)
    books = [Books(index) for index in indexes]
    await settler(indexes[0], books[0], upstream, log, poll_seconds=0.02).poll()
    other = settler(indexes[1], books[1], upstream, log, poll_seconds=0.02)
    async with asyncio.timeout(10):
        while not books[1].held:
            await other.poll()
            await asyncio.sleep(0.01)


async def test_rounds_go_on_while_it_runs(bench: Bench, log: Log) -> None:
    upstream, index = Upstream(Seen(200, b'{"id":"batch-1","status":"in_progress"}')), await bench.open()
    await index.begin(WORK)
    books = Books(index)
    async with settler(index, books, upstream, log, poll_seconds=0.01), asyncio.timeout(10):
        while upstream.looks < 3:  # noqa: ASYNC110  # nothing says when
            await asyncio.sleep(0.01)
        upstream.seen = Seen(200, OVER)
        while await index.unsettled():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [(each.usage.total_tokens, each.source) for each in books.booked] == [(3, "reported")]


@pytest.mark.parametrize("seen", [None, Seen(404, b"")], ids=["away", "gone"])
async def test_what_cannot_be_read_costs_its_reservation(bench: Bench, log: Log, seen: Seen | None) -> None:
    """At once where it is unknown, after a day where its upstream is away."""
    clock, index = Clock(), await bench.open()
    await index.begin(WORK)
    books = Books(index)
    one = settler(index, books, Upstream(seen), log, epoch=clock)
    await one.poll()
    assert bool(books.booked) == (seen is not None)
    clock.ahead = 86_300
    await one.poll()
    assert bool(books.booked) == (seen is not None)
    clock.ahead = 86_500
    await one.poll()
    assert [(each.usage.total_tokens, each.source, each.nano) for each in books.booked] == [(330, "estimated", 5)]
    assert await index.unsettled() == []


async def test_what_could_not_be_forgotten_is_booked_again(bench: Bench, log: Log) -> None:
    """Under the same id, of which the ledger takes the first; one whose store is away holds up no other."""
    index = await bench.open()
    await index.begin(WORK)
    books = Books(index)
    books.fails = True
    one = settler(index, books, Upstream(Seen(200, OVER)), log)
    await one.poll()
    books.fails = False
    await one.poll()
    await one.poll()
    assert len(books.booked) == 2
    assert await index.unsettled() == []
