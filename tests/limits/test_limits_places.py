"""Places: what a request takes of `rpm` and `concurrency` before its large body is read, and how it is exchanged."""

from __future__ import annotations

import time

import pytest
from limits_kit import NOON, Counter, RedisServer, Start, demand, healed, running

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits.counts import Admitted, Scope

KEY = "key:laptop"


async def test_a_place_is_exchanged_and_counts_once(counter: Counter) -> None:
    """The last place of a minute, and of those at a time, is the request's own when it is admitted."""
    limiter, wanted = counter.limiter, demand(KEY, rpm=1, concurrency=1, tpm=100, tokens=500, period="day")
    place = await counter.take(demand(KEY, rpm=1, concurrency=1), tokens=0)
    assert isinstance(await counter.refused(wanted), RateLimited)
    held = await limiter.reserve("body", wanted, tokens=30, cost=0.0, now=NOON + 1, place=place)
    assert dict(held.headers())["x-ratelimit-remaining-requests"] == "0"
    (at,) = await limiter.standing(wanted, NOON + 1)
    assert (at.running, at.minute_requests, at.minute_tokens) == (1, 1, 30)
    assert (at.requests, at.tokens_reserved) == (1, 30)
    assert dict(held.headers())["x-ratelimit-reset-requests"] == "1m0s"  # its own, not that of the place
    limiter.settle(place, tokens=0, cost=0.0, now=NOON + 1)  # it has gone, and ends nothing
    (at,) = await limiter.standing(wanted, NOON + 1)
    assert (at.running, at.minute_requests) == (1, 1)
    limiter.settle(held, tokens=7, cost=0.0, now=NOON + 1)
    (at,) = await limiter.standing(wanted, NOON + 1)
    assert (at.running, at.minute_requests, at.minute_tokens, at.requests, at.tokens) == (0, 1, 7, 1, 7)


async def test_no_upstream_answered_after_an_exchange(counter: Counter) -> None:
    """A cancelled request gives back what its place had become."""
    limiter, wanted = counter.limiter, demand(KEY, rpm=1, concurrency=1)
    place = await counter.take(wanted, tokens=0)
    held = await limiter.reserve("body", wanted, tokens=30, cost=0.0, now=NOON, place=place)
    limiter.cancel(held, now=NOON)
    assert await counter.refused(wanted) is None


async def test_a_body_that_is_refused_stays_counted_in_its_minute(counter: Counter) -> None:
    """A settled place frees `concurrency`, not `rpm`."""
    wanted = demand(KEY, rpm=2, concurrency=1)
    counter.limiter.settle(await counter.take(wanted, tokens=0), tokens=0, cost=0.0, now=NOON)
    await counter.use(wanted)
    assert isinstance(await counter.refused(wanted), RateLimited)
    assert await counter.refused(demand(KEY, concurrency=1)) is None


async def test_other_limits_still_refuse_who_has_a_place(counter: Counter) -> None:
    """The refusal names what is full, not the place that the request itself has; and the place stays."""
    limiter = counter.limiter
    place = await counter.take(demand(KEY, rpm=1, concurrency=1), tokens=0)
    await counter.use(demand(tpm=10), tokens=10)
    wanted = (*demand(tpm=10), *demand(KEY, rpm=1, concurrency=1))
    with pytest.raises(RateLimited, match="10 tokens per minute"):
        await limiter.reserve("body", wanted, tokens=1, cost=0.0, now=NOON, place=place)
    spent = (*demand(KEY, rpm=1, concurrency=1, tokens=0),)
    with pytest.raises(QuotaUsedUp):
        await limiter.reserve("body", spent, tokens=1, cost=0.0, now=NOON, place=place)
    (at,) = await limiter.standing(demand(KEY, rpm=1), NOON)
    assert (at.running, at.minute_requests) == (1, 1)


async def test_a_place_whose_minute_is_over_is_not_asked_for_again(counter: Counter) -> None:
    """An upload of more than a minute is admitted by the place it took when it began."""
    wanted = demand(KEY, rpm=1, concurrency=2)
    place = await counter.take(wanted, tokens=0)
    await counter.take(wanted, now=NOON + 61)
    await counter.limiter.reserve("body", wanted, tokens=1, cost=0.0, now=NOON + 62, place=place)
    (at,) = await counter.limiter.standing(wanted, NOON + 62)
    assert at.running == 2


async def test_a_place_outlives_the_redis_that_gave_it(redis_server: RedisServer, start: Start) -> None:
    """Taken with Redis and exchanged alone, or taken alone and exchanged with Redis: nothing runs in the end."""
    limiter, wanted = await start(), demand(KEY, rpm=5, concurrency=1)

    async def exchange(place_id: str, request_id: str, *, break_between: bool) -> None:
        place = await limiter.reserve(place_id, wanted, tokens=0, cost=0.0, now=time.time())
        if break_between:
            redis_server.kill()
        else:
            redis_server.start()
            await healed(limiter)
        held = await limiter.reserve(request_id, wanted, tokens=3, cost=0.0, now=time.time(), place=place)
        limiter.settle(held, tokens=3, cost=0.0, now=time.time())

    await exchange("one.head", "one", break_between=True)
    assert limiter.is_degraded
    await exchange("two.head", "two", break_between=False)
    assert await running(limiter, wanted) == 0


async def test_a_request_counts_in_its_minute_when_its_place_has_become_its_own(counter: Counter) -> None:
    """Where nothing but `rpm` is limited as well: two uploads in a minute of two, and no third."""
    wanted = demand(KEY, rpm=2)
    for number in range(2):
        place = await counter.take(wanted, tokens=0)
        held = await counter.limiter.reserve(f"body {number}", wanted, tokens=1, cost=0.0, now=NOON, place=place)
        counter.limiter.settle(held, tokens=1, cost=0.0, now=NOON)
    with pytest.raises(RateLimited):
        await counter.take(wanted, tokens=0)


def test_what_was_cancelled_is_not_carried_along() -> None:
    """However many overlap: a minute has as much in memory as counts in it, and a bounded rest."""
    scope = Scope()
    oldest = Admitted(NOON, 1)
    for admitted in [oldest, *(Admitted(NOON + 1, 1) for _ in range(20_000)), newest := Admitted(NOON + 2, 1)]:
        scope.window.append(admitted)
        scope.window_requests += 1
        scope.window_tokens += 1
    for admitted in [each for each in scope.window if each not in (oldest, newest)]:
        scope.leave(admitted)
    assert (scope.window_requests, scope.window_tokens) == (2, 2)
    assert len(scope.window) < 2_000
