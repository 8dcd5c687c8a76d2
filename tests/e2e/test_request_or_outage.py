"""What cools an endpoint and what does not: an upstream's words about time, and 500s that are the request's fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from kit import Behaviour, FreshModel, Received, Stage, answer, assert_error
from kit.answers import upstream_error

NO_PICTURES = "image input is not supported"


def no_pictures(request_id: str) -> Behaviour:
    """As llama.cpp answers a client's mistake, with an id of its own each time."""
    return answer(
        500, {"error": {"code": 500, "message": NO_PICTURES, "type": "server_error", "request_id": request_id}}
    )


def always_no_pictures(model: FreshModel) -> None:
    numbers = iter(range(10_000))

    async def behave(request: Received) -> None:
        await no_pictures(f"req-{next(numbers)}")(request)

    for each in model.endpoints:
        each.always(behave)


async def fail(stage: Stage, model: FreshModel, **fields: Any) -> str | None:
    """Asks, expects 502 without a word of the upstream's, and gives `x-should-retry`."""
    reply = await stage.post(model.chat(**fields))
    assert_error(reply, 502, "upstream_error")
    assert NO_PICTURES.encode() not in reply.body
    return reply.header("x-should-retry")


# --- the request's own fault


async def test_what_all_say_alike_is_the_requests_and_cools_nothing(stage: Stage) -> None:
    """However often one caller sends it, the others are served by both endpoints."""
    model = stage.model("pair")
    always_no_pictures(model)
    assert [await fail(stage, model, picture=1) for _ in range(8)] == ["false"] * 8
    assert model.asked() == [8, 8], "the others are tried each time"


async def test_three_different_requests_that_meet_it_are_an_outage(stage: Stage) -> None:
    """Then it is the endpoint that is left out; the pool's last one goes on."""
    model = stage.model("pair")
    always_no_pictures(model)
    for number in range(5):
        await fail(stage, model, number=number)
    assert model.asked() == [3, 5]


async def test_one_answer_in_between_shows_that_it_was_no_outage(stage: Stage) -> None:
    model = stage.model("pair")
    always_no_pictures(model)
    for number in range(2):
        await fail(stage, model, number=number)
    model.a.replies(answer())
    assert (await stage.post(model.chat(number=2))).status == 200
    for number in range(3, 5):
        await fail(stage, model, number=number)
    model.a.replies(answer())
    reply = await stage.post(model.chat(number=5))
    assert (reply.status, reply.header("x-gateway-attempts"), len(model.a.requests)) == (200, "1", 6)


@pytest.mark.parametrize(
    "other",
    [
        answer(500, {"error": {"message": "out of memory"}}),
        answer(500, b"Internal Server Error", content_type="text/plain"),
        upstream_error(503),
        answer(500, {"error": {"message": NO_PICTURES}}, [("retry-after", "1")]),
    ],
    ids=["other words", "no JSON", "another status", "it asks for time"],
)
@pytest.mark.parametrize("first", [True, False])
async def test_where_one_says_otherwise_a_client_may_try_again(stage: Stage, other: Behaviour, first: bool) -> None:
    model = stage.model("pair")
    said = [other, answer(500, {"error": {"message": NO_PICTURES}})]
    for each, behaviour in zip(model.endpoints, said if first else reversed(said), strict=True):
        each.replies(behaviour)
    assert await fail(stage, model) is None


async def test_it_counts_as_any_failure_where_another_endpoint_answers(stage: Stage) -> None:
    """What one endpoint can do the other should."""
    model = stage.model("pair")
    model.a.always(no_pictures("x"))
    for _ in range(5):
        assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [3, 5]


# --- how long an upstream asks to be left alone


def reset_at(form: str) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=40)
    return {
        "http": format_datetime(moment, usegmt=True),
        "iso": moment.isoformat(),
        "seconds": str(int(moment.timestamp())),
        "milliseconds": str(int(moment.timestamp() * 1000)),
        "duration": "0m40s",
    }[form]


@pytest.mark.parametrize(
    "header", ["retry-after-ms", "retry-after", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"]
)
@pytest.mark.parametrize("form", ["http", "iso", "seconds", "milliseconds", "duration"])
async def test_a_reset_is_understood_in_every_spelling(stage: Stage, header: str, form: str) -> None:
    model = stage.model()
    model.a.replies(answer(429, b"{}", [(header, reset_at(form))]))
    reply = await stage.post(model.chat())
    assert_error(reply, 429, "upstream_rate_limited", "rate_limit_error")
    assert 10 <= int(reply.header("retry-after") or 0) <= 40


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_5xx_that_asks_for_time_gets_it_at_once(stage: Stage, status: int) -> None:
    """Not the last endpoint of a pool; and what all cool for is no rate limit."""
    model = stage.model("pair")
    for each in model.endpoints:
        each.replies(upstream_error(status, retry_after="60"))
    assert_error(await stage.post(model.chat()), 502, "upstream_error")
    assert (await stage.post(model.chat())).header("x-gateway-attempts") == "1"
    assert model.asked() == [1, 2]
    line = await stage.gateway.log(lambda each: each.get("endpoint") == model.a.name and "wait_ms" in each)
    assert line["wait_ms"] == 60_000
