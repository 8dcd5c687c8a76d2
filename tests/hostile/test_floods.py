"""Clients that send more than they should: pipelines and bodies without end, endless trailers, half-closes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_kit import CHAT, KILOBYTE, MEGABYTE, MODEL, assert_serves, impatient, memory_kb, one_model
from kit import DONE, KEYS, Stage, Wire, assert_error, events, request_bytes
from kit.answers import delta

MODELS = request_bytes("GET", "/v1/models", key=KEYS["user"])
ASK = request_bytes("POST", CHAT, {"model": MODEL, "messages": []}, key=KEYS["user"])
ASK_STREAM = request_bytes("POST", CHAT, {"model": MODEL, "stream": True}, key=KEYS["user"])
MORE_THAN_KERNELS_HOLD = 64 * MEGABYTE


@contextlib.asynccontextmanager
async def flooding(wire: Wire, piece: bytes) -> AsyncIterator[list[int]]:
    """Sends the piece again and again in the background; gives a list whose one number is what went out so far."""
    sent = [0]

    async def send() -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                await wire.send(piece)
                sent[0] += len(piece)
                await asyncio.sleep(0)  # a send that finds room does not let anybody else run

    task = asyncio.create_task(send())
    try:
        yield sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_hundreds_of_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Relayed ones and others, in one write; the answers come in the order of the questions."""
    async with Stage.open(tmp_path, one_model) as stage, Wire.open(stage.port) as wire:
        pair = [request_bytes("GET", f"/v1/models/nobody-{number}", key=KEYS["user"]) + ASK for number in range(200)]
        async with flooding_once(wire, b"".join(pair)):
            for _ in range(200):
                assert (await wire.reply()).status == 404
                assert (await wire.reply()).json()["model"] == f"provider/{MODEL}"
        assert len(stage.upstream.endpoint(MODEL).requests) == 200


@contextlib.asynccontextmanager
async def flooding_once(wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Sends in the background: who writes a megabyte of requests before reading may have to wait."""
    task = asyncio.create_task(wire.send(data))
    try:
        yield
    finally:
        await task


async def test_requests_behind_one_that_waits_are_held_back(tmp_path: Path) -> None:
    """A flood of requests behind a silent upstream stays in the kernels: no memory is taken for it."""
    async with Stage.open(tmp_path, one_model) as stage, Wire.open(stage.port) as wire:
        endpoint = stage.upstream.endpoint(MODEL)
        answered = asyncio.Event()
        endpoint.replies(events(delta("one"), answered, DONE))
        before = memory_kb(stage.gateway)
        await wire.send(ASK_STREAM)
        await wire.head()
        await wire.event()
        async with flooding(wire, MODELS * 1_000) as sent:
            for _ in range(50):
                await assert_serves(stage)
            assert sent[0] < MORE_THAN_KERNELS_HOLD
            assert (memory_kb(stage.gateway) - before) / KILOBYTE < 30
            answered.set()
            assert await wire.event() == DONE
            await wire.body()
            assert (await wire.reply()).status == 200, "the first of those behind it"


async def test_a_client_that_pipelines_and_never_reads_ends(tmp_path: Path) -> None:
    """Its answers fill its buffers, then `write` seconds pass, then it is cut off."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage:
        before = memory_kb(stage.gateway)
        async with Wire.open(stage.port, receive_buffer=4 * KILOBYTE) as wire:
            wire.stop_reading()
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(60):
                    while True:
                        await wire.send(MODELS * 1_000)
            assert (memory_kb(stage.gateway) - before) / KILOBYTE < 50
        await assert_serves(stage)


AFTER_THE_REQUEST = {
    "words": b"and another thing, ",
    "line ends": b"\r\n" * 1_000,
    "NUL": b"\0" * 1_000,
    "half a head without end": b"x-more: more\r\n",
}


@pytest.mark.parametrize("piece", AFTER_THE_REQUEST.values(), ids=AFTER_THE_REQUEST)
async def test_a_client_that_sends_on_for_ever_ends(tmp_path: Path, piece: bytes) -> None:
    """What follows a request that was answered is refused, or cut off when the time for a head is over."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        before = memory_kb(stage.gateway)
        await wire.send(MODELS)
        assert (await wire.reply()).status == 200
        async with flooding(wire, piece * 100):
            await wire.ended()
        assert (memory_kb(stage.gateway) - before) / KILOBYTE < 30
        await assert_serves(stage)


@pytest.mark.parametrize("key", [KEYS["user"], None])
async def test_a_client_that_sends_on_after_the_last_answer_ends(tmp_path: Path, key: str | None) -> None:
    """With `connection: close` the answer is the end, whatever else comes."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", "/v1/models", key=key, headers=[("connection", "close")]))
        assert (await wire.reply()).status == (200 if key else 401)
        async with flooding(wire, MODELS * 100):
            assert await wire.ended() == b""


ENDLESS_BODIES = {
    "chunks": (b"", b"400\r\n" + b" " * 1024 + b"\r\n", {413}),
    "a chunk's extension": (b"1;", b"e" * 4_096, {400}),
    "trailers": (b"2\r\n{}\r\n0\r\n", b"x-trailer: t\r\n" * 200, {400, 431}),
    "one trailer": (b"2\r\n{}\r\n0\r\nx-trailer: ", b"t" * 4_096, {400, 431}),
    "chunks of a byte": (b"", b"1\r\n \r\n" * 800, {413}),
}


@pytest.mark.parametrize(("start", "piece", "statuses"), ENDLESS_BODIES.values(), ids=ENDLESS_BODIES)
async def test_an_endless_body_is_refused(tmp_path: Path, start: bytes, piece: bytes, statuses: set[int]) -> None:
    """By its size, by the parser, or by the clock; what it costs meanwhile is bounded."""
    settings = impatient(max_body_mb=1)
    async with Stage.open(tmp_path, one_model, server=settings) as stage, Wire.open(stage.port) as wire:
        before = memory_kb(stage.gateway)
        await wire.send(request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")]))
        await wire.send(start)
        async with flooding(wire, piece) as sent:
            try:
                reply = await wire.reply()
            except (ConnectionError, asyncio.IncompleteReadError):
                assert 400 in statuses, "the parser's errors end the connection at once, so the answer may be overtaken"
            else:
                assert reply.status in statuses | {408}, reply
                assert_error(reply, reply.status, str(reply.error()["code"]))
            await wire.ended()
        if 413 in statuses:  # what ends by the clock is as much as the machine passes on until then
            assert sent[0] < MORE_THAN_KERNELS_HOLD
        assert (memory_kb(stage.gateway) - before) / KILOBYTE < 60
        await assert_serves(stage)


# --- half-closes: a FIN says that the client has no more to send; a relay takes it for a client that has gone


async def test_a_half_closed_client_still_gets_the_answers_that_need_no_upstream(tmp_path: Path) -> None:
    """Whenever the FIN comes: with the request, or a turn of the gateway's loop later. Then the end."""
    async with Stage.open(tmp_path, one_model) as stage:
        for _ in range(100):
            async with Wire.open(stage.port) as wire:
                await wire.send(MODELS)
                wire.half_close()
                assert (await wire.reply()).status == 200
                assert await wire.ended() == b""


async def test_a_half_closed_client_leaves_no_upstream_waiting(tmp_path: Path) -> None:
    """As with any client that leaves: its upstream connection is closed."""
    async with Stage.open(tmp_path, one_model) as stage, Wire.open(stage.port) as wire:
        endpoint = stage.upstream.endpoint(MODEL)
        endpoint.replies(events(asyncio.Event()))
        await wire.send(ASK_STREAM)
        request = await endpoint.request()
        wire.half_close()
        await request.until_closed()
        assert await wire.ended() == b""


@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod", ASK[:-5]], ids=["nothing", "half a head", "half a body"])
async def test_a_half_close_in_mid_request_is_the_end(tmp_path: Path, sent: bytes) -> None:
    """Nothing is left to wait for: the connection ends without its time-outs having to pass."""
    async with Stage.open(tmp_path, one_model) as stage, Wire.open(stage.port) as wire:
        await wire.send(sent)
        wire.half_close()
        await wire.ended()
        assert stage.upstream.endpoint(MODEL).requests == []


async def test_a_slow_upload_asks_nobody(tmp_path: Path) -> None:
    """No upstream hears of a request before its body is whole."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage, Wire.open(stage.port) as wire:
        accepted = stage.upstream.accepted
        await wire.send(ASK[:-5])
        assert_error(await wire.reply(), 408, "request_timeout")
        assert stage.upstream.accepted == accepted
