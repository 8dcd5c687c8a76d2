"""Sentinel: who is primary, before, while and after that changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from kit.redis_nodes import SERVICE, Trio, needs_redis
from store.grants_kit import SECRET, Log, eventually, until

from gateway.errors import ConfigError, QuotaUsedUp
from gateway.limits import Demand, Used
from gateway.limits.redis import RedisLimiter
from gateway.redis.link import RedisLink
from gateway.redis.link_forms import address_of
from gateway.redis.refusals import RedisUnavailable
from gateway.store.redis import RedisStore
from gateway.types import Limits, Secret

PASSWORD, OF_SENTINELS = "s3rv3r/p@ss", "s3nt1n3l:p@ss"
LOGIN = {"password": PASSWORD}
WRITTEN = ":s3rv3r%2Fp%40ss@"
OPTIONS = f"?sentinel_password={OF_SENTINELS.replace(':', '%3A').replace('@', '%40')}"
PATIENCE_SECONDS = 20.0


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    """Servers with a password, Sentinels with another one."""
    needs_redis()
    options = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-ping-replica-period", "1")
    lines = (
        f"sentinel auth-pass {SERVICE} {PASSWORD}",
        f"requirepass {OF_SENTINELS}",
        f"sentinel sentinel-pass {OF_SENTINELS}",
    )
    own = {"password": OF_SENTINELS}
    with Trio.open(tmp_path, *options, sentinel_lines=lines, login=LOGIN, sentinel_login=own) as running:
        yield running


@pytest.fixture
async def link(trio: Trio, log: Log) -> AsyncIterator[RedisLink]:
    made = made_link(trio.url(login=WRITTEN, options=OPTIONS), log)
    await made.start()
    assert made.is_up, made.fault
    yield made
    await made.stop()


def made_link(url: str, log: Log) -> RedisLink:
    return RedisLink(address_of(Secret(url)), log.logger)


async def nothing_known(scope: str, since: float) -> Used:
    return Used()


async def count(limiter: RedisLimiter, demands: tuple[Demand, ...], name: str) -> int:
    """How many requests pass, one after the other, until the limit is reached."""
    for number in range(1000):
        try:
            held = await limiter.reserve(f"{name}-{number}", demands, tokens=1, cost=0.0, now=time.time())
        except QuotaUsedUp:
            return number
        limiter.settle(held, tokens=1, cost=0.0, now=time.time())
    raise AssertionError("there is no limit")


async def in_thread(function: Any) -> Any:
    """What takes seconds, while the link goes on looking."""
    return await asyncio.to_thread(function)


async def test_it_finds_the_primary_and_the_next_one_after_a_kill(link: RedisLink, trio: Trio, log: Log) -> None:
    await link.call("SET", "a", "1")
    trio.replicated()
    await in_thread(trio.fail_over)
    await until(lambda: link.is_up, seconds=PATIENCE_SECONDS)
    assert await link.call("GET", "a") == b"1"
    await link.call("SET", "a", "2")
    assert trio.primary.do("GET", "a") == b"2"
    for secret in (PASSWORD, OF_SENTINELS, "s3rv3r", "s3nt1n3l"):
        assert secret not in log.text + repr(link) + str(link.address)


async def test_a_primary_that_is_silent_is_left_for_the_next_one_and_not_returned_to(
    link: RedisLink, trio: Trio
) -> None:
    """Stopped, not killed: when it wakes up it still takes itself for the primary, for a moment."""
    old = trio.primary
    old.tell(SIGSTOP)
    with pytest.raises(RedisUnavailable):
        await link.call("SET", "a", "1")
    heir = next(each for each in trio.servers if each is not old)
    await until(lambda: link.is_up, seconds=PATIENCE_SECONDS)
    old.tell(SIGCONT)
    for number in range(50):
        await link.call("SET", "a", number)
    assert heir.do("ROLE")[0] == b"master"
    assert heir.do("GET", "a") == b"49"


async def test_a_planned_failover_is_followed(link: RedisLink, trio: Trio) -> None:
    """SENTINEL FAILOVER: the old primary lives, and refuses."""
    old = trio.primary
    trio.sentinels[0].do("SENTINEL", "FAILOVER", SERVICE)

    async def is_moved() -> bool:
        try:
            await link.call("SET", "a", "1")
        except RedisUnavailable:
            return False
        return bool(next(each for each in trio.servers if each is not old).do("GET", "a") == b"1")

    await eventually(is_moved, True, seconds=PATIENCE_SECONDS)


async def test_a_server_that_was_demoted_is_left_at_its_first_refusal(link: RedisLink, trio: Trio) -> None:
    """Nobody closes the connection: READONLY alone says that another one is to be asked."""
    old, heir = trio.primary, trio.replica
    for sentinel in trio.sentinels:
        sentinel.do("SENTINEL", "SET", SERVICE, "down-after-milliseconds", "60000")
    old.do("REPLICAOF", "127.0.0.1", heir.port)
    with pytest.raises(RedisUnavailable):
        await link.call("SET", "a", "1")
    await asyncio.sleep(0)
    await until(lambda: not link.is_up)
    assert "replica" in str(link.fault) or "another server" in str(link.fault)


async def test_one_sentinel_of_three_is_enough_and_a_silent_one_costs_half_a_second(trio: Trio, log: Log) -> None:
    trio.sentinels[0].kill()
    trio.sentinels[1].tell(SIGSTOP)
    link = made_link(trio.url(login=WRITTEN, options=OPTIONS), log)
    await link.start()
    await until(lambda: link.is_up)
    await link.stop()
    trio.sentinels[1].tell(SIGCONT)


async def test_what_sentinels_refuse_is_told_in_words(trio: Trio, log: Log) -> None:
    """A service that they do not know; a password that is wrong."""
    good = trio.url(login=WRITTEN, options=OPTIONS)
    for url, words in [
        (good.replace(SERVICE, "other"), "No such master"),
        (good.replace("s3nt1n3l", SECRET), "password"),
        (good.replace("s3rv3r", SECRET), "password"),
    ]:
        link = made_link(url, log)
        await link.start()
        assert not link.is_up
        assert words in str(link.fault)
        assert SECRET not in log.text + str(link.fault)
        await link.stop()


async def test_limits_are_exact_before_and_after_and_off_by_what_was_not_replicated(
    link: RedisLink, trio: Trio, log: Log
) -> None:
    """Of 20, five pass and are replicated, seven pass and are not: afterwards fifteen more pass, not one more."""
    limiter = RedisLimiter(link, nothing_known, log=log.logger.warning)
    await limiter.start()
    demands = (Demand("user:1:model:1", Limits(requests=20, period="month")),)
    other = (Demand("user:2:model:1", Limits(requests=20, period="month")),)
    assert await count(limiter, other, "before") == 20

    async def use(number: int, name: str) -> None:
        for each in range(number):
            held = await limiter.reserve(f"{name}-{each}", demands, tokens=1, cost=0.0, now=time.time())
            limiter.settle(held, tokens=1, cost=0.0, now=time.time())
        await link.call("PING")

    await use(5, "replicated")
    await in_thread(trio.cut)
    await use(7, "lost")
    await in_thread(trio.fail_over)
    await until(lambda: not limiter.is_degraded, seconds=PATIENCE_SECONDS)
    assert await count(limiter, demands, "after") == 15
    assert await count(limiter, other, "after") == 0
    assert await count(limiter, (Demand("user:3:model:1", Limits(requests=20, period="month")),), "new") == 20
    await limiter.close()


async def test_what_runs_during_a_failover_is_counted_by_the_next_primary(
    link: RedisLink, trio: Trio, log: Log
) -> None:
    """Admitted before, unknown to the replica, still running: entered again, and ended there."""
    limiter = RedisLimiter(link, nothing_known, log=log.logger.warning)
    await limiter.start()
    demands = (Demand("user:1:model:1", Limits(requests=20, concurrency=3, period="month")),)
    assert (await limiter.standing(demands, time.time()))[0].running == 0
    await in_thread(trio.cut)
    held = [await limiter.reserve(f"r-{n}", demands, tokens=1, cost=0.0, now=time.time()) for n in range(3)]
    await in_thread(trio.fail_over)
    await until(lambda: not limiter.is_degraded, seconds=PATIENCE_SECONDS)
    assert (await limiter.standing(demands, time.time()))[0].running == 3
    for each in held:
        limiter.settle(each, tokens=1, cost=0.0, now=time.time())
    await link.call("PING")
    standing = (await limiter.standing(demands, time.time()))[0]
    assert (standing.running, standing.used.requests) == (0, 3)
    await limiter.close()


async def test_a_change_after_a_failover_is_heard(link: RedisLink, trio: Trio, log: Log) -> None:
    """And with the new subscription everything that was cached is doubted."""
    store = RedisStore(link, log.logger)
    heard: list[tuple[Any, Any]] = []
    store.on_change(lambda kind, record_id: heard.append((kind, record_id)))
    await store.start()
    await store.put("user", "42", b"{}")
    trio.replicated()
    heard.clear()
    await in_thread(trio.fail_over)
    await until(lambda: store.available and store.receives_changes, seconds=PATIENCE_SECONDS)
    assert (None, None) in heard
    assert await store.get("user", "42") == b"{}"
    trio.primary.do("PUBLISH", "gw:changed", '{"kind": "user", "id": 42}')
    await until(lambda: ("user", "42") in heard)
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{SECRET}@a,b:26379",
        f"redis+sentinel://:{SECRET}@a,b:x/main",
        f"redis+sentinel://:{SECRET}@a,,b/main",
        f"redis+sentinel://:{SECRET}@a/main/x",
        f"redis+sentinel://:{SECRET}@a/main/0?surprise={SECRET}",
        f"redis+sentinel://:{SECRET}@a/main?protocol={SECRET}",
        f"redis+sentinel://a/main?sentinel_passwort={SECRET}",
    ],
)
def test_a_url_of_another_form_is_refused_without_a_word_of_it(url: str, log: Log) -> None:
    with pytest.raises(ConfigError) as refused:
        made_link(url, log)
    assert SECRET not in str(refused.value)
