"""Schemathesis over the whole of /openapi.json, against the real process, in both modes of the store.

No 500, no status that is not documented, and every answer conforms to its schema. By default each mode gets half: the
embedded one the values at the edges of each schema, the Redis one the random bodies. Everything in both:
`SCHEMATHESIS_SECONDS=300 SCHEMATHESIS_EXAMPLES=50 pytest tests/api/openapi`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from api.admin.admin_kit import running_redis
from kit import FakeUpstream, Received, Stage
from kit.answers import as_openai, upstream_error
from kit.gateway import config
from kit.stage import Record, endpoint, model

KEY = "sk-everything-0123456789abcdef"
SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "0"))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "1"))
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "not_a_server_error",
)
# The second of two spellings of one row: the same handler.
TWINS = r"^/v1/|^/api/ai/proxy/\{modelId\}/v1/"
EVERYTHING = ("--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(SECONDS))
SHORT = {
    "embedded": ("--phases", "examples,coverage", "--exclude-path-regex", TWINS),
    "redis": ("--phases", "examples,fuzzing"),
}
LOOPBACK = {"private_endpoints": ["127.0.0.1/32"]}


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """The names that the examples of the document ask for."""
    for number, name in enumerate(["gpt-4o", "embedder", "moderator", "painter", "speaker", "listener"], start=1):
        upstream.endpoint(name).always(particular)
        yield model(name, [endpoint(upstream, name)], id=number)


async def particular(request: Received) -> None:
    """An upstream that refuses what it cannot read, as real ones do."""
    try:
        behaviour = as_openai()
        await behaviour(request)
    except (AttributeError, KeyError, TypeError, ValueError):
        await upstream_error(400, "This makes no sense.")(request)


@asynccontextmanager
async def everything(directory: Path, store: dict[str, Any]) -> AsyncIterator[Stage]:
    """A gateway with something at each of its routes, and one key for all of them."""
    all_scopes = ["ai:use", "ai:manage", "usage:read", "act:as"]
    key = {"id": "everything", "user": "root", "key": KEY, "scopes": all_scopes}
    users = [{"id": "root", "tier": "enterprise"}, {"id": 42, "tier": "paid"}]
    known = {"keys": [*config([])["keys"], key], "users": users, "store": store, "server": LOOPBACK}
    async with Stage.open(directory, models, **known) as stage:
        yield stage


@pytest.mark.timeout(300)  # many requests, beside other tests
@pytest.mark.parametrize("kind", ["embedded", "redis"])
async def test_no_request_that_the_schema_allows_or_forbids_surprises(kind: str, tmp_path: Path) -> None:
    """A client made from the document meets nothing that is not in it, whatever it sends."""
    needs = running_redis(tmp_path / "redis") if kind == "redis" else nullcontext()
    (tmp_path / "redis").mkdir()
    with needs as server:
        store = {"kind": kind} if server is None else {"kind": kind, "url": server.url}
        async with everything(tmp_path, store) as stage:
            code, said = await schemathesis(stage, tmp_path, EVERYTHING if SECONDS else SHORT[kind])
            assert code == 0, said[-20_000:]
            assert [line for line in stage.gateway.logs if line.get("status") == 500] == []


async def schemathesis(stage: Stage, directory: Path, how: tuple[str, ...]) -> tuple[int, str]:
    """Runs it to its end; its exit code and what it printed."""
    (directory / "schemathesis.toml").write_text('[phases.coverage]\nunexpected-methods = ["patch"]\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stage.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS)),
        *(*how, "--max-examples", str(EXAMPLES), "--no-shrink"),
        *("--generation-deterministic", "--suppress-health-check", "all"),
        *("--no-color", "--warnings", "off", "--output-truncate", "false", "--output-sanitize", "false"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
