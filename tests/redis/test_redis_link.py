"""The link to Redis by itself: what travels together, what is refused, what it costs when Redis falls silent."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from signal import SIGCONT, SIGSTOP

import pytest
import uvloop
from redis.exceptions import RedisError
from store.grants_kit import Log, RedisServer, until

from gateway.limits import Demand, Used
from gateway.limits.redis import RedisLimiter
from gateway.redis.address import Dialer
from gateway.redis.circuit_breaker import CircuitBreaker
from gateway.redis.link import RedisLink
from gateway.redis.outbox import MOST_UNDER_WAY, Outbox
from gateway.redis.pipelining import MOST_WAITING
from gateway.redis.refusals import RedisUnavailable, is_refusal, is_unwell
from gateway.redis.script import Script
from gateway.store.redis import RedisStore
from gateway.types import Limits

ADD = Script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
ECHO = Script("return ARGV[1]")


async def nothing_known(scope: str, since: float) -> Used:
    return Used()


async def listed(link: RedisLink, key: str = "list") -> list[bytes]:
    found: list[bytes] = await link.call("LRANGE", key, 0, -1)
    return found


def make_replica(server: RedisServer) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)


def make_master(server: RedisServer) -> None:
    with server.client() as client:
        client.replicaof("NO", "ONE")


# What travels together


async def test_what_is_asked_in_one_turn_is_one_round_trip(link: RedisLink) -> None:
    """Commands and scripts of whoever asks, each with its own answer, in the order in which they were asked."""
    before = link.round_trips
    asked = [link.call_script(ECHO, (), number) for number in range(50)]
    answers = await asyncio.gather(*asked, link.call("RPUSH", "list", "x"), link.call("LLEN", "list"))
    assert answers == [*(b"%d" % number for number in range(50)), 1, 1]
    assert link.round_trips == before + 1


async def test_a_script_is_sent_by_its_hash_and_again_when_redis_has_forgotten_it(
    link: RedisLink, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        for _ in range(2):
            answers = await asyncio.gather(*[link.call_script(ADD, ["list"], number) for number in range(3)])
            assert await link.call_script(ECHO, (), "x") == b"x"
            client.script_flush()
        assert answers == [4, 5, 6]
        assert client.info("commandstats")["cmdstat_eval"]["calls"] == 4
    assert await listed(link) == [b"0", b"1", b"2"] * 2


async def test_a_flood_is_refused_at_once_and_not_stored(link: RedisLink) -> None:
    asked = [asyncio.create_task(link.call("PING")) for _ in range(MOST_WAITING + 10)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, RedisUnavailable) for each in outcomes) == 10


async def test_an_asker_that_leaves_takes_nobody_elses_answer(link: RedisLink) -> None:
    leaver = asyncio.create_task(link.call_script(ECHO, (), "left"))
    stayer = asyncio.create_task(link.call_script(ECHO, (), "stayed"))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer == b"stayed"


async def test_it_is_closed_by_the_last_of_its_users(link: RedisLink) -> None:
    await link.start()
    await link.stop()
    assert await link.call("PING") == b"PONG"


# Redis away


async def test_a_silent_redis_delays_a_request_once_whatever_it_asks(
    link: RedisLink, redis_server: RedisServer, log: Log
) -> None:
    """A record and then its limits: 250 ms for both together, since both are asked over one link."""
    store = RedisStore(link, log.logger)
    limiter = RedisLimiter(link, nothing_known, log=log.logger.warning)
    await asyncio.gather(store.start(), limiter.start())
    demands = (Demand("user:1:model:1", Limits(rpm=100)),)
    waited: list[float] = []
    for number in range(3):  # the best of three: what is promised is not to be blamed for a machine that is busy
        await until(lambda: store.available and not limiter.is_degraded)
        redis_server.tell(SIGSTOP)
        began = time.perf_counter()
        with pytest.raises(RedisUnavailable):
            await store.get("user", "42")
        held = await limiter.reserve(f"request-{number}", demands, tokens=1, cost=0.0, now=time.time())
        waited.append(time.perf_counter() - began)
        assert limiter.is_degraded
        limiter.settle(held, tokens=1, cost=0.0, now=time.time())
        redis_server.tell(SIGCONT)
    assert min(waited) < 0.25
    await limiter.close()
    await store.close()


async def test_it_says_whether_a_command_may_have_been_carried_out(link: RedisLink, redis_server: RedisServer) -> None:
    redis_server.tell(SIGSTOP)
    with pytest.raises(RedisUnavailable) as silent:
        await link.call("PING")
    assert silent.value.sent
    with pytest.raises(RedisUnavailable) as away:
        await link.call("PING")
    assert not away.value.sent
    redis_server.tell(SIGCONT)
    await until(lambda: link.is_up)


# The circuit breaker


async def test_the_breaker_is_open_while_the_probe_is_refused(link: RedisLink, redis_server: RedisServer) -> None:
    """Redis answers, and refuses to write: nothing is asked of it until the probe succeeds."""
    heard: list[str] = []
    probe = partial(link.call, "SET", "probe", "1")
    breaker = CircuitBreaker(link, probe, on_close=lambda: heard.append("closed"), on_open=heard.append)
    await breaker.start()
    assert (breaker.is_closed, heard) == (True, ["closed"])
    make_replica(redis_server)
    breaker.trip("READONLY")
    breaker.trip("READONLY")
    await asyncio.sleep(0.3)  # in which it tries more than once, in vain
    assert (breaker.is_closed, heard) == (False, ["closed", "READONLY"])
    make_master(redis_server)
    await until(lambda: breaker.is_closed)
    redis_server.stop()
    await until(lambda: not breaker.is_closed)
    assert len(heard) == 4
    await breaker.stop()


# The outbox


async def test_the_outbox_delivers_all_in_order_over_refusals_and_restarts(
    link: RedisLink, redis_server: RedisServer
) -> None:
    """More than may be under way at a time; refused at first; each arrives, and none before an older one."""
    outbox = Outbox(link, ADD, is_unwell)
    count = MOST_UNDER_WAY * 2
    make_replica(redis_server)
    outbox.open()
    for number in range(count // 2):
        outbox.put(ADD.packed(["list"], [number]))
    answer = await link.ask(ADD.packed(["list"], ["?"]), ADD)
    assert is_refusal(answer)
    assert is_unwell(answer)
    outbox.close()
    make_master(redis_server)
    for number in range(count // 2, count):
        outbox.put(ADD.packed(["list"], [number]))
    assert len(outbox) == count
    assert await listed(link) == []
    outbox.open()
    await outbox.emptied(30.0)
    assert [int(each) for each in await listed(link)] == list(range(count))


async def test_what_only_one_message_is_refused_for_holds_up_no_other(link: RedisLink) -> None:
    await link.call("SET", "text", "x")
    outbox = Outbox(link, ADD, is_unwell)
    outbox.open()
    for key in ("list", "text", "list"):
        outbox.put(ADD.packed([key], ["x"]))
    await outbox.emptied(30.0)
    assert len(outbox) == 0
    assert len(await listed(link)) == 2


# The end of a connection


def test_what_is_sent_to_a_server_that_has_gone_ends_as_connections_end(redis_server: RedisServer) -> None:
    """By uvloop, too, whose own word for it is a RuntimeError, which would be logged as a bug of ours."""

    async def send_on() -> None:
        connection = await Dialer(redis_server.url).open()
        redis_server.stop()
        async with asyncio.timeout(10):
            while True:
                await connection.send_command("PING")
                await asyncio.sleep(0.01)

    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises((RedisError, ConnectionError)),
    ):
        runner.run(send_on())
