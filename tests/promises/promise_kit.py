"""What the tests of promises share: how long they go on, the seed they can be run again with, and their scenes.

GATEWAY_TORTURE=1 pytest tests/promises                the longer form: more kills, more splits, more clients
GATEWAY_SEED=N    pytest tests/promises/test_p4_…      the same dice as in the run that printed N
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit import FakeUpstream, GatewayProcess, Received, Reply, Wire, as_openai
from kit.upstream import Behaviour

TORTURE = bool(os.environ.get("GATEWAY_TORTURE"))
# Two processes and the test share the machine with other tests: what a bound in milliseconds is given on top.
SCHEDULING_SECONDS = 0.050


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
    assert running.noise == []
    assert [line for line in running.logs if "exception" in line or line.get("status") == 500] == []


async def until_taken(request: Received) -> None:
    """Waits until the gateway has read every byte that was sent, so that what follows is another read of its own."""
    ours = request.connection.transport.get_extra_info("sockname")
    theirs = request.connection.transport.get_extra_info("peername")
    wanted = f"{_as_kernel_writes(theirs)} {_as_kernel_writes(ours)} "
    async with asyncio.timeout(5):
        while _unread_bytes(wanted):  # noqa: ASYNC110  # the kernel tells nobody when another process reads
            await asyncio.sleep(0.001)


def _as_kernel_writes(address: tuple[str, int]) -> str:
    host = bytes(map(int, address[0].split(".")))
    return f"{host[::-1].hex().upper()}:{address[1]:04X}"


def _unread_bytes(wanted: str) -> int:
    with open("/proc/net/tcp") as table:
        for line in table:
            if wanted in line:
                return int(line.split()[4].partition(":")[2], 16)
    return 0


async def whole_conversation(wire: Wire) -> bytes:
    """Every byte that comes until the connection ends."""
    return await wire.ended()


async def reply_or_none(wire: Wire) -> Reply | None:
    """An answer, or None where the connection ended instead."""
    try:
        return await wire.reply()
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
