"""The gateways of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kept_kit import EXTRA, KeepingGateway, started

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeepingGateway]:
    """A gateway as most have it: unknown objects are refused, no further family is served."""
    async with started(tmp_path_factory.mktemp("kept")) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def open_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeepingGateway]:
    """A gateway with every family, which asks for unknown objects at home."""
    surface = {"extra": EXTRA, "unknown_objects": "home"}
    async with started(tmp_path_factory.mktemp("open"), surface=surface) as one:
        one.keeping.hosts_anything = True
        yield one
