"""P8: SIGTERM lets running requests end, refuses new ones, ends what is left honestly, and exits with 0."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kit import DEADLINE_SECONDS, DONE, KEYS, FakeUpstream, Stage, Wire, events, raw, request_bytes
from kit.answers import delta, full
from kit.stage import FreshModel, Record, endpoint, model

GENEROUS = 90  # drain_seconds that no test waits for


def few_models(upstream: FakeUpstream) -> Iterator[Record]:
    for number in range(3):
        yield model(f"single-{number}", [endpoint(upstream, f"single-{number}.a")])


@asynccontextmanager
async def draining_stage(directory: Path, drain_seconds: float) -> AsyncIterator[Stage]:
    async with Stage.open(directory, few_models, may_end=True, server={"drain_seconds": drain_seconds}) as stage:
        yield stage


async def begin_draining(stage: Stage) -> None:
    """SIGTERM, and until the gateway says itself that it is not ready any more."""
    stage.gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await stage.get("/readyz")).status != 503:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.02)


async def test_running_requests_end_and_the_process_with_them(tmp_path: Path) -> None:
    """A plain and a streamed answer that are on their way arrive whole, and nobody waits for `drain_seconds`."""
    async with draining_stage(tmp_path, GENEROUS) as stage:
        plain, streamed = stage.model(), stage.model()
        release = asyncio.Event()
        plain.a.replies(raw(release, full(200, b'{"whole":true}')))
        streamed.a.replies(events(delta("one"), release, delta("two"), DONE))
        async with stage.asking(plain.chat()) as first, stage.asking(streamed.chat(stream=True)) as second:
            await plain.a.request()
            await second.head()
            assert await second.event() == delta("one")
            await begin_draining(stage)
            release.set()
            reply = await first.reply()
            assert reply.body == b'{"whole":true}'
            assert reply.header("connection") == "close", "the next request shall go elsewhere"
            assert (await second.body()).body == delta("two") + DONE
        assert await stage.gateway.wait(seconds=GENEROUS / 3) == 0


async def test_new_requests_are_refused_while_draining(tmp_path: Path) -> None:
    """On open connections as on new ones: 503 shutting_down, which sends clients away; `/readyz` says so too."""
    async with draining_stage(tmp_path, GENEROUS) as stage:
        held, other = stage.model(), stage.model()
        release = asyncio.Event()
        held.a.replies(raw(release, full(200, b"{}")))
        async with Wire.open(stage.port) as open_connection, stage.asking(held.chat()) as running:
            await held.a.request()
            assert (await stage.get("/readyz")).status == 200
            await begin_draining(stage)
            await refused(open_connection, other)
            async with Wire.open(stage.port) as new_connection:
                await refused(new_connection, other)
            ready = await stage.get("/readyz", key=None)
            assert (ready.status, ready.json()) == (503, {"status": "unready"})
            release.set()
            assert (await running.reply()).status == 200
        assert await stage.gateway.wait(seconds=GENEROUS / 3) == 0
        assert other.asked() == [0]


async def refused(wire: Wire, model: FreshModel) -> None:
    await wire.send(request_bytes("POST", "/v1/chat/completions", model.chat(), key=KEYS["user"]))
    reply = await wire.reply()
    assert (reply.status, reply.error()["code"], reply.error()["type"]) == (503, "shutting_down", "server_error")
    assert reply.header("retry-after") == "1"
    assert reply.header("connection") == "close"
    assert await wire.ended() == b""


async def test_streams_left_at_the_end_are_ended_as_incomplete(tmp_path: Path) -> None:
    """After `drain_seconds` a live stream ends with `stream_incomplete` and a clean body; its upstream is let go."""
    async with draining_stage(tmp_path, 0.5) as stage:
        model = stage.model()
        model.a.replies(events(delta("one"), asyncio.Event()))
        async with stage.asking(model.chat(stream=True)) as wire:
            await wire.head()
            assert await wire.event() == delta("one")
            stage.gateway.signal(signal.SIGTERM)
            last = await wire.event()
            assert last.startswith(b'data: {"error":{"message":')
            assert b'"code":"stream_incomplete"' in last
            assert await wire.event() == b"", "the body ends cleanly"
        await model.a.requests[0].until_closed()
        assert await stage.gateway.wait() == 0


async def test_a_plain_request_left_at_the_end_is_told(tmp_path: Path) -> None:
    """Whoever still waits for an answer after `drain_seconds` gets an error, not a cut connection."""
    async with draining_stage(tmp_path, 0.5) as stage:
        model = stage.model()
        model.a.replies(raw(asyncio.Event()))
        async with stage.asking(model.chat()) as wire:
            await model.a.request()
            stage.gateway.signal(signal.SIGTERM)
            reply = await wire.reply()
            assert (reply.status, reply.error()["code"]) == (503, "shutting_down")
        assert await stage.gateway.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Idle keep-alive connections hold nobody up."""
    async with draining_stage(tmp_path, GENEROUS) as stage, Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", "/healthz"))
        assert (await wire.reply()).status == 200
        stage.gateway.signal(number)
        assert await stage.gateway.wait(seconds=10) == 0


async def test_a_request_half_sent_when_draining_begins_is_answered(tmp_path: Path) -> None:
    """A client in the middle of its upload gets an answer of some kind, and does not hang until it is cut off."""
    async with draining_stage(tmp_path, GENEROUS) as stage:
        held, model = stage.model(), stage.model()
        release = asyncio.Event()
        held.a.replies(raw(release, full(200, b"{}")))
        whole = request_bytes("POST", "/v1/chat/completions", model.chat(), key=KEYS["user"])
        async with stage.asking(held.chat()), Wire.open(stage.port) as wire:
            await held.a.request()
            await wire.send(whole[:-10])
            await stage.get("/healthz")  # by the time this is answered the half request has been read
            await begin_draining(stage)
            await wire.send(whole[-10:])
            assert (await wire.reply()).status in (200, 503)
            release.set()
        assert await stage.gateway.wait(seconds=GENEROUS / 3) == 0
