"""A mock of the published API (`@stdy/cli` of npm), and a gateway in front of it."""

from __future__ import annotations

import fcntl
import inspect
import lzma
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest
import pytest_asyncio
from conformance.library import MODEL
from conformance.published import SPECIFICATION
from kit.gateway import KEYS, GatewayProcess, config
from kit.wire import DEADLINE_SECONDS

PACKAGES = {"@stdy/cli": "0.22.2", "openai": "7.59.0"}
INSTALLED = Path(__file__).parents[2] / ".cache" / "conformance"
INSTALL_SECONDS = 300
LISTS_AS_THE_CLIENTS_WRITE_THEM = [
    f"--validator-{place}-{kind}-format=brackets" for place in ("query", "form") for kind in ("array", "object")
]
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
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node and npm are not on PATH.")
    folder = INSTALLED / "node_modules"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("wb") as lock:  # processes of one run share them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / name / "package.json").exists() for name in PACKAGES):
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            command = [npm, "install", "--no-fund", "--no-audit", "--prefix", str(INSTALLED), *wanted]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            if done.returncode != 0:
                pytest.skip(f"npm could not install {' and '.join(wanted)}: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture(scope="session")
def node_client(packages: Path) -> Path:
    """The module to import."""
    return packages / "openai" / "index.mjs"


@pytest.fixture(scope="session")
def mock_url(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The mock's base URL. Its answers are the same for the same request."""
    directory = tmp_path_factory.mktemp("mock")
    document = directory / "openai.yml"
    document.write_bytes(lzma.decompress(SPECIFICATION.read_bytes()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [str(packages / ".bin" / "steady"), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
    command = [*program, *LISTS_AS_THE_CLIENTS_WRITE_THEM, str(document)]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as running,
    ):
        try:
            url = f"http://127.0.0.1:{port}/v1"
            _wait_for(url, running)
            yield url
        finally:
            os.killpg(running.pid, signal.SIGKILL)  # npm's program is a script that starts another


def _wait_for(url: str, running: subprocess.Popen[bytes]) -> None:
    """Waits until it answers: connections are refused until it has read the specification."""
    give_up_at = time.monotonic() + 2 * DEADLINE_SECONDS
    while running.poll() is None:
        try:
            with urlopen(f"{url}/models", timeout=DEADLINE_SECONDS):
                return
        except OSError:
            assert time.monotonic() < give_up_at, "the mock does not answer"
            time.sleep(0.1)
    raise AssertionError("the mock has ended")


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
