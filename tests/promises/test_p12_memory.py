"""P12: whatever clients send, and however slowly they take their answers, a worker stays within its memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, FakeUpstream, GatewayProcess, Received, Wire, ask, assert_error, config, request_bytes
from kit.answers import full, raw
from kit.stage import endpoint, model
from promise_kit import gateway, upstream_with

MIB = 1 << 20
MEMORY_MB = 128
ALLOWED_BYTES = (MEMORY_MB + 128) * MIB
CHAT = "/v1/chat/completions"


def settings(upstream: FakeUpstream, **server: Any) -> dict[str, Any]:
    return config([model("m", [endpoint(upstream, "m")])], server={"memory_mb": MEMORY_MB} | server)


def resident_bytes(at: GatewayProcess) -> int:
    with open(f"/proc/{at.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


@asynccontextmanager
async def crowd(at: GatewayProcess, requests: Iterable[bytes]) -> AsyncIterator[list[Wire]]:
    """Connections that have sent these; what the gateway does not take is not waited for."""
    async with AsyncExitStack() as stack:
        wires = []
        for request in requests:
            wires.append(wire := await stack.enter_async_context(Wire.open(at.port)))
            wire.writer.write(request)
        yield wires


async def held_bytes(at: GatewayProcess) -> int:
    reply = await at.get("/metrics", key=KEYS["reader"])
    lines = reply.body.decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("gateway_memory_held_bytes"))))


async def until_nothing_is_held(at: GatewayProcess) -> None:
    async with asyncio.timeout(10):
        while await held_bytes(at) > MIB:  # noqa: ASYNC110  # nobody tells when the last has gone
            await asyncio.sleep(0.05)


def long_body(size: int, text: bytes = b"a") -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"' + text * (size // len(text)) + b'"}]}'


async def test_uploads_whose_last_byte_is_withheld(tmp_path: Path) -> None:
    """Forty times 30 MiB: those for which there is no room are told so, and when they leave, there is room again."""
    body = long_body(30 * MIB)
    request = request_bytes("POST", CHAT, body, key=KEYS["user"])
    async with upstream_with(raw(full(200, b"{}"))) as upstream, gateway(tmp_path, settings(upstream)) as at:
        async with crowd(at, [request[:-1]] * 16) as wires:
            first = [asyncio.ensure_future(wire.reply()) for wire in wires]
            done, waiting = await asyncio.wait(first, timeout=8)
            assert done, "all are taken in"
            for each in done:
                assert_error(each.result(), 503, "overloaded")
                assert each.result().header("retry-after") == "1"
            assert len(waiting) <= MEMORY_MB // 30
            assert resident_bytes(at) <= ALLOWED_BYTES
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await until_nothing_is_held(at)
        async with Wire.open(at.port) as wire:
            await wire.send(request)
            assert (await wire.reply()).status == 200


async def test_uploads_of_one_user_leave_room_for_the_others(tmp_path: Path) -> None:
    """A key without limits keeps forty uploads from ending: it fills half of the memory, and the others are served."""
    stalled = request_bytes("POST", CHAT, long_body(20 * MIB), key=KEYS["user"])[:-1]
    async with upstream_with(raw(full(200, b"{}"))) as upstream, gateway(tmp_path, settings(upstream)) as at:
        async with crowd(at, [stalled] * 40) as wires:
            replies = [asyncio.ensure_future(wire.reply()) for wire in wires]
            async with asyncio.timeout(20):
                while sum(each.done() for each in replies) < 40 - MEMORY_MB // 2 // 20:  # noqa: ASYNC110  # of many
                    await asyncio.sleep(0.05)
            for each in replies:
                if each.done():
                    assert_error(each.result(), 503, "overloaded")
            async with Wire.open(at.port) as wire:
                await wire.send(request_bytes("POST", CHAT, long_body(10 * MIB), key=KEYS["panel"]))
                assert (await wire.reply()).status == 200
            for each in replies:
                each.cancel()
            await asyncio.gather(*replies, return_exceptions=True)
        await until_nothing_is_held(at)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[' + b"[]," * 20_000 + b"1]}",
        b'{"model":"m","messages":[' + b'{"a":{}},' * 100_000 + b"1]}",
        long_body(10 * MIB) + b" ",
        long_body(10 * MIB, "\U0001f642".encode()),
        long_body(8 * MIB)[:-4] + b'\\ud83d\\ude42"}]}',
    ],
    ids=["many lists", "many objects", "a long text", "a long text of pictures", "one picture in a long text"],
)
async def test_bodies_that_are_larger_once_they_are_read(body: bytes, tmp_path: Path) -> None:
    """What waits for an upstream counts as what it has become."""

    async def never(request: Received) -> None:
        await asyncio.Event().wait()

    request = request_bytes("POST", CHAT, body, key=KEYS["user"])
    async with upstream_with(never) as upstream, gateway(tmp_path, settings(upstream)) as at:
        count = 60 if len(request) > MIB // 2 else 600
        async with crowd(at, [request] * count) as wires:
            replies = [asyncio.ensure_future(wire.reply()) for wire in wires]
            done, waiting = await asyncio.wait(replies, timeout=10)
            for each in done:
                assert_error(each.result(), 503, "overloaded")
            assert done
            assert waiting
            assert resident_bytes(at) <= ALLOWED_BYTES
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def test_answers_that_are_not_taken(tmp_path: Path) -> None:
    """Forty clients ask for 15 MiB each and read nothing of it."""
    large = raw(full(200, b'{"a":"' + b"a" * (15 * MIB) + b'"}'))
    request = request_bytes("POST", CHAT, ask("m"), key=KEYS["user"])
    async with upstream_with(large) as upstream, gateway(tmp_path, settings(upstream)) as at:
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(Wire.open(at.port, receive_buffer=4096)) for _ in range(40)]
            for wire in wires:
                wire.writer.write(request)
            heads = [await wire.head() for wire in wires]
            assert {reply.status for reply in heads} == {200, 503}
            assert resident_bytes(at) <= ALLOWED_BYTES
        await until_nothing_is_held(at)
        async with Wire.open(at.port) as wire:
            await wire.send(request)
            assert len((await wire.reply()).body) > 15 * MIB


async def test_heads_of_strangers_that_never_end(tmp_path: Path) -> None:
    """Whoever they are, what they have sent of a head is held for nobody beyond a bound."""
    head = f"GET {CHAT} HTTP/1.1\r\nhost: x\r\n".encode()
    fields = [b"x-%d: %b\r\n" % (number, b"a" * 8_000) for number in range(90)]
    async with upstream_with() as upstream, gateway(tmp_path, settings(upstream)) as at:
        async with crowd(at, [head + b"".join(fields)] * 100) as wires:
            replies = await asyncio.gather(*(wire.reply() for wire in wires), return_exceptions=True)
            told = {reply.status for reply in replies if not isinstance(reply, BaseException)}
            assert told <= {431}, "an answer may be overtaken by the end of its connection"
        async with crowd(at, [head + b"".join(fields[:12])] * 300):
            await asyncio.sleep(0)
            assert (await at.get("/healthz")).status == 200
            assert resident_bytes(at) <= ALLOWED_BYTES
        await until_nothing_is_held(at)
