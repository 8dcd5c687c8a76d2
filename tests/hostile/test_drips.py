"""Clients that send a byte at a time, flood and half-close, on connections that both servers take turns on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_kit import CHAT, KILOBYTE, MODEL, assert_serves, impatient, memory_kb, one_model
from kit import KEYS, Stage, Wire, assert_error, request_bytes

PAGE = request_bytes("GET", "/v1/models", key=KEYS["user"])
ASK = request_bytes("POST", CHAT, {"model": MODEL, "messages": []}, key=KEYS["user"])
TURNS = [(PAGE, ASK), (ASK, PAGE), (PAGE, PAGE), (ASK, ASK)]
in_turn = pytest.mark.parametrize(("first", "then"), TURNS, ids=["page, ask", "ask, page", "pages", "asks"])


@contextlib.asynccontextmanager
async def dripping(wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Sends a byte at a time in the background; the pace is the attack."""

    async def send() -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            for place in range(len(data)):
                await wire.send(data[place : place + 1])
                await asyncio.sleep(0.05)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@in_turn
async def test_a_head_that_drips_is_given_up_on(tmp_path: Path, first: bytes, then: bytes) -> None:
    """Its time runs from its first byte, whatever the connection served before."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        await wire.send(first)
        assert (await wire.reply()).status == 200
        async with dripping(wire, then):
            assert_error(await wire.reply(), 408, "request_timeout")
            assert await wire.ended() == b""
        await assert_serves(stage)


async def test_a_body_that_drips_is_given_up_on(tmp_path: Path) -> None:
    head, _, body = ASK.partition(b"\r\n\r\n")
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        await wire.send(PAGE + head + b"\r\n\r\n")
        assert (await wire.reply()).status == 200
        async with dripping(wire, body):
            assert_error(await wire.reply(), 408, "request_timeout")
            assert await wire.ended() == b""
        await assert_serves(stage)


@in_turn
async def test_a_half_close_between_requests_is_the_end(tmp_path: Path, first: bytes, then: bytes) -> None:
    """At once, and nothing of the connection is kept until its time-outs pass."""
    async with Stage.open(tmp_path, one_model) as stage:
        before = memory_kb(stage.gateway)
        for _ in range(20):
            async with Wire.open(stage.port) as wire:
                for request in (first, then):
                    await wire.send(request)
                    assert (await wire.reply()).status == 200
                wire.half_close()
                assert await wire.ended() == b""
        assert (memory_kb(stage.gateway) - before) / KILOBYTE < 30


@pytest.mark.parametrize("request_of_a_page", [True, False])
async def test_a_flood_behind_an_unread_body_is_bounded(tmp_path: Path, request_of_a_page: bool) -> None:
    """A refused upload that goes on is read for a while and no longer, whoever refused it."""
    target = "/healthz" if request_of_a_page else CHAT
    head = request_bytes("POST", target, key=None, headers=[("content-length", str(10**12))])
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        before = memory_kb(stage.gateway)
        await wire.send(head)
        assert (await wire.reply()).status in (401, 405, 413)
        with contextlib.suppress(ConnectionError):
            while not wire.reader.at_eof():
                await wire.send(b"x" * 256 * KILOBYTE)
                await asyncio.sleep(0)
        assert (memory_kb(stage.gateway) - before) / KILOBYTE < 30
        await assert_serves(stage)
