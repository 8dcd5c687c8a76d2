"""The image's steps, one by one in a folder of their own, and its program as its user: no engine is needed for that.

Paths are moved below that folder; the interpreter is one that the image's user may run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_kit import run
from kit import DEADLINE_SECONDS
from packaging_kit import DOCKERFILE, ROOT, Instruction, instructions, user_of_the_image

BUILD, IMAGE = instructions(DOCKERFILE)
USER = user_of_the_image(DOCKERFILE)
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
COMPOSE = ROOT / "config" / "compose.yaml"
_MOVED = re.compile(r"(?<![\w.}])/(opt|src|build|dist|state|var|etc)\b")
_CONFIG = """
server: {host: 127.0.0.1, port: 0}
store: {path: "${STATE_DIRECTORY}"}
usage: {url: "sqlite:///${STATE_DIRECTORY}/usage.db", journal: "${STATE_DIRECTORY}/journal"}
models: [{id: 1, name: m, endpoints: [{id: a, url: "https://up.test"}]}]
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """Where others may look in."""
    folder = Path(tempfile.mkdtemp(prefix="ecli-gateway-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def interpreter() -> str:
    """One that the image's user may run, with what makes environments."""
    here = os.path.realpath(sys.executable)
    for each in (here, "/usr/bin/python3"):
        reached = os.geteuid() or all(folder.stat().st_mode & 1 for folder in Path(os.path.realpath(each)).parents)
        if reached and Path(each).exists():
            able = subprocess.run([each, "-c", "import ensurepip, venv"], check=False, capture_output=True)
            if able.returncode == 0:
                return each
    pytest.skip("NO PYTHON that another user may run: the image's steps were NOT tried")


def follow(step: Instruction, root: Path, python: str) -> None:
    """COPY or RUN, below `root`. Raises where it fails."""
    rest = _MOVED.sub(lambda found: f"{root}/{found[1]}", step.rest)
    if step.name == "RUN":
        script = re.sub(r"(^|&& )python ", rf"\g<1>{python} ", rest)
        subprocess.run(["sh", "-ec", script], check=True, cwd=root / "src", env=environment(), timeout=500)
    elif step.name == "COPY" and not rest.startswith("--from"):
        *sources, there = rest.split()
        for source in sources:
            copy(ROOT / source, Path(there) / ("" if (ROOT / source).is_dir() else Path(source).name))


def copy(source: Path, there: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, there, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, there)


def environment() -> dict[str, str]:
    """What pip must know of this machine, and no more."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    return kept | {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home())}


@pytest.mark.timeout(550)
def test_its_steps_lead_to_a_program_that_serves_as_nobody_in_particular(root: Path) -> None:
    (root / "src").mkdir()
    python = interpreter()
    for step in BUILD:
        follow(step, root, python)
    state = root / "state"
    config = root / "gateway.yaml"
    config.write_text(_CONFIG)
    if os.geteuid() == 0:
        os.chown(state, USER, USER)
    program = [str(root / "opt" / "ecli-gateway" / "bin" / "gateway"), "serve", "-c", str(config)]
    told = {"STATE_DIRECTORY": str(state), "HOME": str(state), "PYTHONDONTWRITEBYTECODE": "1"}
    assert all(f"{name}=" in settings() for name in told), "what the image sets"
    with running([*program, "--log-format", "json"], told, state) as process:
        assert process.stderr is not None
        line = next(line for line in map(json.loads, process.stderr) if line["event"] == "listening")
        with urllib.request.urlopen(f"{line['url']}/readyz", timeout=DEADLINE_SECONDS) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    drivers = "import psycopg, pymysql, jwt, opentelemetry.sdk, genai_prices"
    subprocess.run([str(root / "opt/ecli-gateway/bin/python"), "-c", drivers], check=True)
    if os.geteuid() == 0:
        assert {each for each in root.rglob("*") if each.lstat().st_uid == USER} == {state, *state.rglob("*")}


@contextlib.contextmanager
def running(program: list[str], told: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """As the image's user, where that can be; ended at the end of the block."""
    who: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=told, cwd=folder, umask=0o077, **who)
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()


def settings() -> str:
    return next(each.rest for each in IMAGE if each.name == "ENV")


def test_its_user_is_a_number_and_its_program_gets_signals() -> None:
    assert USER > 0
    entry = next(each.rest for each in IMAGE if each.name == "ENTRYPOINT")
    assert json.loads(entry) == ["/opt/ecli-gateway/bin/gateway"]
    assert [each.rest for each in IMAGE if each.name == "VOLUME"] == ["/var/lib/ecli-gateway"]


def test_nothing_but_what_it_copies_gets_near_it() -> None:
    """What `.dockerignore` lets in is what COPY names: no configuration, no key, no history."""
    admitted = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}
    copied: set[str] = set()
    for step in [*BUILD, *IMAGE]:
        if step.name == "COPY" and not step.rest.startswith("--from"):
            copied |= set(step.rest.split()[:-1])
    assert copied == admitted
    assert "*" in IGNORED
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.timeout(400)
def test_the_compose_file_is_one_and_mounts_the_folder_of_gateway_yaml() -> None:
    """Read by an implementation of its specification, and bound as the chart is."""
    interpolated = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text())
    run("import sys, compose_spec; compose_spec.PyCompose.from_yaml(sys.stdin.read()).validate()", interpolated)
    gateway = yaml.safe_load(COMPOSE.read_text())["services"]["gateway"]
    assert "${GATEWAY_DIRECTORY:-.}:/etc/ecli-gateway:ro" in gateway["volumes"]
    assert (gateway["user"], gateway["read_only"], gateway["cap_drop"]) == (f"{USER}:{USER}", True, ["ALL"])
