"""Four workers over one Redis: each threshold has one id and one delivery, also where a worker is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from alerts_kit import Place, placed, shares
from kit import KEYS, GatewayProcess
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


def workers_of(gateway: GatewayProcess) -> list[int]:
    return [pid for line in gateway.logs if line.get("event") == "listening" for pid in line["workers"]]
