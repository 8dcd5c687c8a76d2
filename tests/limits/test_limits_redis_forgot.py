"""Redis that forgot: what the limiter counts again, and from where."""

from __future__ import annotations

import asyncio
import time

import pytest
from limits_kit import (
    DAY,
    Ledger,
    RedisServer,
    Start,
    counters,
    demand,
    healed,
    settle,
    until,
)

from gateway.errors import RateLimited, StoreUnavailable
from gateway.limits import Demand, Reservation, Used

# -- Redis that forgot


async def test_lost_data_are_rebuilt_once_for_all_workers(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """FLUSHALL: of 4 workers with 10 requests each waiting, one asks the ledger, and what it says counts for all."""
    limiters = [await start() for _ in range(4)]
    limits = demand(requests=100, period="month")
    for counter in counters(*limiters):
        settle(counter.limiter, await counter.take(limits))
    assert len(ledger.asked) == 1
    redis_server.command("FLUSHALL")
    ledger.known["user:1:model:1"] = Used(requests=90)
    outcomes = await asyncio.gather(
        *[counter.take(limits) for counter in counters(*limiters) for _ in range(10)], return_exceptions=True
    )
    assert sum(isinstance(each, Reservation) for each in outcomes) == 10
    assert len(ledger.asked) == 2


async def test_running_requests_are_entered_again_after_a_loss(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """A flushed Redis does not let twice as many run at a time, and counts them when they end."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(concurrency=2, requests=100, tokens=1000, period="month")
    first, second = await counter.take(limits, tokens=5), await counter.take(limits, tokens=5)
    redis_server.command("FLUSHALL")
    assert isinstance(await counter.refused(limits), RateLimited)
    settle(limiter, first, tokens=10)
    settle(limiter, second, tokens=20)
    (standing,) = await limiter.standing(limits, time.time())
    assert standing.used == Used(2, 30)
    assert (standing.running, standing.tokens_reserved) == (0, 0)


async def test_a_worker_that_failed_to_load_lets_others_try(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """The right to ask the ledger is given back with the error, not kept until it expires."""
    one, two = counters(await start(), await start())
    limits = demand(requests=5, period="month")
    ledger.error = OSError("the ledger is away")
    with pytest.raises(OSError, match="away"):
        await one.take(limits)
    ledger.error = None
    async with asyncio.timeout(2):
        await two.take(limits)


async def test_redis_that_goes_while_totals_are_loaded_is_no_error(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """The ledger's answer finds no Redis to put it in: the worker limits alone, by what the ledger says."""
    limiter = await start()
    (counter,) = counters(limiter)
    ledger.gate, ledger.known["user:1:model:1"] = asyncio.Event(), Used(requests=3)
    asking = asyncio.create_task(counter.take(demand(requests=4, period="month")))
    await ledger.was_asked.wait()
    redis_server.kill()
    ledger.gate.set()
    held = await asking
    assert held.standings[0].requests == 4
    assert limiter.is_degraded


async def test_what_the_ledger_has_told_of_is_not_told_again(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """Used while Redis was away, and its data lost: rebuilt from the ledger by one, not told besides by the other."""
    limits = (Demand("user:1:model:1", DAY),)
    late = await start()
    (counter,) = counters(late)
    settle(late, await counter.take(limits))
    await late.standing(limits, time.time())
    redis_server.kill()
    for _ in range(10):
        settle(late, await counter.take(limits))
    ledger.known["user:1:model:1"] = Used(requests=11, tokens=11)
    redis_server.start()
    early = await start()
    assert await early.used("user:1:model:1", DAY, time.time()) == Used(11, 11)
    await healed(late)
    assert await late.used("user:1:model:1", DAY, time.time()) == Used(11, 11)


async def test_what_came_into_the_ledger_after_it_was_asked_counts_too(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """One worker loads the totals before the other's rows are written: what neither told of is looked up again."""
    limits = (Demand("user:1:model:1", DAY),)
    late = await start()
    (counter,) = counters(late)
    await late.standing(limits, time.time())
    redis_server.kill()
    for _ in range(10):
        settle(late, await counter.take(limits))
    redis_server.start()
    early = await start()
    settle(early, await counters(early)[0].take(limits))
    assert await early.used("user:1:model:1", DAY, time.time()) == Used(1, 1)
    ledger.known["user:1:model:1"] = Used(requests=11, tokens=11)
    await healed(late)

    async def all_of_it_counts() -> bool:
        return not late.is_behind and await early.used("user:1:model:1", DAY, time.time()) == Used(11, 11)

    await until(all_of_it_counts)


async def test_a_slow_ledger_does_not_undo_what_was_counted_since(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """The right to load expires; when the slow worker's answer comes after another's, the other's stands."""
    slow = Ledger()
    slow.gate = asyncio.Event()
    one, two = counters(await start(rebuild=slow.rebuild), await start())
    limits = demand(requests=5, period="month")
    asking = asyncio.create_task(one.take(limits))
    await slow.was_asked.wait()
    assert redis_server.command("DEL", "gw:limit:load:month:user:1:model:1") == b":1\r\n"
    assert await two.used_up_by(limits) == 5
    slow.gate.set()
    with pytest.raises(RateLimited):
        await asking


async def test_a_holder_is_known_by_its_first_reservation(start: Start, redis_server: RedisServer) -> None:
    """In a Redis that has just lost everything: were its worker to die before it is heard of, others must know."""
    limiter = await start()
    (counter,) = counters(limiter)
    held = await counter.take(demand(concurrency=1))  # and with it the first heartbeat
    settle(limiter, held)
    await limiter.standing(demand(concurrency=1), time.time())
    redis_server.command("FLUSHALL")
    await counter.take(demand(concurrency=1))
    assert redis_server.command("HLEN", "gw:limit:holders") == b":1\r\n"


async def test_a_holder_last_heard_of_in_the_future_lapses_too(start: Start, redis_server: RedisServer) -> None:
    """The clock of Redis was set back: a dead worker must not live on until it has caught up."""
    redis_server.command("HSET", "gw:limit:holders", "ghost", "9000000000000000")
    await start(lease_seconds=0.2)

    async def is_gone() -> bool:
        return redis_server.command("HEXISTS", "gw:limit:holders", "ghost") == b":0\r\n"

    await until(is_gone)


async def test_totals_that_nobody_loads_are_not_waited_for_in_vain(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker holds the right to load and never does: 503 in the end, and nothing is left held."""
    monkeypatch.setattr("gateway.limits.redis._LOAD_SECONDS", 0.1)
    (counter,) = counters(await start())
    limits = demand(requests=5, concurrency=1, period="month")
    redis_server.command("SET", "gw:limit:load:month:user:1:model:1", "1")
    with pytest.raises(StoreUnavailable):
        await counter.take(limits)
    redis_server.command("DEL", "gw:limit:load:month:user:1:model:1")
    await counter.take(limits)
