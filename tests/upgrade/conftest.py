"""A Redis for the module of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agree.agree_kit import running_redis
from store.grants_kit import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
