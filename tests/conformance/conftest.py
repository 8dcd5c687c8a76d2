"""A mock of the published API (`@stdy/cli` of npm), and a gateway in front of it."""

from __future__ import annotations

import inspect
import lzma
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from conformance.library import MODEL
from conformance.mock import FOLDER, INSTALL_SECONDS, install, mock_of
from conformance.published import SPECIFICATION
from kit.gateway import KEYS, GatewayProcess, config

HERE = Path(__file__).parent
_MISSING: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process, one mock: it is 95 MB of a program. What installs it the first time may take its time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(INSTALL_SECONDS + 60))
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Nobody shall take a run without Node for one that conforms."""
    skipped = [report for report in terminalreporter.getreports("skipped") if "conformance" in report.nodeid]
    if skipped:
        reason = skipped[0].longrepr[2] if isinstance(skipped[0].longrepr, tuple) else skipped[0].longrepr
        terminalreporter.write_sep("!", "CONFORMANCE WAS NOT TESTED", red=True, bold=True)
        terminalreporter.write_line(f"{len(skipped)} tests against OpenAI's specification did not run. {reason}")


@pytest.fixture(scope="session")
def packages() -> Path:
    """The mock and the Node client, as npm installs them; below .cache where they are not yet."""
    if why := install():
        pytest.skip(why)
    return FOLDER


@pytest.fixture(scope="session")
def node_client(packages: Path) -> Path:
    """The module to import."""
    return packages / "openai" / "index.mjs"


@pytest.fixture(scope="session")
def mock_url(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The mock's base URL."""
    document = tmp_path_factory.mktemp("mock") / "openai.yml"
    document.write_bytes(lzma.decompress(SPECIFICATION.read_bytes()))
    with mock_of(document) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(mock_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    endpoint = {"id": "mock", "url": mock_url, "api_key": "sk-upstream-secret-mock"}
    record = {"id": 1, "name": MODEL, "provider_model": MODEL, "global": True, "endpoints": [endpoint]}
    sections: dict[str, Any] = {
        "surface": {"unknown_objects": "home", "extra": ["videos", "containers", "evals", "fine_tuning", "skills"]}
    }
    async with GatewayProcess.start(config([record], **sections), tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def direct(mock_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=mock_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def through(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEYS["user"], max_retries=0) as client:
        yield client
