"""Gateways that live for the whole session, one for each kind of store; what they say is searched for secrets."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from admin_kit import Admin, opened, running_redis
from kit import Stage

HERE = Path(__file__).parent
STORES = ("embedded", "redis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", params=STORES)
def store_section(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The `store` section of gateway.yaml, and what it needs to run."""
    if request.param == "embedded":
        yield {"kind": "embedded"}
        return
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield {"kind": "redis", "url": server.url}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(store_section: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A gateway whose run-time endpoints may lead to this machine, where the fake upstream is."""
    directory = tmp_path_factory.mktemp(f"admin-{store_section['kind']}")
    async with opened(directory, store_section, server={"private_endpoints": ["127.0.0.1/32"]}) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(stage: Stage) -> AsyncIterator[Admin]:
    """The admin of `stage`. At the end nothing that it was ever told may hold a credential, nor may the log."""
    one = Admin(stage)
    yield one
    one.assert_no_secret_came_out()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def walled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Admin]:
    """The admin of a gateway that lets run-time endpoints lead to public addresses only."""
    async with opened(tmp_path_factory.mktemp("walled"), {"kind": "embedded"}) as stage:
        yield Admin(stage)
