"""An id that a client has read is known to whichever process is asked next, though its gateway was killed at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agree.agree_kit import running_redis
from killed_kit import Mortal, Seen, mortal
from store.grants_kit import RedisServer

KILLS = int(os.environ.get("OBJECT_KILLS", "4"))
CLIENTS = 5
MOST_ASKED = 60  # after a kill: those read last, which it could have lost


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def read_until_killed(one: Mortal, seconds: float) -> dict[str, str]:
    """What clients have read until the gateway was killed, `seconds` after the first of them had an id."""
    seen = Seen()
    reading = [asyncio.create_task(one.read_ids(seen, number)) for number in range(CLIENTS)]
    await seen.came.wait()
    await asyncio.sleep(seconds)
    await one.kill()
    await asyncio.gather(*reading)
    return dict(list(seen.made.items())[-MOST_ASKED:])


async def kill_often(one: Mortal) -> None:
    everything: dict[str, str] = {}
    for turn in range(KILLS):
        await one.start()
        for made, key in everything.items():
            await one.assert_known(made, key)
        everything = await read_until_killed(one, turn and random.uniform(0, 0.5))
    await one.start()
    for made, key in everything.items():
        await one.assert_known(made, key)


async def test_embedded(tmp_path: Path) -> None:
    async with mortal(tmp_path) as one:
        await kill_often(one)


async def test_redis_and_two_workers(tmp_path: Path, redis_server: RedisServer) -> None:
    store = {"kind": "redis", "url": redis_server.url, "prefix": "killed:"}
    async with mortal(tmp_path, store=store, server={"workers": 2}) as one:
        await kill_often(one)


async def test_the_next_of_a_chain_goes_to_the_account_of_the_last(tmp_path: Path) -> None:
    previous: str | None = None
    async with mortal(tmp_path) as one:
        for _ in range(KILLS):
            await one.start()
            asked = {"model": "pair", "input": "Hi"} | ({"previous_response_id": previous} if previous else {})
            answer = await one.ask("POST", "/responses", asked)
            await one.kill()
            assert answer.status == 200, answer.body
            following = answer.json()["id"]
            assert previous is None or following.split("_")[1] == previous.split("_")[1]
            previous = following


async def test_a_worker_is_killed_beside_one_that_lives(tmp_path: Path, redis_server: RedisServer) -> None:
    """While Redis is away only the dead worker's journal has the id: the other takes it over."""
    store = {"kind": "redis", "url": redis_server.url, "prefix": "beside:"}
    async with mortal(tmp_path, store=store, server={"workers": 2}) as one:
        await one.start()
        redis_server.stop()
        answer = await one.ask("POST", "/responses", {"model": "pair", "input": "Hi"})
        assert answer.status == 200, answer.body
        for each in one.workers():
            os.kill(each, signal.SIGKILL)
        redis_server.start()
        await one.assert_known(answer.json()["id"], "user")


async def test_redis_is_away(tmp_path: Path, redis_server: RedisServer) -> None:
    """What is known is served by what was looked up, the rest is 503 and never 404; what was learnt meanwhile stays."""
    store = {"kind": "redis", "url": redis_server.url, "prefix": "away:"}
    async with mortal(tmp_path, store=store) as one:
        await one.start()
        known = (await one.ask("POST", "/conversations", {})).json()["id"]
        await one.assert_known(known, "user")
        redis_server.stop()
        assert (await one.ask("GET", f"/conversations/{known}")).status == 200
        assert (await one.ask("GET", f"/conversations/{known}", key="stranger")).error()["code"] == "object_not_found"
        for path in ("/conversations/conv_a_999", "/files/file_b_999", "/files"):
            refused = await one.ask("GET", path)
            assert (refused.status, refused.error()["code"]) == (503, "store_unavailable")
            assert refused.header("retry-after") == "1"
        learnt = [await one.ask("POST", "/responses", {"model": "pair", "input": "Hi"}) for _ in range(3)]
        assert [each.status for each in learnt] == [200] * 3
        ids = [each.json()["id"] for each in learnt]
        for each in ids:
            await one.assert_known(each, "user")
        redis_server.start()
        for each in ids:
            await one.assert_known(each, "user")
        redis_server.stop()
        last = (await one.ask("POST", "/responses", {"model": "pair", "input": "Hi"})).json()["id"]
        await one.kill()
        redis_server.start()  # empty again: it saves nothing
        await one.start()
        await one.assert_known(last, "user")
