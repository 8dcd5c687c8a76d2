"""What every limiter promises: the same tests over each implementation."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest
from limits_kit import NOON, Counter, demand

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Limiter, Used


def header(found: list[tuple[str, str]] | tuple[tuple[str, str], ...], name: str) -> str | None:
    return dict(found).get(name)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class LedgerAway(Exception):
    """Stands for whatever the ledger raises when it cannot tell."""


# -- counts


async def test_rpm_admits_its_number_in_any_60_seconds(counter: Counter) -> None:
    """The 60 s slide with each admission, to the very second; refusals take no place."""
    limits = demand(rpm=3)
    for second in (0, 10, 20):
        await counter.take(limits, now=NOON + second)
    assert isinstance(await counter.refused(limits, now=NOON + 59.75), RateLimited)
    await counter.take(limits, now=NOON + 60)
    assert isinstance(await counter.refused(limits, now=NOON + 69.75), RateLimited)
    await counter.take(limits, now=NOON + 70)
    assert isinstance(await counter.refused(limits, now=NOON + 70), RateLimited)


async def test_a_full_minute_says_when_to_come_back(counter: Counter) -> None:
    """`retry-after` is the time until the oldest request is a minute old, rounded up."""
    limits = demand(rpm=2)
    await counter.take(limits, now=NOON)
    await counter.take(limits, now=NOON + 20)
    refusal = await counter.refused(limits, now=NOON + 30.5)
    assert isinstance(refusal, RateLimited)
    assert (refusal.status, refusal.type, refusal.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert header(refusal.headers, "retry-after") == "30"
    assert header(refusal.headers, "x-ratelimit-remaining-requests") == "0"
    assert await counter.refused(limits, now=NOON + 60.5) is None


async def test_retry_after_waits_for_all_that_must_leave(counter: Counter) -> None:
    """Where a limit was lowered, more than the oldest has to leave before there is room."""
    for second in (0, 10, 20, 30):
        await counter.take(demand(rpm=10), now=NOON + second)
    refusal = await counter.refused(demand(rpm=2), now=NOON + 30)
    assert refusal is not None
    assert header(refusal.headers, "retry-after") == "50"


async def test_requests_of_64_at_once_are_never_more_than_the_limit(counter: Counter) -> None:
    """`requests: 100` and 64 parallel clients: exactly 100 pass."""
    limits, passed = demand(requests=100, period="day"), 0

    async def client() -> None:
        nonlocal passed
        for _ in range(5):
            try:
                held = await counter.take(limits)
            except (RateLimited, QuotaUsedUp):
                continue
            passed += 1
            counter.limiter.settle(held, tokens=3, cost=0.0, now=NOON)

    await asyncio.gather(*[client() for _ in range(64)])
    assert passed == 100
    assert await counter.limiter.used(limits[0].scope, limits[0].limits, NOON) == Used(100, 300, 0.0)


@pytest.mark.parametrize("seed", range(5))
async def test_counts_hold_however_requests_end(counter: Counter, seed: int) -> None:
    """64 clients whose requests are answered, fail or are left in any order: no count is ever overrun."""
    dice = random.Random(seed)
    limits = demand(concurrency=7, requests=150, rpm=170, tokens=100_000, period="day")
    running: set[str] = set()
    kept = 0  # settled: what counts for good

    async def client() -> None:
        nonlocal kept
        for _ in range(8):
            try:
                held = await counter.take(limits, tokens=dice.randint(1, 200))
            except (RateLimited, QuotaUsedUp):
                continue
            running.add(held.request_id)
            assert len(running) <= 7
            assert kept + len(running) <= 150
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(0)
            running.remove(held.request_id)
            if dice.random() < 0.3:
                counter.limiter.cancel(held, now=NOON)
            else:
                kept += 1
                counter.limiter.settle(held, tokens=dice.randint(0, 300), cost=0.0, now=NOON)

    await asyncio.gather(*[client() for _ in range(64)])
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.running, standing.requests, standing.requests_reserved) == (0, kept, 0)
    assert (standing.minute_requests, standing.tokens_reserved) == (kept, 0)


async def test_concurrency_counts_what_is_running(counter: Counter) -> None:
    """A place is free again with the settling or cancelling of a request, not with time."""
    limits = demand(concurrency=2)
    first, second = await counter.take(limits), await counter.take(limits)
    refusal = await counter.refused(limits, now=NOON + 3600)
    assert isinstance(refusal, RateLimited)
    assert header(refusal.headers, "retry-after") == "1"
    counter.limiter.settle(first, tokens=1, cost=0.0, now=NOON)
    third = await counter.take(limits)
    assert await counter.refused(limits) is not None
    counter.limiter.cancel(second, now=NOON)
    assert await counter.refused(limits) is None
    counter.limiter.settle(third, tokens=1, cost=0.0, now=NOON)


@pytest.mark.parametrize("name", ["rpm", "tpm", "concurrency"])
async def test_a_limit_of_nothing_refuses_everything(counter: Counter, name: str) -> None:
    """0 is a limit, not the absence of one."""
    refusal = await counter.refused(demand(**{name: 0}))
    assert isinstance(refusal, RateLimited)
    assert 1 <= int(header(refusal.headers, "retry-after") or 0) <= 60


@pytest.mark.parametrize("name", ["requests", "tokens", "cost"])
async def test_a_total_of_nothing_refuses_everything(counter: Counter, name: str) -> None:
    """0 is a limit for totals too."""
    assert isinstance(await counter.refused(demand(**{name: 0})), QuotaUsedUp)


# -- tokens and cost


async def test_tpm_counts_reservations_and_then_what_was_used(counter: Counter) -> None:
    """A running request holds what it reserved; once settled, what it used, for the rest of its minute."""
    limits = demand(tpm=100)
    held = await counter.take(limits, tokens=100)
    assert isinstance(await counter.refused(limits), RateLimited)
    counter.limiter.settle(held, tokens=40, cost=0.0, now=NOON + 5)
    await counter.take(limits, tokens=59, now=NOON + 10)
    await counter.take(limits, tokens=1, now=NOON + 10)
    refusal = await counter.refused(limits, now=NOON + 20)
    assert refusal is not None
    assert header(refusal.headers, "retry-after") == "40"
    assert isinstance(await counter.refused(limits, now=NOON + 59.75), RateLimited)
    assert await counter.refused(limits, now=NOON + 60) is None


async def test_a_request_larger_than_the_limit_is_admitted_where_anything_is_left(counter: Counter) -> None:
    """A request's own reservation need not fit: none is too large for ever, and a quota can be used to its end."""
    await counter.take(demand(tpm=10, tokens=10), tokens=5000)
    assert isinstance(await counter.refused(demand(tpm=10)), RateLimited)
    assert isinstance(await counter.refused(demand(tokens=10)), RateLimited)


async def test_tokens_are_overrun_by_the_last_admitted_request_only(counter: Counter) -> None:
    """64 at once against a total of tokens: all but the last fit as a whole."""
    limits = demand(tokens=105, period="hour")
    outcomes = await asyncio.gather(*[counter.take(limits, tokens=10) for _ in range(64)], return_exceptions=True)
    admitted = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(admitted) == 11
    assert all(isinstance(each, RateLimited) for each in outcomes if isinstance(each, BaseException))
    for held in admitted:
        counter.limiter.settle(held, tokens=10, cost=0.0, now=NOON)
    assert isinstance(await counter.refused(limits), QuotaUsedUp)
    assert (await counter.limiter.used(limits[0].scope, limits[0].limits, NOON)).tokens == 110


async def test_what_was_reserved_but_not_used_comes_back(counter: Counter) -> None:
    """Settling replaces the reservation, in tokens and in cost."""
    limits = demand(tokens=100, cost=1.0)
    held = await counter.take(limits, tokens=100, cost=1.0)
    assert isinstance(await counter.refused(limits), RateLimited)
    counter.limiter.settle(held, tokens=99, cost=0.999999, now=NOON)
    assert await counter.refused(limits) is None
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.tokens, standing.tokens_reserved, standing.cost_reserved_nano) == (99, 0, 0)
    assert standing.used == Used(1, 99, 0.999999)


async def test_cost_sums_exactly(counter: Counter) -> None:
    """Ten times a tenth is one: no rounding lets an eleventh request pass or refuses the tenth."""
    limits = demand(cost=1.0)
    for _ in range(10):
        held = await counter.take(limits, cost=0.1)
        counter.limiter.settle(held, tokens=1, cost=0.1, now=NOON)
    assert isinstance(await counter.refused(limits), QuotaUsedUp)


# -- one step, once


async def test_all_demands_admit_or_nothing_changes(counter: Counter) -> None:
    """A refusal by the second demand leaves nothing in the first."""
    open_, full = demand("user:1:model:1", rpm=5, tokens=100, concurrency=5), demand("key:k", concurrency=1)
    await counter.take(full)
    assert isinstance(await counter.refused((*open_, *full), tokens=50), RateLimited)
    (standing,) = await counter.limiter.standing(open_, NOON)
    assert (standing.minute_requests, standing.running, standing.requests, standing.tokens_reserved) == (0, 0, 0, 0)


async def test_a_used_up_total_is_told_before_a_full_minute(counter: Counter) -> None:
    """Where waiting a minute would not help, nobody is told to."""
    await counter.use(demand(rpm=1, requests=1))
    assert isinstance(await counter.refused(demand(rpm=1, requests=1)), QuotaUsedUp)


async def test_a_used_up_total_says_when_it_resets(counter: Counter) -> None:
    """The message has the period's end, in UTC, and clients are told not to retry."""
    limits = demand(requests=1, period="day")
    await counter.use(limits, now=at("2026-10-17 13:14:15"))
    refusal = await counter.refused(limits, now=at("2026-10-17 13:14:16"))
    assert isinstance(refusal, QuotaUsedUp)
    assert (refusal.status, refusal.type, refusal.code) == (429, "insufficient_quota", "insufficient_quota")
    assert "2026-10-18 00:00:00 UTC" in refusal.message
    assert header(refusal.headers, "x-should-retry") == "false"
    assert header(refusal.headers, "retry-after") is None


@pytest.mark.parametrize("limit", [{"requests": 2}, {"tokens": 20}, {"cost": 0.2}])
async def test_a_total_that_is_only_reserved_is_not_used_up(counter: Counter, limit: dict[str, float]) -> None:
    """What running requests hold may come back: come again soon. What is settled stays until the period ends."""
    limits = demand(**limit)
    running = [await counter.take(limits, tokens=10, cost=0.1) for _ in range(2)]
    refusal = await counter.refused(limits)
    assert isinstance(refusal, RateLimited)
    assert 1 <= int(header(refusal.headers, "retry-after") or 0) <= 60
    assert header(refusal.headers, "x-should-retry") is None
    counter.limiter.settle(running[0], tokens=10, cost=0.1, now=NOON)
    assert isinstance(await counter.refused(limits), RateLimited)
    counter.limiter.settle(running[1], tokens=10, cost=0.1, now=NOON)
    assert isinstance(await counter.refused(limits), QuotaUsedUp)


async def test_a_reservation_is_at_most_what_is_left(counter: Counter) -> None:
    """One enormous request holds what was free, and nothing of what others give back while it runs."""
    limits = demand(tokens=1000, tpm=1000, cost=1.0)
    other = await counter.take(limits, tokens=400, cost=0.4)
    enormous = await counter.take(limits, tokens=1_000_000, cost=1000.0)
    (standing,) = enormous.standings
    assert (standing.tokens_reserved, standing.minute_tokens, standing.cost_reserved_nano) == (1000, 1000, 10**9)
    assert isinstance(await counter.refused(limits), RateLimited)
    counter.limiter.settle(other, tokens=1, cost=0.001, now=NOON)
    assert await counter.refused(limits) is None
    counter.limiter.settle(enormous, tokens=5000, cost=5.0, now=NOON)
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.tokens, standing.tokens_reserved, standing.cost_reserved_nano) == (5001, 0, 0)
    assert isinstance(await counter.refused(limits), QuotaUsedUp)


async def test_each_limit_holds_what_is_left_of_its_own(counter: Counter) -> None:
    """A key with little left takes no less from its organisation for it."""
    narrow, wide = demand("key:k", tokens=10)[0], demand("organisation:1:model:1", tokens=1000)[0]
    held = await counter.take((wide, narrow), tokens=500)
    assert [each.tokens_reserved for each in held.standings] == [500, 10]
    counter.limiter.cancel(held, now=NOON)
    standings = await counter.limiter.standing((wide, narrow), NOON)
    assert [each.tokens_reserved for each in standings] == [0, 0]


async def test_cancel_gives_all_of_it_back(counter: Counter) -> None:
    """A request that no upstream answered leaves no trace: not even its place in the minute."""
    limits = demand(rpm=1, tpm=10, concurrency=1, requests=1, tokens=10, cost=1.0)
    for _ in range(3):
        held = await counter.take(limits, tokens=10, cost=1.0)
        counter.limiter.cancel(held, now=NOON)
    (standing,) = await counter.limiter.standing(limits, NOON)
    assert (standing.minute_requests, standing.minute_tokens, standing.running) == (0, 0, 0)
    assert standing.used == Used()


@pytest.mark.parametrize("first", ["settle", "cancel"])
@pytest.mark.parametrize("then", ["settle", "cancel"])
async def test_only_the_first_end_counts(counter: Counter, first: str, then: str) -> None:
    """Settle and cancel are idempotent by request id, each after itself and after the other."""
    limits = demand(rpm=10, tpm=1000, concurrency=10, requests=10, tokens=1000)
    limiter, held = counter.limiter, await counter.take(limits, tokens=100)

    def end(kind: str) -> None:
        if kind == "settle":
            limiter.settle(held, tokens=70, cost=0.0, now=NOON)
        else:
            limiter.cancel(held, now=NOON)

    end(first)
    once = await limiter.standing(limits, NOON)
    end(then)
    assert await limiter.standing(limits, NOON) == once
    assert once[0].used == (Used(1, 70) if first == "settle" else Used())


async def test_a_request_is_reserved_once(limiter: Limiter) -> None:
    """The same request id again, after a lost answer, say, takes nothing more."""
    limits = demand(rpm=5, requests=5, concurrency=5)
    for _ in range(3):
        held = await limiter.reserve("same", limits, tokens=1, cost=0.0, now=NOON)
    (standing,) = await limiter.standing(limits, NOON)
    assert (standing.minute_requests, standing.requests, standing.running) == (1, 1, 1)
    limiter.settle(held, tokens=1, cost=0.0, now=NOON)


# -- the calendar


@pytest.mark.parametrize(
    ("period", "last", "first"),
    [
        ("minute", "2026-10-17 12:00:59.75", "2026-10-17 12:01:00"),
        ("hour", "2026-10-17 12:59:59.75", "2026-10-17 13:00:00"),
        ("day", "2026-10-17 23:59:59.75", "2026-10-18 00:00:00"),
        ("month", "2026-01-31 23:59:59.75", "2026-02-01 00:00:00"),
        ("month", "2028-02-29 23:59:59.75", "2028-03-01 00:00:00"),
        ("month", "2026-12-31 23:59:59.75", "2027-01-01 00:00:00"),
        ("day", "2028-02-28 23:59:59.75", "2028-02-29 00:00:00"),
    ],
)
async def test_totals_reset_at_the_very_edge(counter: Counter, period: str, last: str, first: str) -> None:
    """Until the last moment of a period nothing is free; from the first of the next on, all is."""
    limits = demand(requests=2, period=period)
    assert await counter.used_up_by(limits, now=at(last) - 0.25) == 2
    assert isinstance(await counter.refused(limits, now=at(last)), RateLimited)
    assert await counter.used_up_by(limits, now=at(first)) == 2


async def test_february_has_29_days_in_leap_years_only(counter: Counter) -> None:
    """The month does not end on the 28th of a leap year, and does in other years."""
    limits = demand(requests=1, period="month")
    await counter.take(limits, now=at("2028-02-28 12:00:00"))
    assert await counter.refused(limits, now=at("2028-02-29 12:00:00")) is not None
    assert await counter.refused(limits, now=at("2028-03-01 00:00:00")) is None
    await counter.take(limits, now=at("2027-02-28 23:59:59"))
    assert await counter.refused(limits, now=at("2027-03-01 00:00:00")) is None


async def test_a_request_belongs_to_the_period_of_its_admission(counter: Counter) -> None:
    """One that runs over the edge neither holds nor uses anything of the next period."""
    limits = demand(tokens=100, period="day")
    held = await counter.take(limits, tokens=100, now=at("2026-10-17 23:59:50"))
    assert await counter.refused(limits, now=at("2026-10-18 00:00:10")) is None
    counter.limiter.settle(held, tokens=500, cost=0.0, now=at("2026-10-18 00:00:20"))
    assert await counter.limiter.used(limits[0].scope, limits[0].limits, at("2026-10-18 00:00:30")) == Used()


async def test_a_clock_that_steps_back_over_an_edge_frees_nothing(counter: Counter) -> None:
    """Seconds before midnight for the second time: the new day, once begun, goes on."""
    limits = demand(requests=2, period="day")
    assert await counter.used_up_by(limits, now=at("2026-10-17 23:59:59")) == 2
    assert await counter.used_up_by(limits, now=at("2026-10-18 00:00:01")) == 2
    assert await counter.used_up_by(limits, now=at("2026-10-17 23:59:58")) == 0
    assert await counter.used_up_by(limits, now=at("2026-10-18 00:00:02")) == 0


@pytest.mark.parametrize("step", [0.5, 4, 30, 3600])
async def test_a_clock_that_steps_back_frees_no_minute_and_stops_none(counter: Counter, step: float) -> None:
    """After the step the same requests are still in the window, and 60 s later (and no hour) they have left it."""
    limits = demand(rpm=2)
    await counter.take(limits, now=NOON)
    await counter.take(limits, now=NOON + 5)
    back = NOON + 5 - step
    assert await counter.refused(limits, now=back) is not None
    assert await counter.refused(limits, now=back + 54.75) is not None
    assert await counter.refused(limits, now=back + 65) is None
