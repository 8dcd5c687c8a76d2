"""Which endpoint is asked: rotation, weights, bounds, and many clients at once."""

from __future__ import annotations

import asyncio

from kit import (
    CLOSE,
    DEADLINE_SECONDS,
    RESET,
    Received,
    Stage,
    answer,
    ask,
    assert_error,
    raw,
)
from kit.answers import full, upstream_error
from kit.stage import upstream_key

GOOD = b'{"object":"chat.completion"}'


async def test_ten_clients_and_a_flapping_endpoint(stage: Stage) -> None:
    """Ten clients at once over three endpoints, one of which fails every other time in its own way: nobody notices."""
    model = stage.model("ring")
    ways = [upstream_error(500), raw(RESET), raw(full(200, GOOD)[:-3], CLOSE), upstream_error(429, retry_after_ms="20")]

    async def flap(request: Received) -> None:
        number = len(model.b.requests)
        await (ways[number // 2 % len(ways)] if number % 2 else answer(200, GOOD))(request)

    model.b.always(flap)

    async def client() -> list[int]:
        return [(await stage.post(model.chat(stream=number % 2 == 1))).status for number in range(10)]

    assert await asyncio.gather(*(client() for _ in range(10))) == [[200] * 10] * 10
    assert all(count >= 10 for count in model.asked()[::2])


async def test_round_robin_is_fair(stage: Stage) -> None:
    """Each endpoint in its turn."""
    model = stage.model("ring")
    for _ in range(9):
        await stage.post(model.chat())
    assert model.asked() == [3, 3, 3]


async def test_weights_are_kept(special: Stage) -> None:
    """Three to one means three to one."""
    for _ in range(8):
        await special.post(ask("heavy"))
    assert [len(special.upstream.endpoint(f"heavy.{weight}").requests) for weight in (3, 1)] == [6, 2]


async def test_least_busy_goes_where_nobody_waits(special: Stage) -> None:
    """While one endpoint is busy the other gets what comes."""
    seen: list[str] = []
    arrived, release = asyncio.Event(), asyncio.Event()

    async def stall_the_first(request: Received) -> None:
        seen.append(request.endpoint)
        arrived.set()
        await (raw(release, full(200, GOOD)) if len(seen) == 1 else answer(200, GOOD))(request)

    for name in ("eager.a", "eager.b"):
        special.upstream.endpoint(name).always(stall_the_first)
    async with special.asking(ask("eager")) as wire:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await arrived.wait()
        for _ in range(3):
            assert (await special.post(ask("eager"))).status == 200
        release.set()
        assert (await wire.reply()).status == 200
    busy, *others = seen
    assert len(others) == 3
    assert busy not in others


async def test_every_endpoint_at_its_max_in_flight(special: Stage) -> None:
    """503 overloaded that says when to come back; and the place is free again after the first request."""
    release = asyncio.Event()
    narrow = special.upstream.endpoint("narrow").replies(raw(release, full(200, GOOD)))
    async with special.asking(ask("narrow")) as wire:
        await narrow.request()
        reply = await special.post(ask("narrow"))
        assert_error(reply, 503, "overloaded")
        assert reply.header("retry-after") == "1"
        release.set()
        assert (await wire.reply()).status == 200
    assert (await special.post(ask("narrow"))).status == 200


async def test_endpoint_options_reach_the_upstream(special: Stage) -> None:
    """Headers, query, the header of the credential and the endpoint's own model name."""
    await special.post(ask("decorated"))
    request = special.upstream.endpoint("decorated").requests[0]
    assert request.header("x-team") == "blue"
    assert request.target.endswith("/v1/chat/completions?api-version=7")
    await special.post(ask("azure"))
    request = special.upstream.endpoint("azure").requests[0]
    assert (request.header("api-key"), request.header("authorization")) == (upstream_key("azure"), None)
    assert request.json()["model"] == "deployment"
