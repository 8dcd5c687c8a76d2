"""Two real processes over one Redis: counts hold across them, and a dead one holds nothing for long."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from limits_kit import RedisServer, Worker, demand, link, until
from limits_worker import SCOPE, rebuild

from gateway.limits import Standing, Used
from gateway.limits.redis import RedisLimiter

LEASE_SECONDS = 0.4
Hire = Callable[[], Awaitable[Worker]]


@pytest.fixture
async def hire(shared_redis: RedisServer, prefix: str) -> AsyncIterator[Hire]:
    """Starts worker processes, and ends them."""
    hired: list[Worker] = []

    async def hire_one() -> Worker:
        worker = await Worker.start(shared_redis.url, prefix, LEASE_SECONDS)
        hired.append(worker)
        return worker

    yield hire_one
    for worker in hired:
        await worker.close()


@pytest.fixture
async def observer(shared_redis: RedisServer, prefix: str) -> AsyncIterator[RedisLimiter]:
    """A limiter of this process: another worker, which also clears up after dead ones."""
    limiter = RedisLimiter(link(shared_redis.url), rebuild, prefix=prefix, log=print, lease_seconds=LEASE_SECONDS)
    await limiter.start()
    yield limiter
    await limiter.close()


async def standing(observer: RedisLimiter, **limits: object) -> Standing:
    (found,) = await observer.standing(demand(SCOPE, **limits), time.time())
    return found


@pytest.mark.parametrize(
    "limits",
    [{"requests": 100, "period": "month"}, {"rpm": 100}, {"concurrency": 100}],
    ids=["requests", "rpm", "running"],
)
async def test_parallel_clients_of_two_workers_never_overrun_a_count(hire: Hire, limits: dict[str, object]) -> None:
    """32 clients on each of two workers, 640 requests together, against 100: exactly 100 pass."""
    workers = await asyncio.gather(hire(), hire())
    admitted = await asyncio.gather(
        *[worker.do("take", limits=limits, clients=32, each=10, tokens=5) for worker in workers]
    )
    assert sum(admitted) == 100


async def test_tokens_of_two_workers_are_overrun_by_the_last_request_only(hire: Hire) -> None:
    """Requests of 10 tokens against 1,005: 101 pass, whoever asked."""
    workers = await asyncio.gather(hire(), hire())
    limits = {"tokens": 1005, "period": "month"}
    admitted = await asyncio.gather(
        *[worker.do("take", limits=limits, clients=32, each=10, tokens=10) for worker in workers]
    )
    assert sum(admitted) == 101


async def test_a_killed_worker_holds_nothing_for_long(hire: Hire, observer: RedisLimiter) -> None:
    """After `kill -9`, running requests, their tokens and their count come back; the living lose nothing."""
    doomed, living = await asyncio.gather(hire(), hire())
    limits = {"concurrency": 1000, "requests": 1000, "tokens": 10_000, "period": "month"}
    assert await doomed.do("take", limits=limits, clients=600, each=1, tokens=5) == 600
    assert await living.do("take", limits=limits, clients=10, each=1, tokens=5) == 10
    doomed.signal(signal.SIGKILL)

    async def only_the_living_run() -> bool:
        return (await standing(observer, **limits)).running <= 10

    await until(only_the_living_run)
    left = await standing(observer, **limits)
    assert (left.running, left.requests, left.tokens_reserved) == (10, 10, 50)
    assert await living.do("settle", tokens=7) == 10
    done = await standing(observer, **limits)
    assert (done.running, done.tokens_reserved, done.used) == (0, 0, Used(10, 70))


async def test_a_killed_worker_does_not_give_the_minute_back(hire: Hire, observer: RedisLimiter) -> None:
    """Its requests may have been sent: `rpm` holds for the whole of their minute."""
    doomed = await hire()
    assert await doomed.do("take", limits={"rpm": 10}, clients=10, each=1, tokens=5) == 10
    doomed.signal(signal.SIGKILL)

    async def lapsed() -> bool:
        return (await standing(observer, rpm=10)).running == 0

    await until(lapsed)
    left = await standing(observer, rpm=10)
    assert (left.minute_requests, left.minute_tokens) == (10, 0)


async def test_a_worker_given_up_for_dead_still_settles(hire: Hire, observer: RedisLimiter) -> None:
    """Stopped for longer than its lease, then going on: what its requests used is counted, once."""
    worker = await hire()
    limits = {"requests": 1000, "tokens": 10_000, "concurrency": 1000, "period": "month"}
    assert await worker.do("take", limits=limits, clients=3, each=1, tokens=5) == 3
    worker.signal(signal.SIGSTOP)

    async def lapsed() -> bool:
        return (await standing(observer, **limits)).running == 0

    await until(lapsed)
    assert (await standing(observer, **limits)).used == Used()
    worker.signal(signal.SIGCONT)
    assert await worker.do("settle", tokens=7) == 3
    done = await standing(observer, **limits)
    assert (done.used, done.running, done.tokens_reserved) == (Used(3, 21), 0, 0)


async def test_a_worker_given_up_for_dead_takes_its_running_requests_up_again(
    hire: Hire, observer: RedisLimiter
) -> None:
    """What runs on after the worker was stopped for a while counts against `concurrency` again."""
    worker = await hire()
    assert await worker.do("take", limits={"concurrency": 3}, clients=3, each=1, tokens=5) == 3
    worker.signal(signal.SIGSTOP)

    async def lapsed() -> bool:
        return (await standing(observer, concurrency=3)).running == 0

    await until(lapsed)
    worker.signal(signal.SIGCONT)

    async def taken_up() -> bool:
        return (await standing(observer, concurrency=3)).running == 3

    await until(taken_up)


async def test_what_is_taken_up_again_holds_no_more_than_is_left(hire: Hire, observer: RedisLimiter) -> None:
    """An enormous request of a worker that was stopped for a while: it holds what is free, and later nothing."""
    worker = await hire()
    limits = {"tokens": 100, "concurrency": 3, "period": "month"}
    assert await worker.do("take", limits=limits, clients=1, each=1, tokens=1_000_000) == 1
    assert (await standing(observer, **limits)).tokens_reserved == 100
    worker.signal(signal.SIGSTOP)

    async def lapsed() -> bool:
        return (await standing(observer, **limits)).running == 0

    await until(lapsed)
    assert (await standing(observer, **limits)).tokens_reserved == 0
    worker.signal(signal.SIGCONT)

    async def taken_up() -> bool:
        return (await standing(observer, **limits)).running == 1

    await until(taken_up)
    again = await standing(observer, **limits)
    assert (again.tokens_reserved, again.requests_reserved) == (100, 1)
    assert await worker.do("settle", tokens=7) == 1
    done = await standing(observer, **limits)
    assert (done.used, done.tokens_reserved, done.requests_reserved) == (Used(1, 7), 0, 0)
