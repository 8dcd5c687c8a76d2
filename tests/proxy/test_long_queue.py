"""A queue of ten thousand: joining costs the same at any length, and what goes on at once is bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from gateway.errors import ShuttingDown
from gateway.observability.metrics import Counters
from gateway.pool import Cause
from gateway.proxy.queueing import Handed, Place, RequestQueue
from gateway.proxy.upstreams import Upstreams
from gateway.store.base import Catalogue
from gateway.types import Endpoint, Model

LONG, AT_ONCE = 10_000, 64
PLACES = [Place("m", frozenset(), None)]


class CountingQueue(RequestQueue):
    looked = 0

    def free_at(self, places: Sequence[Place], now: float) -> float:
        self.looked += 1
        return super().free_at(places, now)


class Crowd:
    """Requests of as many users that wait for one endpoint, which cools."""

    def __init__(self) -> None:
        self.model = Model(id="m", name="m", endpoints=(Endpoint(id="a", url="http://a.test/v1"),))
        upstreams = Upstreams(random.Random(1))
        self.pool = upstreams.of(self.model, Catalogue((self.model,))).pool
        self.queue = CountingQueue(upstreams, Counters())
        self.tasks: list[asyncio.Task[Handed | None]] = []
        self.went_on: list[int] = []  # who goes on, in order
        self._in_turn = 0
        self.most_in_turn = 0

    def cool(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        lease = self.pool.take(now, ())
        assert lease is not None
        lease.failed(Cause.RATE_LIMITED, now, retry_after_seconds=seconds)
        lease.release()

    async def gather(self, count: int = LONG) -> None:
        self.tasks = [asyncio.create_task(self._wait(number)) for number in range(count)]
        await asyncio.sleep(0)
        assert len(self.queue) == count

    async def _wait(self, number: int) -> Handed | None:
        ticket = self.queue.enter(f"user-{number}", (0, 0), "m", most=2 * LONG, seconds=600)
        assert ticket is not None
        try:
            return await self.queue.wait(ticket, PLACES)
        finally:
            self.queue.leave(ticket, 0.0)
            self.went_on.append(number)
            self._in_turn += 1

    async def turns(self) -> None:
        """Let the loop turn until all have gone on."""
        while not all(task.done() for task in self.tasks):
            self._in_turn = 0
            await asyncio.sleep(0)
            self.most_in_turn = max(self.most_in_turn, self._in_turn)


async def test_joining_looks_at_nobody_else() -> None:
    crowd = Crowd()
    crowd.cool(60)
    await crowd.gather()
    assert crowd.queue.looked <= 1
    crowd.queue.close()
    await crowd.turns()


async def test_who_can_go_to_one_endpoint_alone_leaves_where_that_one_cools_for_longer() -> None:
    """Another that is free as soon as before says nothing to whom it cannot serve."""
    loop = asyncio.get_running_loop()
    model = Model(id="m", name="m", endpoints=tuple([Endpoint(id=id_, url=f"http://{id_}.test/v1") for id_ in "ab"]))
    upstreams = Upstreams(random.Random(1))
    pool, queue = upstreams.of(model, Catalogue((model,))).pool, RequestQueue(upstreams, Counters())
    for endpoint, seconds in (("a", 60), ("b", 80)):
        assert pool.cool(endpoint, Cause.RATE_LIMITED, loop.time() + seconds, loop.time())
    ticket = queue.enter("user", (0, 0), "m", most=10, seconds=100)
    assert ticket is not None
    waiting = asyncio.create_task(queue.wait(ticket, [Place("m", frozenset(("a",)), None)]))
    await asyncio.sleep(0)
    assert pool.cool("b", Cause.RATE_LIMITED, loop.time() + 300, loop.time())
    assert await asyncio.wait_for(waiting, 5) is None
    queue.leave(ticket, 0.0)


async def test_some_go_on_in_each_turn_of_the_loop_in_their_order() -> None:
    crowd = Crowd()
    crowd.cool(60)
    await crowd.gather()
    crowd.pool.reset("a")
    await crowd.turns()
    assert crowd.went_on == list(range(LONG))
    assert crowd.most_in_turn <= AT_ONCE
    for task in crowd.tasks:
        handed = task.result()
        assert handed is not None
        handed.lease.release()
    assert len(crowd.queue) == 0


async def test_who_comes_while_the_line_is_served_is_behind_it() -> None:
    crowd = Crowd()
    crowd.cool(60)
    await crowd.gather(3 * AT_ONCE)
    now = asyncio.get_running_loop().time()
    crowd.pool.reset("a")
    crowd.queue.serve("m")
    assert crowd.pool.has_free(now)
    assert crowd.queue.is_serving("m")
    assert not crowd.queue.has_free(PLACES, now)
    await crowd.turns()
    assert crowd.queue.has_free(PLACES, now)


async def test_a_change_of_records_and_the_end_wake_some_at_a_time() -> None:
    for is_end in (False, True):
        crowd = Crowd()
        crowd.cool(60)
        await crowd.gather()
        (crowd.queue.close if is_end else crowd.queue.wake)()
        await crowd.turns()
        assert crowd.most_in_turn <= AT_ONCE
        for task in crowd.tasks:
            if is_end:
                assert isinstance(task.exception(), ShuttingDown)
            else:
                assert task.result() is None


async def test_a_change_while_one_is_judged_is_not_missed() -> None:
    crowd = Crowd()
    crowd.cool(60)
    queue = crowd.queue
    ticket = queue.enter("u", (0, 0), "m", most=10, seconds=600)
    assert ticket is not None
    queue.wake()  # before it waits, or between two waits
    async with asyncio.timeout(5):
        assert await queue.wait(ticket, PLACES) is None
    waiting = asyncio.create_task(queue.wait(ticket, PLACES))
    await asyncio.sleep(0)
    assert not waiting.done(), "it was one change"
    queue.wake()
    assert await waiting is None
    queue.leave(ticket, 0.0)


@pytest.mark.parametrize("seed", range(3))
async def test_those_that_leave_take_no_endpoint_with_them(seed: int) -> None:
    """At any moment: before their turn, or in the very turn of the loop in which it comes."""
    chance, crowd = random.Random(seed), Crowd()
    crowd.cool(60)
    await crowd.gather(2_000)
    stay = set(chance.sample(range(2_000), 1_000))
    leave = [number for number in range(2_000) if number not in stay]
    chance.shuffle(leave)
    for number in leave[:400]:
        crowd.tasks[number].cancel()
    crowd.pool.reset("a")
    crowd.queue.serve("m")
    for number in leave[400:]:
        if not crowd.tasks[number].done():
            crowd.tasks[number].cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    await crowd.turns()
    served = [task for task in crowd.tasks if not task.cancelled()]
    for task in served:
        handed = task.result()
        assert handed is not None
        handed.lease.release()
    assert stay <= {number for number, task in enumerate(crowd.tasks) if not task.cancelled()}
    assert len(crowd.queue) == 0
    assert [slot.in_flight for slot in crowd.pool.snapshot(asyncio.get_running_loop().time())] == [0]
