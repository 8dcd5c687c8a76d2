"""The stages: gateways that live for the whole session, in the one loop that all end-to-end tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from kit import FakeUpstream, Stage, refusing_port, unanswering_port
from kit.books import priced_models
from kit.stage import Record, endpoint, model

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A gateway with the settings that operators start with."""
    async with Stage.open(tmp_path_factory.mktemp("stage")) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A gateway with little patience: short time-outs for clients, quick heartbeats, unknown models 404."""
    server = {
        "timeouts": {"head": 0.4, "body": 0.4, "write": 0.4, "keepalive": 30},
        "stream_heartbeat_seconds": 0.4,
        "max_body_mb": 1,
        "websockets": False,
    }
    async with Stage.open(tmp_path_factory.mktemp("strict"), server=server, routing={"unknown_model": "reject"}) as one:
        yield one


def special_models(upstream: FakeUpstream, refusing: int, unanswering: int) -> Iterator[Record]:
    """Models with settings of their own; each belongs to one test."""
    dead = {"id": "dead", "url": f"http://127.0.0.1:{refusing}/v1"}
    deaf = {"id": "deaf", "url": f"http://127.0.0.1:{unanswering}/v1", "timeouts": {"connect": 0.3}}
    yield model("half-dead", [dead, endpoint(upstream, "half-dead.b", priority=1)])
    yield model("half-deaf", [deaf, endpoint(upstream, "half-deaf.b", priority=1)])
    yield model("deaf", [deaf])
    yield model("dead", [dead])
    yield model("proud", [endpoint(upstream, "proud")], fallbacks=["humble", "humbler"])
    yield model("humble", [endpoint(upstream, "humble")])
    yield model("humbler", [endpoint(upstream, "humbler")])
    yield model("narrow", [endpoint(upstream, "narrow", max_in_flight=1)])
    yield model("plainspoken", [endpoint(upstream, "plainspoken", stream_usage=False)])
    yield model("brief", [endpoint(upstream, name, timeouts={"total": 0.6}) for name in ("brief.a", "brief.b")])
    yield model("drowsy", [endpoint(upstream, "drowsy", timeouts={"idle": 0.3})])
    yield model("decorated", [endpoint(upstream, "decorated", headers={"x-team": "blue"}, query={"api-version": "7"})])
    yield model("azure", [endpoint(upstream, "azure", auth_header="api-key", provider_model="deployment")])
    yield model("heavy", [endpoint(upstream, f"heavy.{w}", weight=w) for w in (3, 1)], rotation="weighted")
    yield model("eager", [endpoint(upstream, f"eager.{each}") for each in "ab"], rotation="least_busy")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def special(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A gateway whose endpoints are each set up in some particular way."""
    with ExitStack() as ports:
        dead, deaf = ports.enter_context(refusing_port()), ports.enter_context(unanswering_port())
        directory = tmp_path_factory.mktemp("special")
        async with Stage.open(directory, lambda upstream: special_models(upstream, dead, deaf)) as stage:
            yield stage


@pytest.fixture(scope="module")
def books_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("books")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def books(books_directory: Path) -> AsyncIterator[Stage]:
    """A gateway whose models have prices; user 42 belongs to organisation 10."""
    organisations = [{"id": 10, "grants": [{"model": 1}]}]
    users = [{"id": 42, "organisations": [10]}, {"id": 43, "organisations": [10]}]
    async with Stage.open(books_directory, priced_models, organisations=organisations, users=users) as stage:
        yield stage
