"""Redis that goes, comes back, or is slow: what the limiter does then."""

from __future__ import annotations

import asyncio
import re
import signal
import time

from limits_kit import (
    DAY,
    NOON,
    Counter,
    Ledger,
    Log,
    RedisServer,
    Start,
    counters,
    demand,
    healed,
    running,
    settle,
    until,
)

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Demand, Reservation, Used, bounds
from gateway.limits.redis import RedisLimiter
from gateway.types import Secret

# -- the ordinary way


async def test_one_round_trip_a_request_and_fewer_under_load(start: Start) -> None:
    """A request waits for one round trip; those that come together share it."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(rpm=10_000, tokens=10_000_000)
    settle(limiter, await counter.take(limits))
    before = limiter.round_trips
    for _ in range(50):
        await counter.take(limits)
    assert limiter.round_trips - before == 50
    before = limiter.round_trips
    await asyncio.gather(*[counter.take(limits) for _ in range(50)])
    assert limiter.round_trips - before == 1


async def test_settling_waits_for_nothing_and_travels_with_what_comes_next(start: Start) -> None:
    """A request that begins when another ends pays one round trip for both."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(rpm=10_000, tokens=10_000_000, concurrency=1)
    held = await counter.take(limits)
    before = limiter.round_trips
    for _ in range(50):
        settle(limiter, held)
        held = await counter.take(limits)
    assert limiter.round_trips - before == 50


async def test_no_limits_no_round_trip(start: Start) -> None:
    """Callers without limits cost Redis nothing."""
    limiter = await start()
    (counter,) = counters(limiter)
    before = limiter.round_trips
    held = await counter.take(())
    assert held.headers() == []
    settle(limiter, held)
    assert await running(limiter, demand(rpm=1)) == 0
    assert limiter.round_trips - before == 1


async def test_a_script_that_redis_forgot_is_given_again(start: Start, redis_server: RedisServer, log: Log) -> None:
    """SCRIPT FLUSH is noticed and mended without anybody seeing it."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(concurrency=1)
    held = await counter.take(limits)
    assert redis_server.command("SCRIPT", "FLUSH") == b"+OK\r\n"
    settle(limiter, held)
    await counter.take(limits)
    assert log.lines == []
    assert not limiter.is_degraded


async def test_workers_count_together(start: Start) -> None:
    """Two limiters, one Redis: what one admits is missing for the other."""
    one, two = counters(await start(), await start())
    limits = demand(rpm=3, requests=1000)
    await one.take(limits)
    await two.take(limits)
    await one.take(limits)
    assert isinstance(await two.refused(limits), RateLimited)


async def test_close_tells_what_is_left_to_tell(start: Start) -> None:
    """What is settled in the last moment of a worker is not lost, nor left running until its lease ends."""
    limiter, observer = await start(), await start()
    (counter,) = counters(limiter)
    limits = (Demand("user:1:model:1", DAY),)
    for held in [await counter.take(limits) for _ in range(600)]:
        settle(limiter, held, tokens=2)
    await limiter.close()
    (standing,) = await observer.standing(limits, time.time())
    assert (standing.used, standing.running) == (Used(600, 1200), 0)


async def test_all_keys_are_under_the_prefix(start: Start, redis_server: RedisServer) -> None:
    """The panel's keys and ours do not meet."""
    limiter = await start()
    (counter,) = counters(limiter)
    settle(limiter, await counter.take(demand(rpm=3, requests=1000, concurrency=3)))
    await counter.take(demand(rpm=3, requests=1000, concurrency=3))
    names = [word for word in redis_server.command("KEYS", "*").split(b"\r\n")[1:-1] if not word.startswith(b"$")]
    assert names
    assert all(name.startswith(b"gw:limit:") for name in names)


# -- Redis away


async def test_redis_away_each_worker_limits_alone_and_heals(start: Start, redis_server: RedisServer, log: Log) -> None:
    """No error but those of limits; the limit itself holds, for this worker; when Redis is back it counts again."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(requests=5, period="month")
    redis_server.kill()
    assert await counter.used_up_by(limits) == 5
    assert limiter.is_degraded
    redis_server.start()
    await healed(limiter)
    assert [line.split(" {")[0] for line in log.lines] == ["redis is away", "redis is back"]
    redis_server.kill()
    assert await counter.used_up_by(limits) == 5, "the next time, it counts from what the ledger knows then"


async def test_redis_away_from_the_start_is_no_error(redis_server: RedisServer, start: Start) -> None:
    """A gateway starts without its Redis, and takes it up when it comes."""
    redis_server.kill()
    limiter = await start()
    (counter,) = counters(limiter)
    assert await counter.used_up_by(demand(rpm=2)) == 2
    redis_server.start()
    await healed(limiter)


async def test_redis_killed_and_restarted_under_load(start: Start, redis_server: RedisServer) -> None:
    """Clients see admissions and the two kinds of 429, nothing else; afterwards nothing is left running."""
    limiters = [await start(), await start()]
    limits, outcomes, stop = demand(rpm=1_000_000, requests=10_000_000, concurrency=50), set(), asyncio.Event()

    async def client(counter: Counter, name: int) -> None:
        while not stop.is_set():
            try:
                held = await counter.take(limits)
            except (RateLimited, QuotaUsedUp) as refusal:
                outcomes.add(type(refusal))
            else:
                outcomes.add(Reservation)
                settle(counter.limiter, held)
            await asyncio.sleep(0.001)

    clients = [asyncio.create_task(client(counter, number)) for counter in counters(*limiters) for number in range(10)]
    for _ in range(2):
        redis_server.kill()
        await until(lambda: all_degraded(limiters, True))
        redis_server.start()
        await until(lambda: all_degraded(limiters, False))
    stop.set()
    await asyncio.gather(*clients)
    assert Reservation in outcomes
    assert outcomes <= {Reservation, RateLimited, QuotaUsedUp}
    assert [await running(limiter, limits) for limiter in limiters] == [0, 0]


async def all_degraded(limiters: list[RedisLimiter], wanted: bool) -> bool:
    return all(limiter.is_degraded is wanted for limiter in limiters)


async def test_a_redis_that_hangs_delays_nobody_for_long(start: Start, redis_server: RedisServer) -> None:
    """250 ms for those who ask first (and what this machine adds); then nothing."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(rpm=100)
    await counter.take(limits)
    redis_server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        await asyncio.gather(*[counter.take(limits) for _ in range(20)])
        assert time.monotonic() - began < 0.25 + 0.5
        await until(lambda: all_degraded([limiter], True))
        began = time.monotonic()
        await asyncio.gather(*[counter.take(limits) for _ in range(20)])
        assert time.monotonic() - began < 0.25
    finally:
        redis_server.signal(signal.SIGCONT)
    await healed(limiter)


async def test_a_worker_that_is_late_itself_does_not_blame_redis(start: Start) -> None:
    """Its loop stands still for longer than the time-out, while the answer lies there: it goes on as if nothing was."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(rpm=100, requests=100, period="month")
    asking = [asyncio.create_task(counter.take(limits)) for _ in range(3)]
    for _ in range(4):
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)  # what is tested: nothing waits for it
        await asyncio.sleep(0)
    await asyncio.gather(*asking)
    assert not limiter.is_degraded
    assert await running(limiter, limits) == 3


async def test_what_was_used_while_redis_was_away_is_told_to_it(start: Start, redis_server: RedisServer) -> None:
    """Totals in a Redis that kept its data have nothing missing: ended and running requests are entered, once."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = (Demand("user:1:model:1", DAY),)
    settle(limiter, await counter.take(limits), tokens=10)
    before = await counter.take(limits)
    redis_server.signal(signal.SIGSTOP)
    try:
        # The first of these reaches Redis when it goes on, though its asker has been told otherwise.
        ended, running_on = await counter.take(limits), await counter.take(limits)
        settle(limiter, ended, tokens=100)
        assert limiter.is_degraded
    finally:
        redis_server.signal(signal.SIGCONT)
    await healed(limiter)
    assert await limiter.used("user:1:model:1", DAY, time.time()) == Used(4, 110)
    assert await running(limiter, limits) == 2
    settle(limiter, before, tokens=1000)
    settle(limiter, running_on, tokens=10_000)
    (standing,) = await limiter.standing(limits, time.time())
    assert standing.used == Used(4, 11_110)
    assert (standing.running, standing.tokens_reserved) == (0, 0)


async def test_what_is_to_be_told_outlives_vain_attempts(start: Start, redis_server: RedisServer) -> None:
    """Ends wait until Redis can be reached, however often it cannot."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = (Demand("user:1:model:1", DAY),)
    held = await counter.take(limits)
    async with redis_server.out_of_reach(attempts=2) as tried:
        await limiter.standing(limits, time.time())
        assert limiter.is_degraded
        settle(limiter, held, tokens=100)
        settle(limiter, await counter.take(limits), tokens=1000)
        await tried.wait()
    await healed(limiter)
    (standing,) = await limiter.standing(limits, time.time())
    assert (standing.used, standing.running, standing.tokens_reserved) == (Used(2, 1100), 0, 0)


async def test_an_end_that_is_told_twice_counts_once(start: Start, redis_server: RedisServer) -> None:
    """Redis hangs with the telling in hand, and gets it again over the next connection."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = (Demand("user:1:model:1", DAY),)
    held = await counter.take(limits, tokens=5)
    redis_server.signal(signal.SIGSTOP)
    try:
        settle(limiter, held, tokens=100)
        await until(lambda: all_degraded([limiter], True))
    finally:
        redis_server.signal(signal.SIGCONT)
    await healed(limiter)
    (standing,) = await limiter.standing(limits, time.time())
    assert (standing.used, standing.running, standing.tokens_reserved) == (Used(1, 100), 0, 0)


async def test_a_request_refused_alone_is_not_left_in_redis(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """One that Redis admits late, after this worker has refused it by itself, is given back."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(requests=5, concurrency=5, period="month")
    settle(limiter, await counter.take(limits))
    ledger.known["user:1:model:1"] = Used(requests=5)
    redis_server.signal(signal.SIGSTOP)
    try:
        assert isinstance(await counter.refused(limits), QuotaUsedUp)
    finally:
        redis_server.signal(signal.SIGCONT)
    await healed(limiter)
    (standing,) = await limiter.standing(limits, time.time())
    assert (standing.running, standing.requests) == (0, 1)


async def test_a_period_that_began_while_redis_was_away_is_loaded(
    start: Start, redis_server: RedisServer, ledger: Ledger
) -> None:
    """What was used in it was counted by nobody but the ledger."""
    limiter = await start(clock="caller")
    (counter,) = counters(limiter)
    limits, edge = demand(requests=100, period="month"), bounds("month", NOON)[1]
    await counter.take(limits, now=NOON)
    redis_server.signal(signal.SIGSTOP)
    try:
        await counter.take(limits, now=NOON)
        assert limiter.is_degraded
        settle(limiter, await counter.take(limits, now=edge + 1))
    finally:
        redis_server.signal(signal.SIGCONT)
    await healed(limiter)
    ledger.known["user:1:model:1"] = Used(requests=7)
    assert await limiter.used("user:1:model:1", limits[0].limits, edge + 2) == Used(7)


async def test_a_client_that_leaves_while_redis_is_asked_holds_nothing(start: Start, redis_server: RedisServer) -> None:
    """The reservation may be made after the client has gone; then it is given back."""
    limiter = await start()
    (counter,) = counters(limiter)
    limits = demand(concurrency=1, rpm=5, requests=5)
    await limiter.used("user:1:model:1", limits[0].limits, time.time())
    asking = asyncio.create_task(counter.take(limits))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (standing,) = await limiter.standing(limits, time.time())
    assert (standing.running, standing.minute_requests, standing.requests) == (0, 0, 0)


def scripts_run(server: RedisServer) -> int:
    calls = re.search(rb"cmdstat_evalsha:calls=(\d+)", server.command("INFO", "commandstats"))
    return 0 if calls is None else int(calls[1])


async def test_a_redis_out_of_memory_counts_as_away(start: Start, redis_server: RedisServer, log: Log) -> None:
    """It answers, but keeps nothing: each worker limits alone until it can again."""
    limiter = await start()
    (counter,) = counters(limiter)
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    assert await counter.used_up_by(demand(rpm=3)) == 3
    before = scripts_run(redis_server)

    async def has_tried_again() -> bool:
        return scripts_run(redis_server) >= before + 2

    await until(has_tried_again)
    assert limiter.is_degraded
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    await healed(limiter)
    await counter.take(demand(rpm=3))
    assert not limiter.is_degraded
    assert "OOM" in "".join(log.lines)


async def test_no_credential_in_log_or_repr(start: Start, redis_server: RedisServer, log: Log) -> None:
    """A refused password is told of without the password."""
    url = Secret(redis_server.url.reveal().replace("unix://", "unix://someone:swordfish@"))
    limiter = await start(url=url)
    assert limiter.is_degraded
    assert log.lines
    assert "swordfish" not in "".join(log.lines) + repr(limiter)


# -- the clock of Redis


async def test_redis_and_python_agree_on_the_calendar(start: Start, redis_server: RedisServer, ledger: Ledger) -> None:
    """By default the time is that of Redis, whatever the caller's clock says."""
    limiter = await start()
    limits = demand(requests=5, period="month")
    (standing,) = await limiter.standing(limits, 0.0)
    assert (standing.period_start, standing.period_end) == bounds("month", time.time())
