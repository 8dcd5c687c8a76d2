"""The demo's upstream without its pauses, asked directly and through a gateway.

The official client refuses what its types do not allow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio
from kit.gateway import KEYS, GatewayProcess, config

from gateway.demo.running import OPERATIONS
from gateway.demo.upstream import loopback_upstream


@pytest_asyncio.fixture
async def steady() -> AsyncIterator[str]:
    async with loopback_upstream(pause_seconds=0) as base:
        yield f"{base}/steady/v1"


@pytest_asyncio.fixture(params=["direct", "through"])
async def url(request: pytest.FixtureRequest, steady: str, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "direct":
        yield steady
        return
    endpoint = {"id": "steady", "url": steady, "websocket": True}
    model = {"id": 1, "name": "demo", "global": True, "operations": [*OPERATIONS, "realtime"], "endpoints": [endpoint]}
    async with GatewayProcess.start(config([model]), tmp_path) as gateway:
        yield f"http://127.0.0.1:{gateway.port}/v1"


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=url, api_key=KEYS["user"], max_retries=0, _strict_response_validation=True
    ) as client:
        yield client
