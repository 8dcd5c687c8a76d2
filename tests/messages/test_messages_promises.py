"""The promises of the relay hold for Messages: splits, leaving, one answer, drains, kills, and the feature switch."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import (
    DEADLINE_SECONDS,
    KEYS,
    RESET,
    FakeEndpoint,
    FakeUpstream,
    GatewayProcess,
    Received,
    Stage,
    Wire,
    config,
    events,
    raw,
    request_bytes,
)
from kit.answers import LAST_CHUNK, STREAM_HEAD, chunk
from kit.books import stored, until
from kit.messages import PING, VERSION, ask, delta, ending, fresh, fresh_pair, named, speaking, spoken, start
from kit.stage import Record

PROMISED_SECONDS = 0.100
SCHEDULING_SECONDS = 0.150  # three processes share the machine with other tests
ODD_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")


def few(upstream: FakeUpstream) -> Iterator[Record]:
    for number in range(3):
        yield speaking(upstream, f"claude-{number}")


@pytest.mark.parametrize("seed", range(6))
async def test_whole_events_at_every_split(stage: Stage, seed: int) -> None:
    """P1: whatever the line ends and the cuts, what goes out are the upstream's bytes."""
    dice = random.Random(seed)
    sent = [start(), PING, b": a comment\n\n", delta("é " * 40), named("later", x=1), *ending()]
    whole = b"".join(each[:-2] + dice.choice(ODD_ENDS) if each is not sent[-1] else each for each in sent)
    cuts = sorted(dice.sample(range(1, len(whole)), min(len(whole) - 1, 40)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    model = fresh(stage)
    model.a.replies(events(*pieces))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body == whole


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("moment", ["nothing said", "a head", "pings", "an event"])
async def test_leaving_closes_the_upstream_in_time(stage: Stage, moment: str, way: str) -> None:
    """P3: before the first event as well as after."""
    told = {"nothing said": (), "a head": (STREAM_HEAD,), "pings": (STREAM_HEAD, chunk(PING))}
    model = fresh(stage)
    model.a.replies(raw(*told.get(moment, (STREAM_HEAD, chunk(start()))), asyncio.Event()))
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", "/v1/messages", ask(model.name, stream=True), key=KEYS["user"]))
        request = await model.a.request()
        if moment == "an event":
            await wire.head()
            assert await wire.event() == start()
        left = asyncio.get_running_loop().time()
        if way == "RST":
            wire.reset()
        else:
            await wire.close()
        assert await request.until_closed() - left < PROMISED_SECONDS + SCHEDULING_SECONDS


@pytest.mark.parametrize("cut", range(0, 400, 57))
async def test_never_two_answers(stage: Stage, cut: int) -> None:
    """P4: an upstream that dies before its first event is replaced, one that dies after it is not."""
    model = fresh_pair(stage)
    whole = PING + start() + delta("Hello")
    model.a.replies(raw(STREAM_HEAD, chunk(whole[:cut]) if cut else b"", RESET))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    has_first = cut >= len(PING) + len(start())
    assert model.asked() == [1, 0 if has_first else 1]
    assert reply.body.count(b"event: message_start") == 1
    if not has_first:
        assert reply.body == b"".join(spoken("Hello from the fake upstream"))


async def test_a_drain_ends_what_is_left_honestly(tmp_path: Path) -> None:
    """P8: streams as incomplete with a clean end, requests without an answer and new ones as overloaded."""
    async with Stage.open(tmp_path, few, may_end=True, server={"drain_seconds": 0.5}) as stage:
        streamed, plain = fresh_at(stage, 0), fresh_at(stage, 1)
        streamed.replies(events(start(), asyncio.Event()))
        plain.replies(raw(asyncio.Event()))
        body = ask("claude-0", stream=True)
        async with stage.asking(body, "messages") as one, stage.asking(ask("claude-1"), "messages") as two:
            await one.head()
            assert await one.event() == start()
            await plain.request()
            stage.gateway.signal(signal.SIGTERM)
            last = (await one.event()).decode().strip().split("\n")
            told = json.loads(last[1].removeprefix("data: "))
            assert (last[0], told["error"]["code"]) == ("event: error", "stream_incomplete")
            assert await one.event() == b""
            reply = await two.reply()
        error = reply.json()["error"]
        assert (reply.status, error["type"], error["code"]) == (503, "overloaded_error", "shutting_down")
        assert reply.header("retry-after") == "1"
        assert await stage.gateway.wait() == 0


def fresh_at(stage: Stage, number: int) -> FakeEndpoint:
    return stage.upstream.endpoint(f"claude-{number}.a")


async def test_a_kill_loses_no_request_and_doubles_none(tmp_path: Path) -> None:
    """P2: what was admitted has one row, whether it had ended or not."""
    upstream = await FakeUpstream.start(events())
    try:
        settings = config(list(few(upstream)))
        upstream.endpoint("claude-1.a").always(events(start(), delta("Hello"), asyncio.Event()))
        async with GatewayProcess.start(settings, tmp_path) as gateway:
            for _ in range(4):
                async with Wire.open(gateway.port) as wire:
                    await wire.send(request_bytes("POST", "/v1/messages", ask("claude-0"), key=KEYS["user"]))
                    assert (await wire.reply()).status == 200
            running = [await Wire.connected(gateway.port) for _ in range(5)]
            for wire in running:
                body = ask("claude-1", stream=True)
                await wire.send(request_bytes("POST", "/v1/messages", body, key=KEYS["user"]))
                await wire.head()
                assert await wire.event() == start()
            gateway.process.kill()
            await gateway.wait()
            for wire in running:
                await wire.close()
        async with GatewayProcess.start(settings, tmp_path):

            async def all_there() -> bool:
                return len(stored(tmp_path)) >= 9

            await until(all_there)
    finally:
        await upstream.close()
    rows = stored(tmp_path)
    assert len({row["request_id"] for row in rows}) == len(rows) == 9
    outcomes = sorted(row["outcome"] for row in rows)
    assert outcomes == ["interrupted"] * 5 + ["ok"] * 4
    assert {row["route"] for row in rows} == {"messages"}


async def test_the_feature_switch_has_its_own_body(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, few, features={"ai": False}) as stage:
        for path in ("/v1/", "/api/ai/anthropic/v1/"):
            for route in ("messages", "messages/count_tokens", "nowhere"):
                reply = await stage.post(ask("claude-0"), route, prefix=path, headers=[VERSION])
                assert (reply.status, reply.body) == (503, b'{"error":"feature_disabled"}')
                assert reply.header("x-should-retry") == "false"


async def test_a_client_that_stops_reading_pauses_its_upstream(stage: Stage) -> None:
    """P9: what piles up for it is bounded, and the upstream feels it."""
    model = fresh(stage)

    async def flood(request: Received) -> None:
        await request.send(STREAM_HEAD + chunk(start()))
        for _ in range(400):
            await request.send(chunk(delta("f" * 30_000)))
        await request.send(LAST_CHUNK)

    model.a.replies(flood)
    body = ask(model.name, stream=True)
    async with stage.asking(body, "messages", receive_buffer=4096) as wire:
        await wire.head()
        wire.stop_reading()
        request = await model.a.request()
        seen = -1
        async with asyncio.timeout(DEADLINE_SECONDS):
            while seen != request.sent_bytes:
                seen = request.sent_bytes
                await asyncio.sleep(0.3)
        assert seen < 400 * 30_000
    await request.until_closed()
