"""Limiters of both kinds, and the Redis that those of the second kind share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from limits_kit import Counter, Ledger, RedisServer

from gateway.limits import Limiter, MemoryLimiter
from gateway.limits.redis import RedisLimiter


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """For tests that leave the server itself alone; each takes a prefix of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """For tests that stop, kill or flush it."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def prefix() -> str:
    return f"{uuid.uuid4().hex}:"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(params=["memory", "redis"])
async def limiter(
    request: pytest.FixtureRequest, shared_redis: RedisServer, prefix: str, ledger: Ledger
) -> AsyncIterator[Limiter]:
    """Each implementation in turn; both go by the time that they are given."""
    if request.param == "memory":
        memory = MemoryLimiter(ledger.rebuild)
        yield memory
        await memory.close()
        return
    redis = RedisLimiter(shared_redis.url, ledger.rebuild, prefix=prefix, log=print, clock="caller")
    await redis.start()
    assert not redis.is_degraded
    yield redis
    assert not redis.is_degraded
    await redis.close()


@pytest.fixture
def counter(limiter: Limiter) -> Counter:
    return Counter(limiter)
