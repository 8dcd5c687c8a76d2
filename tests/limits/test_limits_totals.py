"""What every limiter promises of totals from the ledger, of headers, and of requests that count for several."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from limits_kit import NOON, Counter, Ledger, demand

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Demand, Limiter, MemoryLimiter, Reservation, Used
from gateway.types import Limits


def header(found: list[tuple[str, str]] | tuple[tuple[str, str], ...], name: str) -> str | None:
    return dict(found).get(name)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class LedgerAway(Exception):
    """Stands for whatever the ledger raises when it cannot tell."""


# -- totals from the ledger


async def test_totals_are_loaded_once_for_all_who_wait(counter: Counter, ledger: Ledger) -> None:
    """50 requests for a scope that nobody has asked for: one question to the ledger, and its answer counts."""
    limits = demand(requests=100, period="day")
    ledger.known[limits[0].scope] = Used(requests=98)
    outcomes = await asyncio.gather(*[counter.take(limits) for _ in range(50)], return_exceptions=True)
    assert sum(isinstance(each, RateLimited) for each in outcomes) == 48
    assert ledger.asked == [(limits[0].scope, at("2026-10-17 00:00:00"))]


async def test_no_totals_no_question(counter: Counter, ledger: Ledger) -> None:
    """Limits without totals never ask the ledger."""
    await counter.take(demand(rpm=5, tpm=100, concurrency=5))
    assert ledger.asked == []


async def test_a_period_that_follows_a_counted_one_starts_from_nothing(counter: Counter, ledger: Ledger) -> None:
    """The ledger is not asked each minute; after a gap it is, since others may have counted."""
    limits = demand(requests=5, period="minute")
    await counter.take(limits, now=NOON)
    await counter.take(limits, now=NOON + 60)
    assert len(ledger.asked) == 1
    await counter.take(limits, now=NOON + 240)
    assert ledger.asked[1:] == [(limits[0].scope, NOON + 240)]


async def test_an_error_of_the_ledger_reaches_the_caller(counter: Counter, ledger: Ledger) -> None:
    """While it cannot tell, nobody is admitted; as soon as it can, everything goes on."""
    limits = demand(requests=5)
    ledger.error = LedgerAway()
    outcomes = await asyncio.gather(*[counter.take(limits) for _ in range(3)], return_exceptions=True)
    assert [type(each) for each in outcomes] == [LedgerAway] * 3
    ledger.error = None
    assert await counter.used_up_by(limits) == 5


async def test_a_slow_answer_does_not_undo_the_period_that_began_meanwhile() -> None:
    """The ledger may take half a minute: what it tells of the minute before comes when the next one counts already."""
    slow, asked = asyncio.Event(), asyncio.Event()

    async def rebuild(_: str, since: float) -> Used:
        if since < NOON:
            asked.set()
            await slow.wait()
        return Used()

    limiter, limits = MemoryLimiter(rebuild), demand(requests=2, period="minute")
    late = asyncio.create_task(limiter.reserve("late", limits, tokens=0, cost=0, now=NOON - 1))
    await asked.wait()
    for name in ("one", "two"):
        await limiter.reserve(name, limits, tokens=0, cost=0, now=NOON + 1)
    slow.set()
    await asyncio.gather(late, return_exceptions=True)
    with pytest.raises(RateLimited):
        await limiter.reserve("three", limits, tokens=0, cost=0, now=NOON + 2)


async def test_a_client_that_leaves_takes_no_load_from_the_others(counter: Counter, ledger: Ledger) -> None:
    """The first who asks has the ledger asked; that it goes away is no reason to ask again."""
    limits = demand(requests=5)
    ledger.gate = asyncio.Event()
    first, second = asyncio.create_task(counter.take(limits)), asyncio.create_task(counter.take(limits))
    await ledger.was_asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    ledger.gate.set()
    await second
    assert len(ledger.asked) == 1
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.requests, standing.running) == (1, 1)


async def test_used_tells_of_scopes_that_are_not_counted(limiter: Limiter, ledger: Ledger) -> None:
    """Where no total is limited there is no counter: what was used comes from the ledger."""
    ledger.known["user:1:model:1"] = Used(7, 800, 0.25)
    assert await limiter.used("user:1:model:1", Limits(rpm=5, period="day"), NOON) == Used(7, 800, 0.25)
    assert ledger.asked == [("user:1:model:1", at("2026-10-17 00:00:00"))]


# -- what callers are told


async def test_headers_tell_of_the_tightest(counter: Counter) -> None:
    """Fewest left wins, over all demands; resets are told as OpenAI does."""
    both = (
        Demand("user:1:model:1", Limits(rpm=10, tokens=1000, period="day")),
        Demand("key:laptop", Limits(requests=5, tpm=900, period="hour")),
    )
    held = await counter.take(both, tokens=100, now=at("2026-10-17 12:58:30"))
    assert held.headers() == [
        ("x-ratelimit-limit-requests", "5"),
        ("x-ratelimit-remaining-requests", "4"),
        ("x-ratelimit-reset-requests", "1m30s"),
        ("x-ratelimit-limit-tokens", "900"),
        ("x-ratelimit-remaining-tokens", "800"),
        ("x-ratelimit-reset-tokens", "1m0s"),
    ]


async def test_a_cancelled_request_resets_nothing(counter: Counter) -> None:
    """The minute's reset is that of the oldest request that counts."""
    limits = demand(rpm=5)
    cancelled = await counter.take(limits, now=NOON)
    await counter.take(limits, now=NOON + 20)
    counter.limiter.cancel(cancelled, now=NOON + 25)
    held = await counter.take(limits, now=NOON + 30)
    assert header(held.headers(), "x-ratelimit-reset-requests") == "50s"


async def test_headers_are_there_only_where_a_limit_applies(counter: Counter) -> None:
    """No limit on tokens, no header of them; concurrency has none."""
    assert [name for name, _ in (await counter.take(demand(rpm=5))).headers()] == [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ]
    assert (await counter.take(demand(concurrency=5, cost=1.0))).headers() == []


# -- requests that count for several, and go on without their worker


async def test_a_batch_counts_for_all_of_its_lines(counter: Counter) -> None:
    limits, reserve = demand(requests=10), counter.limiter.reserve
    await reserve("few", limits, tokens=1, cost=0.0, now=NOON, requests=7)
    with pytest.raises(RateLimited):
        await reserve("many", limits, tokens=1, cost=0.0, now=NOON, requests=4)
    rest = await reserve("rest", limits, tokens=1, cost=0.0, now=NOON, requests=3)
    assert isinstance(await counter.refused(limits), RateLimited)
    counter.limiter.cancel(rest, now=NOON)
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.requests, standing.requests_reserved) == (7, 7)
    with pytest.raises(QuotaUsedUp):  # it would not fit either if nothing were running
        await reserve("more", limits, tokens=1, cost=0.0, now=NOON, requests=11)


async def test_what_is_detached_has_no_place_among_the_running(counter: Counter) -> None:
    limits = demand(requests=10, tokens=1000, concurrency=1)
    limiter = counter.limiter
    held = await limiter.reserve("work", limits, tokens=400, cost=0.0, now=NOON, requests=4)
    assert await counter.refused(limits) is not None
    limiter.detach(held, now=NOON)
    await limiter.hold(held)  # again and again, to no effect
    await limiter.hold(held)
    (standing,) = await limiter.standing(limits, NOON)
    assert (standing.running, standing.requests, standing.tokens_reserved) == (0, 4, 400)
    assert await counter.refused(limits) is None
    limiter.settle_held(held, tokens=30, cost=0.0, now=NOON)
    (standing,) = await limiter.standing(limits, NOON)
    assert (standing.running, standing.requests, standing.requests_reserved) == (0, 4, 0)
    assert (standing.tokens, standing.tokens_reserved) == (30, 0)


async def test_what_another_process_had_admitted_is_held(counter: Counter) -> None:
    """In the period that it was admitted in, and in no later one."""
    limits, limiter = demand(requests=10, tokens=1000), counter.limiter
    (before,) = await limiter.standing(limits, NOON)
    await limiter.hold(Reservation("work", limits, 400, 0.0, [before], NOON, 4))
    (standing,) = await limiter.standing(limits, NOON)
    assert (standing.requests, standing.requests_reserved, standing.tokens_reserved) == (4, 4, 400)
    earlier = msgspec.structs.replace(before, period_start=before.period_start - 86_400)
    await limiter.hold(Reservation("older", limits, 400, 0.0, [earlier], NOON, 4))
    (standing,) = await limiter.standing(limits, NOON)
    assert (standing.requests, standing.tokens_reserved) == (4, 400)
