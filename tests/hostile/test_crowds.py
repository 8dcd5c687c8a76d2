"""Many connections: what idle ones cost, how long they last, and what happens beyond the bound."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_kit import (
    KILOBYTE,
    assert_serves,
    connect,
    crowd,
    descriptors,
    impatient,
    memory_kb,
    need_descriptors,
    one_model,
)
from kit import DEADLINE_SECONDS, KEYS, Stage, Wire, assert_error, request_bytes
from kit.books import until

from gateway.http.connection_limit import MOST_WAITING

IDLE = 5_000
MODELS = request_bytes("GET", "/v1/models", key=KEYS["user"])


async def test_five_thousand_idle_connections_cost_little_and_hold_nobody_up(tmp_path: Path) -> None:
    """Silent from the start, and again after a request on each: at most 40 KB apiece, and everybody is served."""
    need_descriptors(IDLE + 500)
    loop = asyncio.get_running_loop()
    async with Stage.open(tmp_path, one_model) as stage:
        await assert_serves(stage)
        before = memory_kb(stage.gateway)
        with crowd() as sockets:
            for _ in range(IDLE // 100):
                sockets.extend(await asyncio.gather(*(connect(stage.port) for _ in range(100))))
            await assert_serves(stage)
            assert (memory_kb(stage.gateway) - before) / IDLE < 40
            for each in sockets:
                await loop.sock_sendall(each, MODELS)
                assert (await loop.sock_recv(each, 64 * KILOBYTE)).startswith(b"HTTP/1.1 200 ")
            assert (memory_kb(stage.gateway) - before) / IDLE < 40
            assert descriptors(stage.gateway) >= IDLE
        await assert_serves(stage)


@pytest.mark.parametrize("first", [b"", MODELS], ids=["from the start", "after a request"])
async def test_an_idle_connection_ends(tmp_path: Path, first: bytes) -> None:
    """`keepalive` seconds after its last request, or after its beginning."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        if first:
            await wire.send(first)
            assert (await wire.reply()).status == 200
        assert await wire.ended() == b""


async def test_beyond_the_bound_a_connection_is_told_so_and_ended(tmp_path: Path) -> None:
    """503 in our shape for whoever asks something; those inside are served, and one that leaves makes room."""
    async with Stage.open(tmp_path, one_model, server={"max_connections": 3}) as stage:
        await until(lambda: has_room(stage))
        async with Wire.open(stage.port) as one, Wire.open(stage.port) as two, Wire.open(stage.port) as three:
            for wire in (one, two, three):
                await wire.send(MODELS)
                assert (await wire.reply()).status == 200
            async with Wire.open(stage.port) as beyond:
                await beyond.send(MODELS)
                reply = await beyond.reply()
                assert_error(reply, 503, "overloaded")
                assert (reply.header("retry-after"), reply.header("connection")) == ("1", "close")
                assert await beyond.ended() == b""
            await three.send(MODELS)
            assert (await three.reply()).status == 200
        await until(lambda: has_room(stage))
        line = await stage.gateway.log(lambda each: each["event"] == "too many connections")
        assert (line["level"], line["most"]) == ("warning", 3)


async def has_room(stage: Stage) -> bool:
    """The gateway hears of connections that were closed a moment later."""
    return (await stage.get("/v1/models")).status == 200


@contextlib.asynccontextmanager
async def the_only_one(stage: Stage) -> AsyncIterator[Wire]:
    """The connection that the gateway has room for, once it has heard that those before it were closed."""
    wire = await Wire.connected(stage.port)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await is_served(wire):
            await wire.close()
            wire = await Wire.connected(stage.port)
    yield wire
    await wire.close()


async def is_served(wire: Wire) -> bool:
    await wire.send(MODELS)
    return (await wire.reply()).status == 200


async def test_those_beyond_the_bound_who_say_nothing_are_cut_off(tmp_path: Path) -> None:
    """They cost descriptors as well: few of them wait, and none of them long."""
    async with Stage.open(tmp_path, one_model, server={"max_connections": 1}) as stage, the_only_one(stage) as inside:
        before = descriptors(stage.gateway)
        with crowd() as sockets:
            for _ in range(MOST_WAITING + 200):
                sockets.append(await connect(stage.port))
            await inside.send(MODELS)
            assert (await inside.reply()).status == 200
            assert descriptors(stage.gateway) <= before + MOST_WAITING + 10
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                for each in sockets:
                    with contextlib.suppress(ConnectionError):  # cut off is cut off
                        assert await loop.sock_recv(each, 1) == b""


async def test_the_bound_follows_the_file(tmp_path: Path) -> None:
    """A reload changes it for connections to come; those that stand may stay."""
    async with (
        Stage.open(tmp_path, one_model, server={"max_connections": 100}) as stage,
        Wire.open(stage.port) as one,
        Wire.open(stage.port) as two,
    ):
        await assert_both_served(one, two)
        file = tmp_path / "gateway.yaml"
        file.write_text(file.read_text().replace('"max_connections": 100', '"max_connections": 1'))
        stage.gateway.signal(signal.SIGHUP)
        await until(lambda: is_turned_away(stage))
        await assert_both_served(one, two)


async def assert_both_served(*wires: Wire) -> None:
    for wire in wires:
        await wire.send(MODELS)
        assert (await wire.reply()).status == 200


async def is_turned_away(stage: Stage) -> bool:
    return (await stage.get("/v1/models")).status == 503


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (64, 4_096, "1920 4096"),  # half for requests, the rest without what else is open
        (256, 100_000, "20000 30128"),  # raised as far as is needed
        (50_000, 100_000, "20000 50000"),  # never lowered
        (64, 64, "1 64"),
    ],
)
def test_the_bound_leaves_descriptors_for_upstreams(soft: int, hard: int, expected: str) -> None:
    """As many connections as there is room for; the soft limit is raised, as the hard one allows."""
    code = (
        "import resource, sys; from gateway.http.connection_limit import room_for\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "print(room_for(20_000, 10_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    if "exceeds" in done.stderr or "not allowed" in done.stderr:
        pytest.skip(f"THE HARD LIMIT OF OPEN FILES IS BELOW {hard}: this case cannot be tried here")
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_the_default_is_one_that_the_unit_file_allows() -> None:
    """`config/ecli-gateway.service` gives as many descriptors as the defaults can use."""
    root = Path(__file__).parents[2]
    unit = (root / "config" / "ecli-gateway.service").read_text()
    (limit,) = [int(line.split("=")[1]) for line in unit.splitlines() if line.startswith("LimitNOFILE=")]
    assert limit >= 20_000 + 10_000 + 128
