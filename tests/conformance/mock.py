"""The mock of the published API (`@stdy/cli` of npm), and the Node client beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from kit.wire import DEADLINE_SECONDS

from bench.processes import free_port

PACKAGES = {"@stdy/cli": "0.22.2", "openai": "7.59.0"}
INSTALLED = Path(__file__).parents[2] / ".cache" / "conformance"
FOLDER = INSTALLED / "node_modules"
INSTALL_SECONDS = 300
LISTS_AS_THE_CLIENTS_WRITE_THEM = [
    f"--validator-{place}-{kind}-format=brackets" for place in ("query", "form") for kind in ("array", "object")
]


def install() -> str | None:
    """Let npm install them below .cache, where they are not yet; why that cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "Node and npm are not on PATH."
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("wb") as lock:  # processes of one run share them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all((FOLDER / name / "package.json").exists() for name in PACKAGES):
            return None
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        command = [npm, "install", "--no-fund", "--no-audit", "--prefix", str(INSTALLED), *wanted]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode != 0:
            return f"npm could not install {' and '.join(wanted)}: {done.stderr.strip()[-300:]}"
    return None


@contextmanager
def mock_of(document: Path) -> Iterator[str]:
    """The base URL of a mock of this specification, as long as the block runs. The same request, the same answer."""
    port = free_port()
    program = [str(FOLDER / ".bin" / "steady"), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
    command = [*program, *LISTS_AS_THE_CLIENTS_WRITE_THEM, str(document)]
    with (
        tempfile.TemporaryFile() as log,
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
