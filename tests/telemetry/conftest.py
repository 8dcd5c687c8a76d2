"""A stage whose gateway exports spans, for the whole session and in one loop."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import FakeUpstream, Stage
from kit.messages import speaking
from kit.stage import Record, endpoint, model, spare_models
from telemetry.otel_kit import Collector

HERE = Path(__file__).parent
COLLECTOR_KEY = "sk-upstream-secret-of-the-collector"  # the stage looks for its beginning in the log


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for the tests of this directory: the upstream that they share lives in it."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Every request is recorded; unknown models are told."""

    def models(upstream: FakeUpstream) -> list[Record]:
        limited = model("limited", [endpoint(upstream, "limited")], limits={"rpm": 1}, aliases=["narrow"])
        claude = speaking(upstream, "claude")
        return [limited, claude, *spare_models(upstream)]

    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        return Collector(upstream).section(headers={"X-Team": COLLECTOR_KEY}, service_name="under-test")

    directory = tmp_path_factory.mktemp("stage")
    async with Stage.open(directory, models, telemetry=telemetry, routing={"unknown_model": "reject"}) as one:
        yield one


@pytest.fixture(scope="session")
def collector(stage: Stage) -> Collector:
    return Collector(stage.upstream)
