"""A batch is admitted with all its lines, and booked once when it is over."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_kit import CHAT, PRICE, Batching, batching, jsonl, line
from kit.books import fresh_user, rows, usage

REPORT = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}


async def booked(shop: Batching, user: str) -> dict[str, str]:
    """The one row of a model that this user has."""
    async with asyncio.timeout(20):
        while True:
            found = [each for each in await rows(shop.gateway, user, 0) if " " not in each["route"]]
            if found:
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.05)


def output(number: int, prompt: int, completion: int) -> dict[str, Any]:
    used = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    body = {"id": f"c{number}", "object": "chat.completion", "choices": choices, "usage": used}
    response = {"status_code": 200, "request_id": f"r{number}", "body": body}
    return {"id": f"l{number}", "custom_id": f"line-{number}", "response": response, "error": None}


async def test_from_file_to_result_with_the_official_client(shop: Batching) -> None:
    async with shop.client() as client:
        content = jsonl(*(line(number, model="pair") for number in range(3)))
        file = await client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert batch.status == "validating"
        assert batch.id.split("_")[1] == file.id.split("_")[1]  # where its file is
        shop.provider.ends(batch.id, output=[output(1, 10, 5)], usage=REPORT)
        batch = await client.batches.retrieve(batch.id)
        assert batch.status == "completed"
        answers = (await client.files.content(batch.output_file_id or "")).text
        assert json.loads(answers)["custom_id"] == "line-1"
        assert (await client.batches.list(limit=1)).data[0].id == batch.id


async def test_what_a_batch_reports_is_booked_at_the_batch_price(shop: Batching) -> None:
    user = fresh_user()
    begun = await shop.begun(line(1, model="pair"), line(2, model="pair"), user=user)
    assert begun.status == 200, begun.body
    batch = begun.json()["id"]
    assert (await usage(shop.gateway, user))["totals"]["tokens"] == 0
    await shop.ask("GET", f"/batches/{batch}", user=user)  # it runs still
    shop.provider.ends(batch, usage=REPORT)
    for _ in range(3):
        assert (await shop.ask("GET", f"/batches/{batch}", user=user)).json()["status"] == "completed"
    row = await booked(shop, user)
    assert row["request_id"] == begun.header("x-request-id")
    assert (row["route"], row["usage_source"], row["outcome"]) == ("batches", "reported", "ok")
    assert (row["prompt_tokens"], row["completion_tokens"]) == ("1000", "100")
    assert float(row["cost"]) == pytest.approx((1_000 * 2 + 100 * 10) / 2 / 1_000_000)
    totals = (await usage(shop.gateway, user))["totals"]
    assert (totals["requests"], totals["tokens"]) == (1, 1_100)


async def test_without_a_report_its_output_is_summed_up(shop: Batching) -> None:
    user = fresh_user()
    batch = (await shop.begun(line(1, model="pair"), line(2, model="pair"), user=user)).json()["id"]
    failed = {"id": "x", "custom_id": "3", "response": {"status_code": 429, "body": {"error": {}}}, "error": None}
    shop.provider.ends(batch, output=[output(1, 10, 5), output(2, 20, 7), failed])
    await shop.ask("GET", f"/batches/{batch}", user=user)
    row = await booked(shop, user)
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == ("30", "12", "reported")
    assert float(row["cost"]) == pytest.approx((30 * 2 + 12 * 10) / 2 / 1_000_000)


async def test_each_answer_is_priced_by_itself_also_where_the_batch_reports_a_sum(tmp_path: Path) -> None:
    """Two answers of 150 tokens are not one of 300, which would be dearer."""
    user = fresh_user()
    price = PRICE | {"above": [{"input_tokens": 200, "input": 100}]}
    dear = partial(with_price, price)
    async with batching(tmp_path, models=dear) as shop:
        batch = (await shop.begun(line(1, model="second"), line(2, model="second"), user=user)).json()["id"]
        report = {"input_tokens": 300, "output_tokens": 10, "total_tokens": 310}
        shop.provider.ends(batch, output=[output(1, 150, 5), output(2, 150, 5)], usage=report)
        await shop.ask("GET", f"/batches/{batch}", user=user)
        row = await booked(shop, user)
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == ("300", "10", "reported")
        assert float(row["cost"]) == pytest.approx((300 * 2 + 10 * 10) / 2 / 1_000_000)
        batch = (await shop.begun(line(1, model="second"), user=(other := fresh_user()))).json()["id"]
        shop.provider.ends(batch, output=[output(1, 300, 5)], usage=report)
        await shop.ask("GET", f"/batches/{batch}", user=other)
        assert float((await booked(shop, other))["cost"]) == pytest.approx((300 * 100 + 5 * 10) / 2 / 1_000_000)


async def test_responses_that_lines_have_made_are_their_owners(shop: Batching) -> None:
    url, user = "/v1/responses", fresh_user()
    asked = {"custom_id": "1", "method": "POST", "url": url, "body": {"model": "second", "input": "Hi"}}
    batch = (await shop.begun(asked, user=user)).json()["id"]
    used = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    made = [
        {"id": f"resp_line_{number}", "object": "response", "status": "completed", "output": []} for number in (1, 2)
    ]
    bodies = [each | {"usage": used} for each in made]
    bodies[1]["store"] = False
    shop.provider.things["a"] |= {each["id"]: each for each in made}
    lines = [{"custom_id": "1", "response": {"status_code": 200, "body": each}, "error": None} for each in bodies]
    shop.provider.ends(batch, output=lines, usage=REPORT)
    await shop.ask("GET", f"/batches/{batch}", user=user)
    await booked(shop, user)
    assert (await shop.ask("GET", "/responses/resp_line_1", user=user)).status == 200
    foreign = await shop.ask("GET", "/responses/resp_line_1", user=fresh_user())
    assert foreign.error()["code"] == "object_not_found"
    assert (await shop.ask("GET", "/responses/resp_line_2", user=user)).error()["code"] == "object_not_found"


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_what_was_not_used_is_not_booked(shop: Batching, status: str) -> None:
    user = fresh_user()
    batch = (await shop.begun(line(1, model="pair"), user=user)).json()["id"]
    shop.provider.ends(batch, status)
    await shop.ask("GET", f"/batches/{batch}", user=user)
    row = await booked(shop, user)
    assert (row["total_tokens"], float(row["cost"])) == ("0", 0)


async def test_only_an_input_of_ours_is_taken(shop: Batching) -> None:
    plain = (await shop.upload(jsonl(line(model="pair")), purpose="user_data")).json()["id"]
    asked: dict[str, Any] = {"input_file_id": plain, "endpoint": CHAT, "completion_window": "24h"}
    for body in (asked, {**asked, "input_file_id": None}):
        refused = await shop.ask("POST", "/batches", body)
        assert (refused.status, refused.error()["code"]) == (400, "invalid_batch"), refused.body
        assert refused.error()["param"] == "input_file_id"
    mine = (await shop.upload(jsonl(line(model="pair")))).json()["id"]
    other = await shop.ask("POST", "/batches", asked | {"input_file_id": mine, "endpoint": "/v1/embeddings"})
    assert (other.status, other.error()["code"]) == (400, "invalid_batch")
    assert other.error()["param"] == "input_file_id"
    assert CHAT in other.error()["message"]
    foreign = await shop.ask("POST", "/batches", asked | {"input_file_id": mine}, key="stranger")
    assert (foreign.status, foreign.error()["code"]) == (404, "object_not_found")
    assert not [each for each in shop.provider.asked if each[2] == "batches"][-1:] or all(
        each["input_file_id"] not in (plain, mine)
        for things in shop.provider.things.values()
        for each in things.values()
        if each["object"] == "batch"
    )


def with_price(price: Any, upstream: Any) -> Any:
    from batch_kit import models

    return [record | {"price": price} for record in models(upstream)]


def limited(upstream: Any, **limits: Any) -> Any:
    from batch_kit import models

    return [record | {"limits": limits} for record in models(upstream)]


async def test_all_lines_are_reserved_and_stay_so_over_a_restart(tmp_path: Path) -> None:
    """Three of five requests are a batch's; it ends with what it used."""
    users = [{"id": 42, "tier": "paid", "grants": [{"model": "second", "limits": {"requests": 5, "concurrency": 1}}]}]
    async with batching(tmp_path, users=users) as shop:
        four = await shop.upload(jsonl(*(line(number, model="second") for number in range(4))))
        six = await shop.upload(jsonl(*(line(number, model="second") for number in range(6))))
        assert (six.status, six.error()["code"]) == (429, "insufficient_quota")  # they would never fit
        batch = (await shop.begun(*(line(number, model="second") for number in range(3)))).json()["id"]
        asked = {"input_file_id": four.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        refused = await shop.ask("POST", "/batches", asked)
        assert refused.status == 429, refused.body
        assert (await shop.ask("POST", "/responses", {"model": "second", "input": "Hi"})).status == 200
        for _ in range(2):
            await shop.restart()
            assert (await shop.ask("POST", "/batches", asked)).status == 429
        assert (await shop.ask("POST", "/responses", {"model": "second", "input": "Hi"})).status == 200
        assert (await shop.ask("POST", "/responses", {"model": "second", "input": "Hi"})).status == 429
        shop.provider.ends(batch, usage=REPORT)


async def test_a_total_that_is_rebuilt_counts_every_line_of_a_settled_batch(tmp_path: Path) -> None:
    """As it did when it was admitted: to begin anew is no way round a limit."""
    users = [{"id": 42, "tier": "paid", "grants": [{"model": "second", "limits": {"requests": 5}}]}]
    async with batching(tmp_path, users=users) as shop:
        batch = (await shop.begun(*(line(number, model="second") for number in range(4)))).json()["id"]
        shop.provider.ends(batch, usage=REPORT)
        await shop.ask("GET", f"/batches/{batch}")
        await booked(shop, "42")
        await shop.restart(kill=True)
        asked = {"model": "second", "input": "Hi"}
        assert [(await shop.ask("POST", "/responses", asked)).status for _ in range(2)] == [200, 429]


async def test_it_is_settled_when_nobody_asks_also_after_a_kill(tmp_path: Path) -> None:
    user = fresh_user()
    async with batching(tmp_path) as shop:
        batch = (await shop.begun(line(1, model="pair"), user=user)).json()["id"]
        await shop.restart(kill=True)
        shop.provider.ends(batch, usage=REPORT)
        await shop.restart(kill=True)  # the first round is at the start
        row = await booked(shop, user)
        assert (row["total_tokens"], row["usage_source"]) == ("1100", "reported")
        polls = shop.provider.polls(batch)
        await shop.restart(kill=True)
        await booked(shop, user)
        assert shop.provider.polls(batch) == polls  # it is settled, so nobody looks at it any more


async def test_a_batch_that_cannot_be_read_any_more_costs_its_reservation(tmp_path: Path) -> None:
    user = fresh_user()
    async with batching(tmp_path) as shop:
        batch = (await shop.begun(line(1, model="pair"), line(2, model="pair"), user=user)).json()["id"]
        shop.provider.loses(batch)
        await shop.restart()
        row = await booked(shop, user)
        assert row["usage_source"] == "estimated"
        assert int(row["completion_tokens"]) == 200
        assert float(row["cost"]) >= 200 * 10 / 2 / 1_000_000


async def test_an_output_with_an_endless_line_costs_its_reservation_and_holds_up_no_other(shop: Batching) -> None:
    """Vectors of many inputs are such a line; reading it ends, and what is settled next is not kept waiting."""
    user, other = fresh_user(), fresh_user()
    batch = (await shop.begun(line(1, model="pair"), user=user)).json()["id"]
    next_one = (await shop.begun(line(1, model="pair"), user=other)).json()["id"]
    shop.provider.ends(batch, output=[output(1, 10, 5) | {"vectors": "1" * (33 * 2**20)}])
    await shop.ask("GET", f"/batches/{batch}", user=user)
    assert (await booked(shop, user))["usage_source"] == "estimated"
    shop.provider.ends(next_one, output=[output(1, 10, 5)])
    await shop.ask("GET", f"/batches/{next_one}", user=other)
    assert (await booked(shop, other))["usage_source"] == "reported"


async def test_an_upstream_cannot_be_asked_for_anothers_batch(shop: Batching) -> None:
    batch = (await shop.begun(line(1, model="pair"))).json()["id"]
    async with shop.client("stranger") as client:
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(batch)
        with pytest.raises(openai.NotFoundError):
            await client.batches.cancel(batch)
