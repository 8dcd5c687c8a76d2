"""The queues of two gateways on one Redis: each has its own, and cooldowns, records and limits are everybody's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest_asyncio
from agree_kit import Panel, call, chat, code_of, gateway, ready, settings
from kit import FakeUpstream, GatewayProcess, Reply, raw
from kit.answers import full, upstream_error
from kit.books import until
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

QUEUED = "sk-queued-0123456789abcdefghijkl"


def models(upstream: FakeUpstream) -> Iterator[Record]:
    for name in ("short", "ended", "held"):
        yield model(name, [endpoint(upstream, name)])
    yield model("narrow", [endpoint(upstream, "narrow", max_in_flight=1)], limits={"concurrency": 3})


class Pair(NamedTuple):
    a: GatewayProcess
    b: GatewayProcess


@pytest_asyncio.fixture(loop_scope="module")
async def pair(upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Pair]:
    whole = settings(list(models(upstream)), redis_server.url, queue={"max": 4, "wait": 20})
    async with AsyncExitStack() as stack:
        begun = [await stack.enter_async_context(gateway(tmp_path / name, whole)) for name in "ab"]
        yield Pair(*begun)


async def waits(at: GatewayProcess, count: int) -> None:
    async def is_so() -> bool:
        return bool((await ready(at))["detail"]["queue"]["waiting"] == count)

    await until(is_so)


async def learns(at: GatewayProcess, model: str) -> None:
    """Until it has heard of the other's cooldown."""

    async def is_cooling() -> bool:
        endpoints = (await call(at, "GET", "/api/admin/ai/endpoints")).json()
        return any(each["state"] == "cooling" and each["modelName"] == model for each in endpoints)

    await until(is_cooling)


def begin(at: GatewayProcess, model: str, **more: str) -> asyncio.Task[Reply]:
    return asyncio.create_task(chat(at, model, **more))


async def test_a_cooldown_that_another_gateway_saw_is_waited_for(pair: Pair, upstream: FakeUpstream) -> None:
    upstream.endpoint("short").replies(upstream_error(429, retry_after="2"))
    assert (await chat(pair.a, "short")).status == 429
    await learns(pair.b, "short")
    waiting = begin(pair.b, "short")
    await waits(pair.b, 1)
    assert (await waiting).status == 200
    assert len(upstream.endpoint("short").requests) == 2


async def test_a_cooldown_that_an_admin_ends_ends_the_wait_everywhere(pair: Pair, upstream: FakeUpstream) -> None:
    upstream.endpoint("ended").replies(upstream_error(429, retry_after="19"))
    assert (await chat(pair.a, "ended")).status == 429
    await learns(pair.b, "ended")
    waiting = [begin(each, "ended") for each in pair]
    for each in pair:
        await waits(each, 1)
    reset = await call(pair.a, "DELETE", "/api/admin/ai/endpoints/id-ended/ended/cooldown")
    assert reset.status == 200
    assert [(await each).status for each in waiting] == [200, 200]
    for each in pair:
        line = await each.log(lambda line: line.get("model") == "ended" and line.get("status") == 200)
        assert line["queued_ms"] < 15_000


async def test_what_waits_counts_in_limits_of_both(pair: Pair, upstream: FakeUpstream) -> None:
    """`concurrency: 3`: on each gateway one is served, on one of them another waits; a fourth is refused anywhere."""
    release = asyncio.Event()
    upstream.endpoint("narrow").always(raw(release, full(200, b"{}")))
    served = [begin(each, "narrow") for each in pair]
    await upstream.endpoint("narrow").request(2)
    waiting = begin(pair.b, "narrow")
    await waits(pair.b, 1)
    for each in pair:
        assert code_of(await chat(each, "narrow")) == "rate_limit_exceeded"
    release.set()
    assert [(await each).status for each in (*served, waiting)] == [200, 200, 200]


async def test_a_key_that_a_panel_revokes_is_refused_when_its_turn_comes(
    pair: Pair, upstream: FakeUpstream, redis_server: RedisServer
) -> None:
    upstream.endpoint("held").replies(upstream_error(429, retry_after="3"))
    with Panel(redis_server, publish=True) as panel:
        panel.give_key(QUEUED, "someone")
        assert (await chat(pair.a, "held")).status == 429
        waiting = begin(pair.a, "held", key=QUEUED)
        await waits(pair.a, 1)
        panel.revoke_key(QUEUED)
        reply = await waiting
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "invalid_api_key")
