"""A Redis that answers and refuses: nothing is taken for missing, readiness says so while it lasts, it heals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from threading import Thread
from typing import NamedTuple

import pytest
import redis
from grants_kit import KEY_SHA256, Log, Panel, RedisServer, document, opened, until

from gateway.errors import StoreUnavailable
from gateway.store.cached import CachedRecords
from gateway.store.redis import RedisStore

KEY = f"gw:key:{KEY_SHA256}"


def lose_the_master(client: redis.Redis) -> None:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", 1)


def be_a_replica(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", 1)


def be_a_master(client: redis.Redis) -> None:
    client.replicaof("NO", "ONE")


def forbid_reading(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-@read")


def allow_everything(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "+@all", "~*")


def hide_users(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~gw:feature:*", "~gw:probe", "~gw:model*")


def fill_up(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)


def empty(client: redis.Redis) -> None:
    client.config_set("maxmemory", 0)


def run_for_ever(client: redis.Redis) -> None:
    client.config_set("lua-time-limit", 1)

    def run() -> None:
        with suppress(redis.RedisError):
            client.eval("while true do end", 0)

    Thread(target=run, daemon=True).start()


def kill_the_script(client: redis.Redis) -> None:
    client.script_kill()


class Refusal(NamedTuple):
    begin: Callable[[redis.Redis], None]
    end: Callable[[redis.Redis], None]
    word: str
    reads: bool  # whether reading is refused; else writing


REFUSALS = {
    "a replica without its master": Refusal(lose_the_master, be_a_master, "MASTERDOWN", True),
    "a replica": Refusal(be_a_replica, be_a_master, "read only", False),
    "a user without the right": Refusal(forbid_reading, allow_everything, "permission", True),
    "no memory left": Refusal(fill_up, empty, "memory", False),
    "a script that does not end": Refusal(run_for_ever, kill_the_script, "BUSY", True),
}


async def asked(store: RedisStore, sha256: str) -> str:
    try:
        return repr(await store.get("key", sha256))
    except StoreUnavailable:
        return "cannot tell"


@pytest.mark.parametrize("name", REFUSALS)
async def test_readiness_says_so_for_as_long_as_it_lasts(
    name: str, redis_server: RedisServer, redis_store: RedisStore
) -> None:
    """Without a request that finds out, without a moment in between in which all seems well, and until it is over."""
    refusal = REFUSALS[name]
    with redis_server.client() as client:
        refusal.begin(client)
        await until(lambda: refusal.word.lower() in str(redis_store.status().detail).lower())
        for _ in range(40):
            status = redis_store.status()
            assert not status.available
            assert refusal.word.lower() in str(status.detail).lower()
            if refusal.reads:
                assert await asked(redis_store, KEY_SHA256) == "cannot tell"
            await asyncio.sleep(0.04)
        refusal.end(client)
        await until(lambda: redis_store.status().available and redis_store.status().receives_changes)
        assert redis_store.status().detail is None
        assert await asked(redis_store, KEY_SHA256) == "None"


async def test_what_is_remembered_holds_meanwhile(
    redis_server: RedisServer, redis_store: RedisStore, panel: Panel, log: Log
) -> None:
    """And a key that nobody remembers is no unknown key."""
    records = CachedRecords(redis_store, log.logger)
    panel.do(["SET", KEY, document(id="laptop", user=42).decode()])
    assert await records.find("key", KEY_SHA256) is not None
    with redis_server.client() as client:
        forbid_reading(client)
        await until(lambda: not redis_store.status().available)
        assert await records.find("key", KEY_SHA256) is not None
        with pytest.raises(StoreUnavailable):
            await records.find("key", "0" * 64)
        allow_everything(client)


async def test_a_read_that_alone_is_refused_is_what_is_asked_again(
    redis_server: RedisServer, redis_store: RedisStore
) -> None:
    """An operator's ACL may open some of the names and not others: well is only what can be asked for."""
    with redis_server.client() as client, redis_server.client() as admin:
        client.ping()
        hide_users(admin)
        assert redis_store.status().available
        assert await asked(redis_store, KEY_SHA256) == "cannot tell"
        for _ in range(40):
            assert not redis_store.status().available
            await asyncio.sleep(0.04)
        allow_everything(admin)
        await until(lambda: redis_store.status().available)


async def test_a_flood_of_refused_look_ups_is_told_once(
    redis_server: RedisServer, redis_store: RedisStore, log: Log
) -> None:
    """Strangers, each with another key, do not write the log."""
    with redis_server.client() as client:
        forbid_reading(client)
        for number in range(50):
            assert await asked(redis_store, f"{number:064}") == "cannot tell"
        allow_everything(client)
    assert len(log.events("redis refused a command")) == 1


async def test_while_it_loads_its_data_nobody_can_tell(
    redis_server: RedisServer, redis_store: RedisStore, panel: Panel
) -> None:
    """Started again with much to load, it answers LOADING: a key that is there is not taken for unknown meanwhile."""
    panel.do(["SET", KEY, document(id="laptop", user=42).decode()])
    redis_server.take_time_to_load()
    redis_server.stop()
    await until(lambda: not redis_store.available)
    loading = asyncio.create_task(asyncio.to_thread(redis_server.start))
    await until(lambda: "loading" in str(redis_store.status().detail).lower())
    answers: set[str] = set()
    while "None" not in answers and not redis_store.status().available:
        assert "loading" in str(redis_store.status().detail).lower() or not redis_store.available
        answers.add(await asked(redis_store, KEY_SHA256))
        await asyncio.sleep(0.02)
    assert "cannot tell" in answers
    assert "None" not in answers
    await loading
    await until(lambda: redis_store.status().available and redis_store.status().receives_changes)
    assert "laptop" in await asked(redis_store, KEY_SHA256)


async def test_a_redis_that_refuses_from_the_start(redis_server: RedisServer, stores: AsyncExitStack, log: Log) -> None:
    """It is there, and not well, from the first moment on."""
    with redis_server.client() as client:
        forbid_reading(client)
        store = await opened(redis_server.url, stores, log)
        assert not store.status().available
        allow_everything(client)
        await until(lambda: store.status().available)
