"""Usage as it is told: the numbers against an upstream that counts by itself, who may see them, the CSV."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from kit import DONE, KEYS, RESET, Stage, Wire, answer, ask, events, raw, request_bytes
from kit.answers import delta, event, upstream_error, usage_only
from kit.books import CountingUpstream, acting_for, ask_for, fresh_user, post_for, rows, until_counted, usage

PROMISED_SECONDS = 1.0
SCHEDULING_SECONDS = 0.5  # two processes and this test share the machine with other tests


@pytest.fixture(scope="module")
def spare_models() -> Iterator[int]:
    return itertools.count()


def numbers(row: dict[str, str]) -> tuple[int, int, int, int, int]:
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
    prompt, completion, cached, reasoning, total = (int(row[name]) for name in names)
    return prompt, completion, cached, reasoning, total


# --- the numbers


@pytest.mark.parametrize("cuts", [0, 1, 5, None], ids=["in one piece", "cut once", "cut five times", "byte by byte"])
@pytest.mark.parametrize(
    ("route", "streamed"),
    [
        ("chat/completions", False),
        ("chat/completions", True),
        ("completions", False),
        ("completions", True),
        ("embeddings", False),
        ("responses", False),
        ("responses", True),
    ],
)
async def test_usage_is_what_the_upstream_counted(
    books: Stage, spare_models: Iterator[int], route: str, streamed: bool, cuts: int | None
) -> None:
    """Every body, streamed or not, its bytes cut anywhere: the ledger has the upstream's own numbers, to the token."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    upstream = CountingUpstream(cuts)
    books.upstream.endpoint(name).always(upstream)
    tags = [f"{user}.{number}" for number in range(8 if cuts is not None else 2)]
    body = ask(name) | ({"stream": True} if streamed else {})
    replies = await asyncio.gather(
        *(post_for(books, user, body | {"user": tag}, route, x_client_request_id=tag) for tag in tags)
    )
    assert [reply.status for reply in replies] == [200] * len(tags)
    found = {row["client_request_id"]: row for row in await rows(books.gateway, user, len(tags))}
    for tag in tags:
        row, told = found[tag], upstream.told[tag]
        assert numbers(row) == (
            told.prompt,
            told.completion,
            told.cached,
            told.reasoning,
            told.prompt + told.completion,
        )
        assert (row["outcome"], row["usage_source"], row["route"]) == ("ok", "reported", route)
        assert row["streamed"] == ("true" if streamed else "false")
        # cost: 2.50 and 10.00 a million, exact to the billionth
        assert round(float(row["cost"]) * 10**9) == told.prompt * 2_500 + told.completion * 10_000
    sums = (await usage(books.gateway, user))["totals"]
    assert sums["tokens"] == sum(told.prompt + told.completion for told in upstream.told.values())
    assert sums["requests"] == len(tags)


async def test_usage_is_counted_within_a_second(books: Stage) -> None:
    """`counting what ended up to a second ago`."""
    user = fresh_user()
    for number in range(1, 4):
        assert (await post_for(books, user, ask("gpt"))).status == 200
        await until_counted(books.gateway, user, number, seconds=PROMISED_SECONDS + SCHEDULING_SECONDS)


async def test_a_client_that_leaves_is_billed_for_what_it_saw(books: Stage) -> None:
    """Five events of a hundred: cancelled, status 499, an estimate that says so, and not for the other ninety-five."""
    user = fresh_user()
    words = [delta(f"word{number} ") for number in range(100)]
    full_estimate = await _billed_after_leaving(books, user, events(*words, asyncio.Event()), reads=100)
    early_estimate = await _billed_after_leaving(books, user, events(*words[:5], asyncio.Event()), reads=5)
    assert 5 <= early_estimate < full_estimate
    for row in await rows(books.gateway, user, 2):
        assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", "499", "estimated")
        assert int(row["prompt_tokens"]) > 0
        assert int(row["total_tokens"]) == int(row["prompt_tokens"]) + int(row["completion_tokens"])
        assert float(row["cost"]) > 0


async def _billed_after_leaving(books: Stage, user: str, behaviour: Any, *, reads: int) -> int:
    """Reads so many events of this stream and is gone. Returns the completion tokens billed."""
    asked = books.upstream.endpoint("gpt.a").replies(behaviour)
    before, seen = len(asked.requests), len(await rows(books.gateway, user, 0))
    async with Wire.open(books.port) as wire:
        body = ask("gpt", stream=True)
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=acting_for(user))
        )
        await wire.head()
        for _ in range(reads):
            await wire.event()
        wire.reset()
    await (await asked.request(before + 1)).until_closed()
    return int((await rows(books.gateway, user, seen + 1))[-1]["completion_tokens"])


async def test_a_client_that_leaves_before_an_answer_is_billed_its_prompt(books: Stage) -> None:
    """No byte came, but the upstream was asked: the row has the prompt's tokens, and says that it guesses."""
    user = fresh_user()
    asked = books.upstream.endpoint("gpt.a").replies(raw(asyncio.Event()))
    before = len(asked.requests)
    async with Wire.open(books.port) as wire:
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", ask("gpt"), key=KEYS["panel"], headers=acting_for(user))
        )
        await asked.request(before + 1)
        wire.reset()
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", "499", "estimated")
    assert int(row["prompt_tokens"]) == int(row["total_tokens"]) > 0
    assert float(row["cost"]) > 0


@pytest.mark.parametrize(
    ("behaviour", "streamed", "expected"),
    [
        (events(delta("one"), delta("two"), RESET), True, ("upstream_error", "200", "estimated")),
        (events(usage_only(), delta("one"), RESET), True, ("upstream_error", "200", "reported")),
        (events(delta("one"), DONE), True, ("ok", "200", "estimated")),
        (answer(200, {"choices": [{"text": "some words"}]}), False, ("ok", "200", "estimated")),
        (upstream_error(400), False, ("upstream_error", "400", "none")),
        (upstream_error(422), True, ("upstream_error", "422", "none")),
    ],
    ids=["broken", "broken after its usage", "no usage", "plain without usage", "refused", "stream refused"],
)
async def test_every_end_has_its_outcome(
    books: Stage, spare_models: Iterator[int], behaviour: Any, streamed: bool, expected: tuple[str, str, str]
) -> None:
    """What was seen is kept whatever the end; where nothing was told it is an estimate, and labelled so."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    books.upstream.endpoint(name).always(behaviour)
    await post_for(books, user, ask(name) | ({"stream": True} if streamed else {}))
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["usage_source"]) == expected
    assert (int(row["total_tokens"]) > 0) == (expected[2] != "none")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_usage_is_read_from_compressed_answers(books: Stage, encoding: str) -> None:
    """Some upstreams compress although they were asked not to; the bytes go on as they are, the usage is counted."""
    user = fresh_user()
    plain = json.dumps({"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 7}}).encode()
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    books.upstream.endpoint("gpt.a").replies(answer(200, packed, [("content-encoding", encoding)]))
    assert (await post_for(books, user, ask("gpt"))).body == packed
    (row,) = await rows(books.gateway, user, 1)
    assert (numbers(row)[:2], row["usage_source"]) == ((70, 7), "reported")


async def test_usage_is_read_from_answers_too_large_to_hold(books: Stage, spare_models: Iterator[int]) -> None:
    """Beyond 16 MB an answer flows, as one to many embeddings does; it is not free for that."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    data = {"data": ["0.125," * 3_000_000], "usage": {"prompt_tokens": 70, "total_tokens": 70}}
    books.upstream.endpoint(name).always(answer(200, data))
    assert (await post_for(books, user, ask(name), "embeddings")).status == 200
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["total_tokens"], row["usage_source"]) == ("ok", "70", "reported")


async def test_compressed_streams_are_not_free(books: Stage) -> None:
    """They are passed on as they are; what was used is estimated where it cannot be read."""
    user = fresh_user()
    packed = gzip.compress(delta("some words") + usage_only() + DONE)
    books.upstream.endpoint("gpt.a").replies(events(packed, headers=[("content-encoding", "gzip")]))
    assert (await post_for(books, user, ask("gpt", stream=True))).body == packed
    (row,) = await rows(books.gateway, user, 1)
    assert row["usage_source"] in ("reported", "estimated")
    assert int(row["total_tokens"]) > 0


async def test_the_last_usage_counts_and_never_a_sum(books: Stage) -> None:
    """Some upstreams tell a running usage with each event."""
    user = fresh_user()
    running = [
        event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"prompt_tokens": 5, **counted}})
        for counted in ({"completion_tokens": 1}, {"completion_tokens": 2}, {"completion_tokens": 3})
    ]
    books.upstream.endpoint("gpt.a").replies(events(*running, DONE))
    await post_for(books, user, ask("gpt", stream=True))
    (row,) = await rows(books.gateway, user, 1)
    assert numbers(row)[:2] == (5, 3)
    assert numbers(row)[4] == 8


async def test_a_request_that_no_upstream_answered_is_told_but_costs_nothing(books: Stage) -> None:
    """Two endpoints failed: one row, two attempts, no tokens."""
    user = fresh_user()
    for each in ("gpt.a", "gpt.b"):
        books.upstream.endpoint(each).replies(answer(500))
    assert (await post_for(books, user, ask("gpt"))).status == 502
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["attempts"]) == ("upstream_error", "502", "2")
    assert (row["total_tokens"], row["cost"], row["usage_source"]) == ("0", "0", "none")


async def test_the_endpoint_and_model_that_answered_are_told(books: Stage) -> None:
    """A fallback served: its name, its endpoint, and its price (none), not the first model's."""
    user = fresh_user()
    books.upstream.endpoint("proud").replies(answer(500))
    reply = await post_for(books, user, ask("proud"), x_request_id="mine")
    assert reply.header("x-gateway-model") == "free"
    (row,) = await rows(books.gateway, user, 1)
    assert (row["model"], row["endpoint"], row["attempts"], row["cost"]) == ("1x", "free.a", "2", "0")
    assert (row["client_request_id"], row["request_id"]) == ("mine", reply.header("x-request-id"))
    assert (row["user"], row["key"], row["organisation"]) == (user, "panel", "")


async def test_what_was_not_admitted_has_no_row(books: Stage) -> None:
    """Refusals before admission are in the log alone."""
    user = fresh_user()
    assert (await post_for(books, user, {"modelId": "nobody"})).status == 404
    assert (await post_for(books, user, ask("gpt", models=["x"]))).status == 400
    assert (await post_for(books, user, ask("gpt"))).status == 200
    assert len(await rows(books.gateway, user, 1)) == 1


async def test_a_hundred_requests_with_one_client_id_are_a_hundred_rows(books: Stage) -> None:
    """The client's id is kept, and is no key of anything."""
    user = fresh_user()
    await asyncio.gather(*(ask_for(books.gateway, user, ask("gpt"), tag="always the same") for _ in range(100)))
    found = await rows(books.gateway, user, 100)
    assert [row["client_request_id"] for row in found] == ["always the same"] * 100
    assert len({row["request_id"] for row in found}) == 100
