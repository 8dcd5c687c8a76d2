"""A gateway over models that speak Anthropic's protocol, alive for the whole session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from kit import FakeUpstream, Stage
from kit.messages import as_anthropic, speaking
from kit.stage import Record, endpoint, model

HERE = Path(__file__).parent
SPARE = 240  # one worker may get nearly all of these tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def models(upstream: FakeUpstream) -> Iterator[Record]:
    for number in range(SPARE):
        yield speaking(upstream, f"claude-{number}")
        yield speaking(upstream, f"claude-pair-{number}", "ab")
    yield model("both", [endpoint(upstream, "both", protocols=["openai", "anthropic"])])
    upstream.endpoint("both").always(as_anthropic())
    openai, anthropic = endpoint(upstream, "mixed.o"), endpoint(upstream, "mixed.a", protocols=["anthropic"])
    yield model("mixed", [openai, anthropic], aliases=["claude-mixed"])
    upstream.endpoint("mixed.a").always(as_anthropic())
    yield speaking(
        upstream, "own-version", each={"headers": {"anthropic-version": "2024-01-01", "anthropic-beta": "own"}}
    )
    yield speaking(upstream, "bearer", each={"auth_header": "authorization"})
    yield speaking(upstream, "limited", limits={"tokens": 100, "period": "month"})
    price = {"input": 3, "output": 15, "cached_input": 0.3, "cache_write": 3.75, "cache_write_1h": 6}
    yield speaking(upstream, "priced", price=price)
    yield speaking(upstream, "strict", limits={"rpm": 1, "requests": 1})
    yield speaking(upstream, "secret", **{"global": False})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    server = {"stream_heartbeat_seconds": 0.4, "timeouts": {"head": 5, "body": 5, "write": 5, "keepalive": 30}}
    async with Stage.open(tmp_path_factory.mktemp("messages"), models, server=server) as one:
        yield one
