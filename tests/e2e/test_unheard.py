"""What is counted where nobody waits for the answer: clients that leave early, and work in the background."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kit import (
    KEYS,
    RESET,
    FakeUpstream,
    Received,
    Reply,
    Stage,
    Wire,
    answer,
    ask,
    assert_error,
    events,
    raw,
    request_bytes,
)
from kit.answers import event, full, upstream_error
from kit.books import acting_for, fresh_user, rows, until
from kit.stage import Record, endpoint, model

PRICE = {"input": 2.5, "output": 10}


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A port that lets connections hang: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory, silent_port: int) -> AsyncIterator[Stage]:
    def models(upstream: FakeUpstream) -> Iterator[Record]:
        wide = {"tokens": 1_000_000, "rpm": 1_000, "period": "day"}
        for name, limits in (("wide", wide), ("three", {"requests": 3, "period": "day"}), ("rpm", {"rpm": 2})):
            yield model(name, [endpoint(upstream, name)], limits=limits, price=PRICE)
        nowhere = endpoint(upstream, "nowhere", url=f"http://127.0.0.1:{silent_port}/v1")
        yield model("unreachable", [nowhere], limits={"requests": 3})

    async with Stage.open(tmp_path_factory.mktemp("unheard"), models) as opened:
        yield opened


async def post(stage: Stage, user: str, body: dict[str, Any], route: str = "chat/completions") -> Reply:
    return await stage.post(body, route, key=KEYS["panel"], headers=acting_for(user))


def left_of(reply: Reply, unit: str) -> int:
    """What the answer says is left, of requests or of tokens."""
    return int(reply.header(f"x-ratelimit-remaining-{unit}") or -1)


async def leave(stage: Stage, user: str, body: dict[str, Any], name: str, route: str = "chat/completions") -> None:
    """Asks, and is gone once the upstream has got it, before any answer."""
    asked = stage.upstream.endpoint(name).replies(raw(asyncio.Event()))
    before = len(asked.requests)
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", f"/v1/{route}", body, key=KEYS["panel"], headers=acting_for(user)))
        request = await asked.request(before + 1)
        wire.reset()
        await request.until_closed()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_leaving_early_is_no_way_round_a_count(stage: Stage, stream: bool) -> None:
    """The upstream had got it: the request keeps its count, in the period and in the minute."""
    user = fresh_user()
    for _ in range(2):
        await leave(stage, user, ask("three", stream=stream), "three")
        await leave(stage, user, ask("rpm", stream=stream), "rpm")
    assert left_of(await post(stage, user, ask("three")), "requests") == 0
    assert_error(await post(stage, user, ask("three")), 429, "insufficient_quota", "insufficient_quota")
    assert_error(await post(stage, user, ask("rpm")), 429, "rate_limit_exceeded", "rate_limit_error")


async def test_leaving_early_pays_for_the_prompt(stage: Stage) -> None:
    """Its tokens are settled by its prompt, and the answer that never came is given back."""
    user, words = fresh_user(), "word " * 1_000
    body = ask("wide", max_tokens=50_000) | {"messages": [{"role": "user", "content": words}]}
    await leave(stage, user, body, "wide")
    left = left_of(await post(stage, user, ask("wide", max_tokens=1)), "tokens")
    assert 1_000_000 - 1_400 < left < 1_000_000 - 1_250
    (row, _) = await rows(stage.gateway, user, 2)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", "499", "estimated")
    assert 1_250 <= int(row["prompt_tokens"]) == int(row["total_tokens"]) < 1_350
    assert float(row["cost"]) > 0


async def test_a_client_that_leaves_before_anything_was_asked_uses_nothing(stage: Stage) -> None:
    """Its endpoint cannot be connected to: no upstream has seen the request."""
    user = fresh_user()

    async def counted() -> int:
        reply = await stage.gateway.get("/api/ai/my-models", key=KEYS["panel"], headers=acting_for(user))
        used = {each["model"]["name"]: each["used"] for each in reply.json()}
        return int(used["unreachable"]["requests"])

    async def is_running() -> bool:
        return await counted() == 1

    async with Wire.open(stage.port) as wire:
        await wire.send(
            request_bytes(
                "POST", "/v1/chat/completions", ask("unreachable"), key=KEYS["panel"], headers=acting_for(user)
            )
        )
        await until(is_running)
        wire.reset()
    (row,) = await rows(stage.gateway, user, 1)
    assert (row["outcome"], row["total_tokens"], row["usage_source"]) == ("cancelled", "0", "none")
    assert await counted() == 0


async def test_what_was_seen_of_a_plain_answer_counts_when_its_client_leaves(stage: Stage) -> None:
    """Most of a long answer is there, and not its end: its text is not free."""
    user, words = fresh_user(), "word " * 4_000
    part = full(200, {"choices": [{"message": {"role": "assistant", "content": words}}]})[:-3]
    sent = asyncio.Event()

    async def answer_in_part(request: Received) -> None:
        await request.send(part)
        sent.set()
        await request.until_closed()

    stage.upstream.endpoint("wide").replies(answer_in_part)
    async with Wire.open(stage.port) as wire:
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", ask("wide"), key=KEYS["panel"], headers=acting_for(user))
        )
        await sent.wait()
        await stage.gateway.get("/healthz")  # behind it, so that it has been read
        wire.reset()
    (row,) = await rows(stage.gateway, user, 1)
    assert (row["outcome"], row["usage_source"]) == ("cancelled", "estimated")
    assert int(row["completion_tokens"]) > 3_000


async def test_leaving_a_background_stream_ends_nothing(stage: Stage) -> None:
    """The upstream works on: all that was reserved is settled."""
    user = fresh_user()
    body = {"model": "wide", "input": "x", "stream": True, "background": True, "max_output_tokens": 100_000}
    await leave(stage, user, body, "wide", "responses")
    (row,) = await rows(stage.gateway, user, 1)
    assert (row["outcome"], row["usage_source"], row["completion_tokens"]) == ("cancelled", "estimated", "100000")


async def test_a_background_stream_that_breaks_off_ends_nothing(stage: Stage) -> None:
    """The connection is gone, and the upstream works on."""
    user = fresh_user()
    created = event({"type": "response.created", "response": {"status": "queued"}}, name="response.created")
    more = event({"type": "response.output_text.delta", "delta": "a"}, name="response.output_text.delta")
    stage.upstream.endpoint("wide").replies(events(created, more, RESET))
    body = {"model": "wide", "input": "x", "stream": True, "background": True, "max_output_tokens": 100_000}
    await post(stage, user, body, "responses")
    (row,) = await rows(stage.gateway, user, 1)
    assert (row["outcome"], row["usage_source"], row["completion_tokens"]) == ("upstream_error", "estimated", "100000")


async def test_a_background_stream_that_failed_is_over(stage: Stage) -> None:
    """The upstream says so itself: nothing goes on, and what was seen of it is what counts."""
    user = fresh_user()
    more = event({"type": "response.output_text.delta", "delta": "a"}, name="response.output_text.delta")
    failed = event({"type": "response.failed", "response": {"status": "failed"}}, name="response.failed")
    stage.upstream.endpoint("wide").replies(events(more, failed))
    body = {"model": "wide", "input": "x", "stream": True, "background": True, "max_output_tokens": 100_000}
    await post(stage, user, body, "responses")
    (row,) = await rows(stage.gateway, user, 1)
    assert (row["outcome"], row["usage_source"], row["completion_tokens"]) == ("ok", "estimated", "1")


@pytest.mark.parametrize(
    ("last", "outcome"), [("response.failed", "ok"), ("response.incomplete", "ok"), ("error", "upstream_error")]
)
async def test_a_stream_that_ends_as_the_protocol_has_it_is_whole(stage: Stage, last: str, outcome: str) -> None:
    """Also where its last event says that the response failed; an error in its midst is another thing."""
    user = fresh_user()
    more = event({"type": "response.output_text.delta", "delta": "a"}, name="response.output_text.delta")
    end = event({"type": last, "response": {"status": "failed", "error": {"message": "no"}}}, name=last)
    stage.upstream.endpoint("wide").replies(events(more, end))
    reply = await post(stage, user, {"model": "wide", "input": "x", "stream": True}, "responses")
    (row,) = await rows(stage.gateway, user, 1)
    assert (reply.status, reply.body, row["status"], row["outcome"]) == (200, more + end, "200", outcome)


async def test_a_background_request_that_reports_its_usage_is_settled_by_it(stage: Stage) -> None:
    """The upstream did it at once; a refusal costs nothing."""
    user = fresh_user()
    used = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    done = answer(200, {"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": used})
    stage.upstream.endpoint("wide").replies(done, upstream_error(400))
    body = {"model": "wide", "input": "x", "background": True, "max_output_tokens": 100_000}
    statuses = [(await post(stage, user, body, "responses")).status for _ in range(2)]
    assert statuses == [200, 400]
    found = await rows(stage.gateway, user, 2)
    assert [(row["usage_source"], row["total_tokens"]) for row in found] == [("reported", "7"), ("none", "0")]
