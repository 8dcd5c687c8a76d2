"""OpenAI's own tests of its Python library, through the gateway, before a mock of the published API.

By hand, for they take minutes: `python tests/conformance/own_tests.py [FILES…]` (default: those of what is served).
It fetches the library's source from the package index, gives it an environment of its own below .cache, and names
each test that ends otherwise through the gateway than directly: what passes through is not asked again.
"""

from __future__ import annotations

import asyncio
import lzma
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as Xml
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from collections.abc import Iterator

from conformance.mock import INSTALLED, install, mock_of
from conformance.published import SPECIFICATION
from kit.gateway import KEYS, GatewayProcess, config

from gateway.types import OperationKind

# What the gateway serves; administration and the like have no rows.
SERVED = """chat test_completions test_embeddings test_models test_moderations test_images audio
    responses test_responses test_files test_batches uploads test_uploads vector_stores test_vector_stores conversations
    test_conversations test_videos containers test_containers evals test_evals fine_tuning skills test_skills"""
FAMILIES = ["videos", "containers", "evals", "fine_tuning", "skills"]
NEEDED = ["pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot", "rich"]
_MODEL = re.compile(r'\bmodel="([^"]+)"|"model": "([^"]+)"')
Outcomes = dict[str, str]


def prepared() -> tuple[Path, Path]:
    """The folder of the tests, and the Python to run them."""
    name = f"openai-{version('openai')}"
    folder, python = INSTALLED / name, INSTALLED / f"{name}-venv" / "bin" / "python"
    if not folder.exists():
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai"]
        subprocess.run([*fetch, "--dest", str(INSTALLED), name.replace("-", "==", 1)], check=True)
        with tarfile.open(INSTALLED / f"{name}.tar.gz") as archive:
            archive.extractall(INSTALLED, filter="data")
        settings = folder / "tests" / "conftest.py"
        settings.write_text(_prepared(settings.read_text()))
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        installing = [str(python), "-m", "pip", "install", "--quiet", f"{folder}[aiohttp,realtime]", *NEEDED]
        subprocess.run(installing, check=True)
    return folder, python


def _prepared(settings: str) -> str:
    """With a key that the gateway knows, and for each client a user: one may read 600 times a minute.

    What then fails because the mock gives two of them the same id is asked again for one user, of another gateway.
    """
    settings = settings.replace('"My API Key"', 'os.environ["TEST_API_KEY"]')
    user = 'default_headers={"x-gateway-user": os.environ.get("TEST_USER") or os.urandom(8).hex()},'
    return settings.replace("        api_key=api_key,\n", f"        api_key=api_key,\n        {user}\n")


def outcomes(folder: Path, python: Path, chosen: list[str], url: str, user: str = "") -> Outcomes:
    """How each test ended: `passed`, `skipped`, or the first line of why not."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-m", "pytest", "-q", "-n", "2", "--durations=0", f"--junitxml={report}", *chosen]
        environment = os.environ | {"TEST_API_BASE_URL": url, "TEST_API_KEY": KEYS["panel"], "TEST_USER": user}
        subprocess.run(command, cwd=folder, env=environment, check=False)
        return dict(map(_outcome, Xml.parse(report).iter("testcase")))


def _outcome(case: Xml.Element) -> tuple[str, str]:
    name = f"{case.get('classname')}::{case.get('name')}"
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return name, "skipped" if kind == "skipped" else (found.get("message") or kind).strip()[:300]
    return name, "passed"


def served() -> list[str]:
    return [f"tests/api_resources/{each}{'.py' if each.startswith('test_') else ''}" for each in SERVED.split()]


def models_of(folder: Path) -> list[str]:
    """Every name of a model that the tests ask for."""
    texts = (file.read_text() for file in (folder / "tests" / "api_resources").rglob("*.py"))
    return sorted({one or other for text in texts for one, other in _MODEL.findall(text)})


async def through_gateway(folder: Path, python: Path, chosen: list[str], mock: str, user: str = "") -> Outcomes:
    """By a gateway of its own, each model of which serves everything."""
    endpoint = {"id": "mock", "url": mock, "api_key": "sk-upstream-secret-mock"}
    about = {"global": True, "operations": list(get_args(OperationKind)), "endpoints": [endpoint]}
    models = [{"id": name, "name": name} | about for name in models_of(folder)]
    surface = {"unknown_objects": "home", "extra": FAMILIES}
    with tempfile.TemporaryDirectory() as scratch:
        async with GatewayProcess.start(config(models, surface=surface), Path(scratch)) as gateway:
            ours = f"http://127.0.0.1:{gateway.port}/v1"
            return await asyncio.to_thread(outcomes, folder, python, chosen, ours, user)


def _failed(ends: Outcomes) -> bool:
    return any(end not in ("passed", "skipped") for end in ends.values())


async def compared(files: list[str]) -> int:
    folder, python = prepared()
    install()
    with _mock() as url:
        through = await through_gateway(folder, python, files, url)
        again = [*files, "--lf"]
        if _failed(through):
            through |= await through_gateway(folder, python, again, url, "one")
        direct = await asyncio.to_thread(outcomes, folder, python, again, url) if _failed(through) else {}
    return _report(direct, through)


@contextmanager
def _mock() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        document = Path(scratch) / "openai.yml"
        document.write_bytes(lzma.decompress(SPECIFICATION.read_bytes()))
        with mock_of(document) as url:
            yield url


def _report(direct: Outcomes, through: Outcomes) -> int:
    """Print what differs; how many do. `direct`: of those that did not pass through."""
    differing = {name: end for name, end in direct.items() if end == "passed"}
    for name, end in sorted(differing.items()):
        print(f"{name}\n    directly: {end}\n    through:  {through.get(name)}")  # noqa: T201
    passed = sum(end == "passed" for end in through.values())
    print(f"{len(through)} tests: {passed} pass through, {len(differing)} more directly")  # noqa: T201
    return len(differing)


if __name__ == "__main__":
    raise SystemExit(min(1, asyncio.run(compared(sys.argv[1:] or served()))))
