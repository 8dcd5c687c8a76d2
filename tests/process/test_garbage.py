"""What a request leaves behind goes with its last reference: the collector of garbage finds nothing of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kit import FakeUpstream
from kit.answers import (
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    Behaviour,
    answer,
    as_openai,
    chunk,
    delta,
    events,
    raw,
    upstream_error,
)
from kit.gateway import KEYS, GatewayProcess, config
from kit.stage import ask, endpoint, model
from kit.wire import Wire, request_bytes

ROUTE = "/v1/chat/completions"
REQUESTS = 150  # more than the interpreter leaves at its end
REFUSED = answer(400, {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}})
IN_ONE_READ = raw(STREAM_HEAD + chunk(delta("a")) + chunk(DONE) + LAST_CHUNK)


@pytest.mark.parametrize(
    ("behaviour", "stream", "status"),
    [
        (as_openai(), False, 200),
        (as_openai(), True, 200),
        (IN_ONE_READ, True, 200),
        (REFUSED, False, 400),
        (upstream_error(500), False, 502),
        (upstream_error(500), True, 502),
    ],
    ids=["whole", "stream", "stream in one read", "refused", "failed", "stream failed"],
)
async def test_a_request_leaves_nothing_to_the_collector(
    tmp_path: Path, behaviour: Behaviour, stream: bool, status: int
) -> None:
    request = request_bytes("POST", ROUTE, ask("m", stream=True) if stream else ask("m"), key=KEYS["user"])
    async with observed(tmp_path, behaviour) as gateway, Wire.open(gateway.port) as wire:
        for _ in range(REQUESTS):
            await wire.send(request)
            assert (await wire.reply()).status == status


@pytest.mark.parametrize("headers", [[], [("connection", "close")]], ids=["client", "gateway"])
async def test_a_connection_leaves_nothing_to_the_collector(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    """Whoever ends it."""
    request = request_bytes("POST", ROUTE, ask("m"), key=KEYS["user"], headers=headers)
    async with observed(tmp_path, as_openai()) as gateway:
        for _ in range(REQUESTS):
            async with Wire.open(gateway.port) as wire:
                await wire.send(request)
                assert (await wire.reply()).status == 200


async def test_a_client_that_leaves_its_stream_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    """Nor does the connection to the upstream that ends with it."""
    async with observed(tmp_path, events(delta("a"), asyncio.Event())) as gateway:
        for _ in range(REQUESTS):
            async with Wire.open(gateway.port) as wire:
                await wire.send(request_bytes("POST", ROUTE, ask("m", stream=True), key=KEYS["user"]))
                await wire.head()
                await wire.event()


async def test_a_kept_response_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    """Who keeps it takes its events one by one."""
    body = {"model": "m", "input": "Hi", "stream": True}
    async with observed(tmp_path, as_openai()) as gateway, Wire.open(gateway.port) as wire:
        for _ in range(REQUESTS):
            await wire.send(request_bytes("POST", "/v1/responses", body, key=KEYS["user"]))
            assert (await wire.reply()).status == 200


@asynccontextmanager
async def observed(directory: Path, behaviour: Behaviour) -> AsyncIterator[GatewayProcess]:
    """A gateway that must not have left as many of anything as there were requests."""
    written = directory / "garbage.json"
    program = [str(Path(__file__).with_name("garbage_gateway.py")), str(written)]
    upstream = await FakeUpstream.start(behaviour)
    try:
        settings = config([model("m", [endpoint(upstream, "a"), endpoint(upstream, "b")])])
        async with GatewayProcess.start(settings, directory, program) as gateway:
            yield gateway
    finally:
        await upstream.close()
    kinds = json.loads(written.read_text())
    assert {kind: count for kind, count in kinds.items() if count >= REQUESTS} == {}


def test_cycles_are_collected_nevertheless() -> None:
    """A rare one, of an exception and its frame say, goes with the next twenty thousand objects."""
    script = """
import weakref
from gateway.process.serve import settle_the_collector

class Node:
    pass

settle_the_collector()
alive, most = weakref.WeakSet(), 0
for _ in range(100_000):
    node = Node()
    node.itself = node
    alive.add(node)
    most = max(most, len(alive))
print(most)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) <= 25_000
