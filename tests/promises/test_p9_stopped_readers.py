"""P9: clients that stop reading cost a bounded amount of memory, their upstreams are paused, and `write` ends them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from kit import DEADLINE_SECONDS, KEYS, FakeUpstream, GatewayProcess, Received, Wire, ask, config, request_bytes
from kit.answers import STREAM_HEAD, chunk, delta, head
from kit.books import acting_for, rows
from kit.stage import endpoint, model
from promise_kit import gateway, rounds, upstream_with

MEGABYTE = 1 << 20
# What all socket buffers between an upstream and a client that does not read may take, by the kernel's own choice.
KERNEL_BYTES = 32 * MEGABYTE
# What one such client may cost the gateway: its write buffer, what was read but not passed on, and the allocator.
BYTES_PER_CLIENT = 2 * MEGABYTE
PLAIN_BYTES = 16 * MEGABYTE  # a plain answer is held up to this much (§4)


async def flood_of_events(request: Received) -> None:
    await request.send(STREAM_HEAD)
    while True:
        await request.send(chunk(delta("f" * 30_000)))


async def flood_of_bytes(request: Received) -> None:
    """A plain answer without an end in sight."""
    await request.send(head(200, [("content-type", "application/json"), ("content-length", str(1 << 40))]))
    while True:
        await request.send(b"0" * 60_000)


async def as_asked(request: Received) -> None:
    await (flood_of_events if request.json().get("stream") else flood_of_bytes)(request)


def settings(upstream: FakeUpstream, write_seconds: float) -> dict[str, Any]:
    return config([model("m", [endpoint(upstream, "m")])], server={"timeouts": {"write": write_seconds}})


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


async def until_paused(requests: list[Received]) -> None:
    """Until no upstream can send any more: three tenths of a second in which not a byte was taken."""
    async with asyncio.timeout(3 * DEADLINE_SECONDS):
        before = -1
        while (now := sum(request.sent_bytes for request in requests)) != before:
            before = now
            await asyncio.sleep(0.3)


async def stopped_readers(stack: AsyncExitStack, at: GatewayProcess, count: int, *, stream: bool) -> None:
    body = ask("m", stream=stream)
    request = request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=acting_for("deaf"))
    for _ in range(count):
        wire = await stack.enter_async_context(Wire.open(at.port, receive_buffer=16_384))
        await wire.send(request)
        wire.stop_reading()


@pytest.mark.parametrize(
    ("count", "stream", "most_bytes"),
    [
        (1, True, 16 * MEGABYTE),
        (rounds(40, 400), True, rounds(40, 400) * BYTES_PER_CLIENT),
        (1, False, 3 * PLAIN_BYTES),
    ],
    ids=["one stream", "many streams", "one plain answer"],
)
async def test_memory_is_bounded_and_the_upstream_paused(
    tmp_path: Path, count: int, stream: bool, most_bytes: int
) -> None:
    """While they stay: nothing grows once the buffers are full, and another client is served all the while."""
    async with upstream_with(as_asked) as upstream, gateway(tmp_path, settings(upstream, 60)) as at:
        assert (await at.get("/v1/models", key=KEYS["user"])).status == 200
        await rows(at, "deaf", 0)  # the database's libraries are loaded by then
        before = resident_bytes(at.process.pid)
        async with AsyncExitStack() as stack:
            await stopped_readers(stack, at, count, stream=stream)
            await upstream.endpoint("m").request(count)
            await until_paused(upstream.endpoint("m").requests)
            assert resident_bytes(at.process.pid) - before < most_bytes
            assert max(each.sent_bytes for each in upstream.endpoint("m").requests) < KERNEL_BYTES + PLAIN_BYTES
            assert all(each.is_open for each in upstream.endpoint("m").requests), "`write` is a minute here"
            assert (await at.get("/v1/models", key=KEYS["user"])).status == 200


@pytest.mark.parametrize("count", [1, rounds(20, 200)], ids=["one", "many"])
async def test_write_ends_them(tmp_path: Path, count: int) -> None:
    """After `write` (half a second here) both connections end; each has its row, and the memory is free again."""
    async with upstream_with(as_asked) as upstream, gateway(tmp_path, settings(upstream, 0.5)) as at:
        async with AsyncExitStack() as stack:
            await stopped_readers(stack, at, count, stream=True)
            await upstream.endpoint("m").request(count)
            for request in upstream.endpoint("m").requests:
                await request.until_closed()
        found = await rows(at, "deaf", count)
        assert {(row["outcome"], row["status"]) for row in found} == {("cancelled", "499")}
        ready = (await at.get("/readyz", key=KEYS["reader"])).json()
        assert ready["status"] == "ok"
