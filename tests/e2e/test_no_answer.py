"""When no endpoint has an answer: which error tells it, what cools for how long, and how it ends."""

from __future__ import annotations

import asyncio

import pytest
from kit import (
    DONE,
    Received,
    Stage,
    ask,
    assert_error,
    raw,
)
from kit.answers import STREAM_HEAD, chunk, delta, full, upstream_error

GOOD = b'{"object":"chat.completion"}'


async def test_rate_limited_everywhere(stage: Stage) -> None:
    """429 with the soonest end; and until then the next request is refused without asking anyone."""
    model = stage.model("pair")
    model.a.replies(upstream_error(429, retry_after="40"))
    model.b.replies(upstream_error(429, retry_after="20"))
    for _ in range(2):
        reply = await stage.post(model.chat())
        assert_error(reply, 429, "upstream_rate_limited", "rate_limit_error")
        assert 15 <= int(reply.header("retry-after") or 0) <= 20
        assert reply.header("x-gateway-requested-model") is None, "no other model serves"
    assert model.asked() == [1, 1]


@pytest.mark.parametrize(
    ("headers", "soonest"),
    [
        ({"retry_after_ms": "7000", "retry_after": "90"}, 7),
        ({"x_ratelimit_reset_requests": "1m30s"}, 90),
        ({"retry_after": "99999"}, 600),
        ({"retry_after": "soon"}, 5),
        ({}, 5),
    ],
    ids=["retry-after-ms", "reset", "at most 10 minutes", "nonsense", "nothing"],
)
async def test_how_long_a_rate_limit_holds(stage: Stage, headers: dict[str, str], soonest: int) -> None:
    """Every header form, its bound and its default reach the client as `retry-after`."""
    model = stage.model()
    model.a.replies(upstream_error(429, **headers))
    reply = await stage.post(model.chat())
    assert soonest - 1 <= int(reply.header("retry-after") or 0) <= soonest


async def test_a_cooling_endpoint_is_left_out_by_later_requests(stage: Stage) -> None:
    """After a 429 the endpoint is not asked again while it cools: others serve, at the first attempt."""
    model = stage.model("pair")
    model.a.replies(upstream_error(429, retry_after="60"))
    attempts = [(await stage.post(model.chat())).header("x-gateway-attempts") for _ in range(4)]
    assert attempts == ["2", "1", "1", "1"]
    assert model.asked() == [1, 4]


async def test_a_rate_limit_ends(stage: Stage) -> None:
    """When its time is over the endpoint is asked again."""
    model = stage.model()
    model.a.replies(upstream_error(429, retry_after_ms="300"))
    assert (await stage.post(model.chat())).status == 429
    async with asyncio.timeout(30):
        while (await stage.post(model.chat())).status != 200:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.05)  # nothing tells us of the end but the next answer
    assert model.asked() == [2]


async def test_three_failures_in_a_row_cool_an_endpoint(stage: Stage) -> None:
    """The third failure in a row takes the endpoint out of rotation while another can serve."""
    model = stage.model("pair")
    model.a.always(upstream_error(500))
    for _ in range(5):
        assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [3, 5]


async def test_the_last_endpoint_is_never_cooled_for_failures(stage: Stage) -> None:
    """One upstream's hiccup must not become our outage: it is asked each time, and serves as soon as it can."""
    model = stage.model()
    model.a.replies(*[upstream_error(500)] * 6)
    for _ in range(6):
        assert_error(await stage.post(model.chat()), 502, "upstream_error")
    assert (await stage.post(model.chat())).status == 200


async def test_credentials_refused_everywhere(stage: Stage) -> None:
    """Our credentials are our fault: 502 without a retry, also while the endpoints cool for it."""
    model = stage.model("pair")
    for each in model.endpoints:
        each.replies(upstream_error(401))
    for _ in range(2):
        reply = await stage.post(model.chat())
        assert_error(reply, 502, "upstream_credentials_rejected")
        assert reply.header("x-should-retry") == "false"
    assert model.asked() == [1, 1]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("second", [429, 401, 502])
async def test_mixed_causes(stage: Stage, second: int, streamed: bool) -> None:
    """A failure together with another cause is `upstream_error`, without a word of the upstream's."""
    model = stage.model("pair")
    model.a.replies(upstream_error(500))
    model.b.replies(upstream_error(second))
    assert_error(await stage.post(model.chat(stream=streamed)), 502, "upstream_error")


async def test_time_outs_everywhere(stage: Stage) -> None:
    """504 that a client shall not repeat, and both connections closed."""
    model = stage.model("hasty")
    for each in model.endpoints:
        each.replies(raw(asyncio.Event()))
    reply = await stage.post(model.chat(stream=True))
    assert_error(reply, 504, "upstream_timeout")
    assert reply.header("x-should-retry") == "false"
    for each in model.endpoints:
        await each.requests[0].until_closed()


async def test_a_connection_that_hangs_is_a_time_out(special: Stage) -> None:
    """A connect time-out everywhere is a time-out as well; a refused connection everywhere is a failure."""
    assert_error(await special.post(ask("deaf")), 504, "upstream_timeout")
    assert_error(await special.post(ask("dead")), 502, "upstream_error")


async def test_total_spans_all_attempts(special: Stage) -> None:
    """`total` ends the wait for a stream's first event and for a plain answer, though `first_byte` had time left."""
    for name in ("brief.a", "brief.b"):
        special.upstream.endpoint(name).always(raw(asyncio.Event()))
    for streamed in (False, True):
        reply = await special.post(ask("brief", stream=streamed))
        assert_error(reply, 504, "upstream_timeout")
        assert reply.header("x-should-retry") == "false"
        assert reply.header("x-gateway-attempts") == "1", "nobody is asked when the time is over"


async def test_a_trickling_answer_is_ended_by_total(special: Stage) -> None:
    """An answer that is not streamed has `total` for all of its bytes; a live stream is never cut by it."""
    release = asyncio.Event()
    special.upstream.endpoint("brief.a").always(raw(full(200, GOOD)[:-1], release))
    special.upstream.endpoint("brief.b").always(raw(full(200, GOOD)[:-1], release))
    assert_error(await special.post(ask("brief")), 504, "upstream_timeout")


async def test_total_never_cuts_a_live_stream(special: Stage) -> None:
    """A stream that is alive for longer than `total` goes on to its own end."""

    async def slow(request: Received) -> None:
        await request.send(STREAM_HEAD)
        for number in range(10):
            await request.send(chunk(delta(str(number))))
            await asyncio.sleep(0.1)  # the stream's own pace, and what the test is about
        await request.send(chunk(DONE) + b"0\r\n\r\n")

    for name in ("brief.a", "brief.b"):
        special.upstream.endpoint(name).always(slow)
    reply = await special.post(ask("brief", stream=True))
    assert reply.body == b"".join(delta(str(number)) for number in range(10)) + DONE
