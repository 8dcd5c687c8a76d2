"""Gateways for the panel's routes, that live for the whole session in the one loop of these tests."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import FakeUpstream, Stage
from kit.gateway import config
from kit.stage import Record, endpoint, model, spare_models
from panel_kit import ACTING_KEY, BOSS_KEY

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """Spare models, and some that belong to one test each."""
    yield from spare_models(upstream)
    yield model("rationed", [endpoint(upstream, "rationed")], limits={"rpm": 1})
    yield model("spent", [endpoint(upstream, "spent")], limits={"requests": 1, "period": "month"})
    yield model("narrow", [endpoint(upstream, "narrow", max_in_flight=1)])
    yield model("plainspoken", [endpoint(upstream, "plainspoken", stream_usage=False)])
    yield model("proud", [endpoint(upstream, "proud")], fallbacks=["humble"])
    yield model("humble", [endpoint(upstream, "humble")])
    yield model("private", [endpoint(upstream, "private")]) | {"global": False}


USERS = [
    {"id": 42, "tier": "paid"},
    {"id": "free", "tier": "free"},
    {"id": "rich", "tier": "enterprise"},
    {"id": "boss", "tier": "enterprise"},
]


def sections(**server: Any) -> dict[str, Any]:
    known = config([])["keys"]
    acting = {"id": "acting", "user": "panel", "key": ACTING_KEY, "scopes": ["ai:use", "act:as"]}
    boss = {
        "id": "boss",
        "user": "boss",
        "key": BOSS_KEY,
        "scopes": ["ai:manage", "usage:read"],
    }
    return {"users": USERS, "keys": [*known, acting, boss], "server": server, "chat": {"max_tokens": 321}}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def panel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The settings that operators start with, but for a chat's longest answer."""
    async with Stage.open(tmp_path_factory.mktemp("panel"), models, **sections()) as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Quick heartbeats, small bodies."""
    quick = sections(stream_heartbeat_seconds=0.1, max_body_mb=1)
    async with Stage.open(tmp_path_factory.mktemp("hasty"), models, **quick) as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def off(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """The feature `ai` is switched off."""
    async with Stage.open(tmp_path_factory.mktemp("off"), models, features={"ai": False}) as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def modest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Models of every source for user 42; none for the stranger."""

    def granted(upstream: FakeUpstream) -> Iterator[Record]:
        for number, name in enumerate(["own", "shared", "planned", "nobodys"], start=1):
            more = {"id": number, "aliases": [f"{name}-latest"], "tags": ["chat", name]}
            yield model(name, [endpoint(upstream, name)], **more) | {"global": False}

    shared = {"id": 20, "model": "shared", "limits": {"requests": 100, "tokens": 5000, "period": "day"}}
    async with Stage.open(
        tmp_path_factory.mktemp("modest"),
        granted,
        organisations=[{"id": 10, "name": "Example Org", "grants": [shared, {"id": 21, "model": "own"}]}],
        plans=[{"id": "pro", "grants": [{"id": 30, "model": "planned", "limits": {"rpm": 9}}, {"model": "shared"}]}],
        users=[
            {"id": 42, "tier": "paid", "organisations": [10], "plans": ["pro"], "grants": [{"id": 7, "model": "own"}]},
            {"id": "colleague", "organisations": [10]},
            {"id": "newcomer", "tier": "paid"},
        ],
    ) as stage:
        yield stage
