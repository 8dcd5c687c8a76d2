"""Crowds of connections, and what they cost the gateway's process."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import FakeUpstream, GatewayProcess, Stage
from kit.stage import Record, endpoint, model

CHAT = "/v1/chat/completions"
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
MODEL = "m"


def one_model(upstream: FakeUpstream) -> Iterator[Record]:
    yield model(MODEL, [endpoint(upstream, MODEL)])


def impatient(**server: Any) -> dict[str, Any]:
    """Settings of a gateway whose clients have half a second for everything."""
    return {"timeouts": {"head": 0.5, "body": 0.5, "write": 0.5, "keepalive": 0.5}} | server


def memory_kb(gateway: GatewayProcess) -> int:
    """What the process holds in memory now."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def descriptors(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def crowd() -> Iterator[list[socket.socket]]:
    """A list of raw connections, all closed at the end."""
    sockets: list[socket.socket] = []
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


async def connect(port: int) -> socket.socket:
    """A connection without any of asyncio's or the kit's weight."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


def need_descriptors(count: int) -> None:
    """Raises this process' limit of open files as far as it may. Skips, loudly, where that is not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard not in (resource.RLIM_INFINITY,) and hard < count:
            pytest.skip(f"NOT ENOUGH DESCRIPTORS: {count} are needed and {hard} allowed; raise `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def assert_serves(stage: Stage) -> None:
    assert (await stage.post({"model": MODEL, "messages": []})).status == 200
