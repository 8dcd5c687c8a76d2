"""The smaller parts: scopes, periods, what callers are told, estimates, and how little is kept of idle scopes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import NOON, Counter, Ledger, RedisServer, demand, link

from gateway.limits import MemoryLimiter, Used, bounds, demands, grant_scope, key_of, key_scope
from gateway.limits.redis import RedisLimiter
from gateway.limits.reservation import duration_text
from gateway.redis.timeout import Patience
from gateway.types import Access, ApiKey, Caller, Grant, Id, Limits, Model, Period, User

RPM, TPM = Limits(rpm=1), Limits(tpm=1)


def caller(user: Id = 42, key_limits: Limits | None = None) -> Caller:
    return Caller(User(user, "free"), ApiKey("laptop", user, "0" * 64, limits=key_limits))


def access(source: str, owner: Id | None, limits: Limits | None = None, model: Model | None = None) -> Access:
    grant = None if source == "global" else Grant(7, "1", limits)
    return Access(model or Model(1, "m"), source, owner, grant)  # type: ignore[arg-type]  # written as in YAML


# -- scopes


@pytest.mark.parametrize(
    ("source", "owner", "scope"),
    [
        ("user", 42, "user:42:model:1"),
        ("organisation", 10, "organisation:10:model:1"),
        ("plan", "pro", "user:42:model:1"),
        ("global", None, "user:42:model:1"),
    ],
)
def test_who_is_counted_together(source: str, owner: Id | None, scope: str) -> None:
    """An organisation's grant counts the whole organisation; all others count each user."""
    assert grant_scope(access(source, owner), caller()) == scope


def test_a_grants_limits_come_before_the_models_and_beside_the_keys() -> None:
    """The model's own hold where the winning grant has none; a key's hold besides."""
    model = Model(1, "m", limits=TPM)
    assert [each.limits for each in demands(access("user", 42, RPM, model), caller())] == [RPM]
    assert [each.limits for each in demands(access("user", 42, None, model), caller())] == [TPM]
    both = demands(access("user", 42, RPM, model), caller(key_limits=TPM))
    assert [(each.scope, each.limits) for each in both] == [("user:42:model:1", RPM), ("key:laptop", TPM)]


@pytest.mark.parametrize("limits", [None, Limits(), Limits(period="day")])
def test_no_limits_no_demand(limits: Limits | None) -> None:
    """Limits that limit nothing are none: the limiter is not asked."""
    assert demands(access("user", 42, limits), caller(key_limits=limits)) == ()


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
@settings(max_examples=200, deadline=None)
def test_no_two_counters_share_a_name(user: str, model: str, other_user: str, other_model: str) -> None:
    """Ids may hold colons; that never makes two pairs of ids one."""
    one = grant_scope(access("user", user, model=Model(model, "m")), caller(user))
    two = grant_scope(access("user", other_user, model=Model(other_model, "m")), caller(other_user))
    assert (one == two) == ((user, model) == (other_user, other_model))


@given(st.one_of(st.text(max_size=12), st.sampled_from(["a%3Ab", "a:b", "%", "100%:"])))
@settings(max_examples=200, deadline=None)
def test_a_keys_id_comes_back_from_its_scope(key_id: str) -> None:
    """The ledger is asked by the key's id, which has to be found in the scope's name."""
    assert key_of(key_scope(key_id)) == key_id
    assert key_of("user:1:model:1") is None


# -- periods


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["minute", "hour", "day", "month"]),
)
@settings(max_examples=300, deadline=None)
def test_a_period_holds_its_moment_and_ends_where_the_next_begins(moment: datetime, period: Period) -> None:
    """No gap and no overlap, with edges where the calendar has them."""
    start, end = bounds(period, moment.timestamp())
    assert start <= moment.timestamp() < end
    assert bounds(period, end - 0.001) == (start, end)
    assert bounds(period, end)[0] == end
    first = datetime.fromtimestamp(start, UTC)
    floor = {"second": 0, "microsecond": 0}
    for name, longer in (("minute", ("hour", "day", "month")), ("hour", ("day", "month"))):
        floor |= {name: 0} if period in longer else {}
    assert first == moment.replace(**floor, day=1 if period == "month" else moment.day)


async def test_redis_counts_by_the_same_calendar(shared_redis: RedisServer, prefix: str, ledger: Ledger) -> None:
    """Each month's edges from 1999 to 2101, computed in Lua, are those of Python; leap years and centuries included."""
    limiter = RedisLimiter(link(shared_redis.url), ledger.rebuild, prefix=prefix, log=print, clock="caller")
    await limiter.start()
    moment = datetime(1999, 1, 31, 23, 59, 59, tzinfo=UTC)
    while moment.year < 2102:
        now = moment.timestamp()
        (standing,) = await limiter.standing(demand(moment.isoformat(), requests=1, period="month"), now)
        assert (standing.period_start, standing.period_end) == bounds("month", now)
        moment = (moment + timedelta(days=32)).replace(day=1) + timedelta(days=27 if moment.month % 2 else 0)
    await limiter.close()


# -- what callers are told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.25, "250ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360, "6m0s"),
        (95400, "26h30m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """The forms that clients of OpenAI parse; rounded up."""
    assert duration_text(seconds) == text


# -- memory


async def test_idle_scopes_are_forgotten_and_loaded_again(ledger: Ledger) -> None:
    """Memory follows what is in use; a running request keeps its scope, and totals come back from the ledger."""
    limiter = MemoryLimiter(ledger.rebuild, idle_seconds=100)
    counter = Counter(limiter)
    running = await counter.take(demand("user:running:model:1", requests=5), now=NOON)
    for number in range(500):
        now = NOON + 10 * number
        held = await counter.take(demand(f"user:{number}:model:1", requests=5), now=now)
        limiter.settle(held, tokens=1, cost=0.0, now=now)
    assert repr(limiter) == "<MemoryLimiter: 11 scopes, 1 running>"  # those of the last 100 s, and the one that runs
    ledger.known["user:0:model:1"] = Used(requests=1)
    assert await counter.used_up_by(demand("user:0:model:1", requests=5), now=NOON + 5000) == 4
    limiter.cancel(running, now=NOON + 5000)


async def test_a_request_of_the_last_minute_keeps_little_once_it_has_ended(ledger: Ledger) -> None:
    """A scope of 3,000 requests a second remembers 180,000 of them: numbers and an id, not what they reserved."""
    limiter, wanted, many = MemoryLimiter(ledger.rebuild), demand("user:1:model:1", rpm=10_000, tpm=10**9), 5_000
    tracemalloc.start()
    try:
        for number in range(many):
            held = await limiter.reserve(f"{number:032}", wanted, tokens=30, cost=0.0, now=NOON)
            limiter.settle(held, tokens=20, cost=0.0, now=NOON)
        del held
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / many < 400


def test_redis_is_imported_by_those_who_use_it_only() -> None:
    """An embedded gateway starts without loading redis-py."""
    code = "import sys, gateway.limits; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


# -- patience


async def test_patience_is_not_spent_by_a_loop_that_stands_still() -> None:
    """Ours is the delay, not theirs: an answer that came meanwhile is taken."""
    answer = asyncio.get_running_loop().create_future()
    patience = Patience(0.1)

    async def be_late_and_answer() -> None:
        for _ in range(3):
            time.sleep(0.15)  # noqa: ASYNC251 - the late loop that this is about
            await asyncio.sleep(0)
        answer.set_result("here")

    answering = asyncio.create_task(be_late_and_answer())
    async with patience:
        assert await answer == "here"
    await answering
    assert 0 < patience.left_seconds < 0.1


async def test_patience_comes_to_an_end_over_several_waits() -> None:
    """What one wait has spent is missing for the next; without any left there is no waiting at all."""
    patience = Patience(0.05)
    async with patience:
        await asyncio.sleep(0.02)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with patience:
                await asyncio.get_running_loop().create_future()
        assert patience.left_seconds <= 0
