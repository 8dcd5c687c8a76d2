"""Responses in the background are booked when they end, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from batch_kit import Batching, batching
from kit import KEYS
from kit.books import acting_for, fresh_user, usage
from kit.wire import Wire, request_bytes
from test_batches import booked

USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
ASKED = {"model": "second", "input": "Hello there, how are you?", "background": True, "max_output_tokens": 100}
SAID = [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "word " * 40}]}]


async def test_a_response_is_booked_by_its_report_when_its_owner_sees_it(shop: Batching) -> None:
    user = fresh_user()
    begun = await shop.ask("POST", "/responses", ASKED, user=user)
    made = begun.json()["id"]
    assert begun.json()["status"] == "queued"
    await shop.ask("GET", f"/responses/{made}", user=user)
    assert (await usage(shop.gateway, user))["totals"]["tokens"] == 0
    shop.provider.ends(made, usage=USAGE)
    for _ in range(2):
        await shop.ask("GET", f"/responses/{made}", user=user)
    row = await booked(shop, user)
    assert row["request_id"] == begun.header("x-request-id")
    assert (row["total_tokens"], row["usage_source"], row["route"]) == ("12", "reported", "responses")
    assert float(row["cost"]) == pytest.approx((7 * 2 + 5 * 10) / 1_000_000)  # at the usual price
    receipt = await shop.gateway.get(f"/api/ai/usage/requests/{row['request_id']}", key=KEYS["panel"])
    assert receipt.json()["tokens"]["total"] == 12


async def test_without_a_report_its_output_counts_and_at_least_its_prompt(tmp_path: Path) -> None:
    users = [fresh_user() for _ in range(2)]
    async with batching(tmp_path) as shop:
        silent, spoken = [(await shop.ask("POST", "/responses", ASKED, user=each)).json()["id"] for each in users]
        shop.provider.ends(silent, "failed")
        shop.provider.ends(spoken, output=None)
        for things in shop.provider.things.values():
            if spoken in things:
                things[spoken]["output"] = SAID
        await shop.restart(kill=True)
        first, second = [await booked(shop, each) for each in users]
    assert (first["usage_source"], first["completion_tokens"]) == ("estimated", "0")
    assert int(first["prompt_tokens"]) > 0
    assert second["usage_source"] == "estimated"
    assert 35 <= int(second["completion_tokens"]) <= 65


async def test_one_that_is_gone_costs_its_reservation(tmp_path: Path) -> None:
    user = fresh_user()
    async with batching(tmp_path) as shop:
        made = (await shop.ask("POST", "/responses", ASKED, user=user)).json()["id"]
        shop.provider.loses(made)
        await shop.restart()
        row = await booked(shop, user)
    assert (row["completion_tokens"], row["usage_source"]) == ("100", "estimated")


async def test_what_is_unfinished_is_settled_before_it_is_deleted(shop: Batching) -> None:
    user = fresh_user()
    made = (await shop.ask("POST", "/responses", ASKED, user=user)).json()["id"]
    assert (await shop.ask("DELETE", f"/responses/{made}", user=user)).status == 200
    row = await booked(shop, user)
    assert row["usage_source"] == "estimated"
    assert int(row["prompt_tokens"]) > 0
    asked = [each[1:] for each in shop.provider.asked if each[2].endswith(made)]
    assert asked == [("GET", f"responses/{made}"), ("DELETE", f"responses/{made}")]


async def test_who_leaves_its_stream_cancels_nothing(shop: Batching) -> None:
    user = fresh_user()
    async with Wire.open(shop.gateway.port) as wire:
        body = ASKED | {"stream": True}
        await wire.send(request_bytes("POST", "/v1/responses", body, key=KEYS["panel"], headers=acting_for(user)))
        await wire.head()
        made = b""
        while b"delta" not in made:
            made += await wire.piece()
    response = next(each["id"] for each in shop.provider.things["a"].values() if each["id"].encode() in made)
    assert not [each for each in shop.provider.asked if each[2].endswith("/cancel")]
    shop.provider.ends(response, usage=USAGE)
    seen = await shop.ask("GET", f"/responses/{response}?stream=true&starting_after=2", user=user)
    assert b"response.completed" in seen.body
    await shop.ask("GET", f"/responses/{response}", user=user)
    row = await booked(shop, user)
    assert (row["total_tokens"], row["usage_source"]) == ("12", "reported")
    await asyncio.sleep(0)
    assert (await usage(shop.gateway, user))["totals"]["tokens"] == 12


async def test_one_that_is_done_at_once_is_booked_as_any(shop: Batching) -> None:
    user = fresh_user()
    made = (await shop.ask("POST", "/responses", ASKED | {"background": False}, user=user)).json()
    assert made["status"] == "completed"
    assert (await booked(shop, user))["outcome"] == "ok"
