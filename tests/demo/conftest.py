"""The demo's upstream without its pauses, and the official client, which refuses what its types do not allow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest_asyncio

from gateway.demo.upstream import loopback_upstream


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with loopback_upstream(pause_seconds=0) as base:
        yield f"{base}/steady/v1"


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client
