"""Gateways to attack, that live for the whole session in the one loop of these tests."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from attacks_kit import ADMIN_KEY
from kit import FakeUpstream, Stage
from kit.gateway import config
from kit.stage import Record, endpoint, model, spare_models

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """Spare models, and one with little patience."""
    yield from spare_models(upstream)
    yield model("brief", [endpoint(upstream, "brief", timeouts={"first_byte": 3, "idle": 3, "total": 5})])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The settings that operators start with, and an admin."""
    admin = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage", "usage:read", "act:as"]}
    sections = {"keys": [*config([])["keys"], admin]}
    async with Stage.open(tmp_path_factory.mktemp("attacked"), models, **sections) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def beating(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Quick heartbeats: a stream's head is out before its upstream says anything."""
    async with Stage.open(tmp_path_factory.mktemp("beating"), server={"stream_heartbeat_seconds": 0.1}) as one:
        yield one
