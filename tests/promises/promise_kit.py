"""What the tests of promises share: how long they go on, the seed they can be run again with, and their scenes.

GATEWAY_TORTURE=1 pytest tests/promises                the longer form: more kills, more splits, more clients
GATEWAY_SEED=N    pytest tests/promises/test_p4_…      the same dice as in the run that printed N
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit import FakeUpstream, GatewayProcess, Received, as_openai
from kit.upstream import Behaviour

TORTURE = bool(os.environ.get("GATEWAY_TORTURE"))
# Two processes and the test share the machine with other tests: what a bound in milliseconds is given on top.
SCHEDULING_SECONDS = 0.150
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20


def rounds(short: int, long: int) -> int:
    """How often: `short` in CI, `long` in the longer form."""
    return long if TORTURE else short


@asynccontextmanager
async def upstream_with(behaviour: Behaviour | None = None) -> AsyncIterator[FakeUpstream]:
    """A fake upstream that answers everything so, well where nothing is said."""
    upstream = await FakeUpstream.start(behaviour or as_openai())
    try:
        yield upstream
    finally:
        await upstream.close()
    assert upstream.faults == []


@asynccontextmanager
async def gateway(directory: Path, settings: dict[str, Any]) -> AsyncIterator[GatewayProcess]:
    """A gateway that writes nothing but log lines, none of them about a mistake of its own."""
    os.makedirs(directory, exist_ok=True)  # once, before anything runs
    async with GatewayProcess.start(settings, directory) as running:
        yield running
    assert running.noise == [], running.noise
    mistakes = [line for line in running.logs if "exception" in line or line.get("status") == 500]
    assert mistakes == [], mistakes


async def until_taken(request: Received) -> None:
    """Waits until the gateway has read every byte that was sent, so that what follows is another read of its own."""
    transport = request.connection.transport
    asked = _question(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
    async with asyncio.timeout(5):
        while _unread_bytes(asked):  # noqa: ASYNC110  # the kernel tells nobody when another process reads
            await asyncio.sleep(0)


def _question(theirs: tuple[str, int], ours: tuple[str, int]) -> bytes:
    """What `ss` asks the kernel (sock_diag(7)) about one socket: that with these ends, in whatever state."""
    source, target = (socket.inet_aton(host).ljust(16, b"\0") for host, _ in (theirs, ours))
    ends = struct.pack(">HH", theirs[1], ours[1]) + source + target
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body = wanted + ends + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    return struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, 1, 0, 0) + body


def _unread_bytes(asked: bytes) -> int:
    """What the kernel still holds for the reader; 0 as well where the socket is gone."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(asked)
        told = kernel.recv(4096)
    kind: int = struct.unpack_from("=H", told, 4)[0]
    return int(struct.unpack_from("=I", told, 72)[0]) if kind == _SOCK_DIAG_BY_FAMILY else 0
