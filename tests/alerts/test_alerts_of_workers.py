"""Four workers over one Redis: each threshold has one id and one delivery, also where a worker is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_kit import Place, placed, shares
from kit import KEYS, GatewayProcess
from kit.books import until
from kit.wire import DEADLINE_SECONDS
from store.grants_kit import RedisServer


def over(server: RedisServer, prefix: str, workers: int = 4) -> dict[str, object]:
    return {
        "store": {"kind": "redis", "url": server.url, "prefix": prefix},
        "server": {"workers": workers},
    }


async def used(place: Place, gateway: GatewayProcess, times: int, tokens: int) -> None:
    async def one() -> None:
        with contextlib.suppress(ConnectionError, AssertionError, TimeoutError, EOFError):
            await place.use(gateway, tokens, key=KEYS["user"])

    await asyncio.gather(*(one() for _ in range(times)))


async def test_many_workers_tell_of_each_threshold_once(tmp_path: Path, redis_server: RedisServer) -> None:
    async with placed(tmp_path, **over(redis_server, "four:")) as place:
        place.limits = {"requests": 100, "period": "month"}
        async with place.gateway() as gateway:
            await used(place, gateway, 60, 5)
            await place.hook.until(lambda found: 50 in shares(found))
            await used(place, gateway, 60, 5)
            events = await place.hook.until(lambda found: {50, 80, 100} <= set(shares(found)))
    assert sorted(shares(events)) == [50, 80, 100]


async def test_a_worker_killed_after_its_answers_leaves_no_threshold_untold(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """All workers are killed as soon as clients have their answers; those that follow tell, by one id."""
    async with placed(tmp_path, **over(redis_server, "killed:", 2)) as place:
        async with place.gateway() as gateway:
            await used(place, gateway, 8, 70)
            for worker in workers_of(gateway):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            async with asyncio.timeout(DEADLINE_SECONDS):
                events = await place.hook.until(lambda found: 50 in shares(found))
            await gateway.log(lambda line: line["event"] == "worker died and is replaced")
        events = place.hook.events()
    assert len({each["id"] for each in events if shares([each]) == [50]}) == 1


async def test_four_workers_that_are_killed_under_way_tell_of_each_threshold_by_one_id(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Killed one after another while requests run; an alert comes twice at most for each of them."""
    async with placed(tmp_path, **over(redis_server, "storm:")) as place:
        place.limits = {"tokens": 1200, "period": "month"}
        async with place.gateway() as gateway:
            killed: set[int] = set()
            for _ in range(3):
                running = asyncio.create_task(used(place, gateway, 12, 25))
                await place.model.request(len(place.model.requests) + 1)
                victim = next(each for each in reversed(workers_of(gateway)) if each not in killed)
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
                await running

            async def is_used_up() -> bool:  # what the dead had reserved comes back after a lease
                reply = await place.use(gateway, 25)
                return reply.status == 429 and reply.json()["error"]["code"] == "insufficient_quota"

            await until(is_used_up)
            events = await place.hook.until(lambda found: {50, 80, 100} <= set(shares(found)))
    assert len({(each["id"], each["data"]["share"]) for each in events}) == 3
    assert len(events) <= 3 + len(killed)


async def test_what_is_crossed_while_redis_is_away_is_told_of_when_it_is_back(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """No worker alone saw enough of it, the gateway was started without Redis, and nobody asks anything more."""
    async with placed(tmp_path, **over(redis_server, "away:", 2)) as place:
        with stopped(redis_server):
            async with place.gateway() as gateway:
                await used(place, gateway, 8, 70)
                assert place.hook.requests == []
                redis_server.tell(signal.SIGCONT)
                events = await place.hook.until(lambda found: 50 in shares(found))
    assert shares(events) == [50]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
async def test_what_was_crossed_as_a_gateway_ended_without_redis_is_told_of_by_the_next(
    tmp_path: Path, redis_server: RedisServer, ended_by: signal.Signals
) -> None:
    async with placed(tmp_path, **over(redis_server, f"ended{ended_by}:", 2)) as place:
        with stopped(redis_server):
            async with place.gateway() as gateway:
                await used(place, gateway, 8, 70)
                workers = workers_of(gateway)
                gateway.signal(ended_by)
                if ended_by == signal.SIGKILL:
                    for worker in workers:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(worker, signal.SIGKILL)
                await gateway.wait()
        async with place.gateway():
            events = await place.hook.until(lambda found: 50 in shares(found))
    assert len({each["id"] for each in events}) == 1


@contextlib.contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """Redis answers nobody, and forgets nothing."""
    server.tell(signal.SIGSTOP)
    try:
        yield
    finally:
        server.tell(signal.SIGCONT)


def workers_of(gateway: GatewayProcess) -> list[int]:
    return [pid for line in gateway.logs if line.get("event") == "listening" for pid in line["workers"]]
