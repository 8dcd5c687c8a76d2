"""Limiters of both kinds, and the Redis that those of the second kind share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import pytest
from limits_kit import Counter, Ledger, Log, RedisServer, Start, link

from gateway.limits import Limiter, MemoryLimiter, Rebuild
from gateway.limits.redis import RedisLimiter
from gateway.types import Secret


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
    redis = RedisLimiter(link(shared_redis.url), ledger.rebuild, prefix=prefix, log=print, clock="caller")
    await redis.start()
    assert not redis.is_degraded
    yield redis
    assert not redis.is_degraded
    await redis.close()


@pytest.fixture
def counter(limiter: Limiter) -> Counter:
    return Counter(limiter)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def start(redis_server: RedisServer, ledger: Ledger, log: Log) -> AsyncIterator[Start]:
    """Starts limiters against a server of the test's own, and closes them."""
    started: list[RedisLimiter] = []

    async def start_one(
        lease_seconds: float = 10.0,
        url: Secret = redis_server.url,
        rebuild: Rebuild = ledger.rebuild,
        clock: Literal["redis", "caller"] = "redis",
    ) -> RedisLimiter:
        limiter = RedisLimiter(link(url, log), rebuild, log=log, lease_seconds=lease_seconds, clock=clock)
        started.append(limiter)
        await limiter.start()
        return limiter

    yield start_one
    for limiter in started:
        await limiter.close()
