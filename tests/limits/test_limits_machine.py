"""Both limiters against a model that counts by looking at everything that ever happened."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from limits_kit import NOON, RedisServer

from gateway.limits import (
    Demand,
    Limiter,
    MemoryLimiter,
    QuotaUsedUp,
    RateLimited,
    Reservation,
    Standing,
    Totals,
    bounds,
)
from gateway.limits.redis import RedisLimiter
from gateway.types import Limits

T = TypeVar("T")
USER = Demand("user:1:model:1", Limits(rpm=4, tpm=60, requests=9, tokens=90, period="minute"))
ORGANISATION = Demand("organisation:1:model:1", Limits(concurrency=3, cost=0.5, period="hour"))
KEY = Demand("key:k", Limits(rpm=6, concurrency=4, tokens=200, period="hour"))
DEMANDS = st.sampled_from([(USER,), (ORGANISATION,), (KEY,), (USER, KEY), (ORGANISATION, KEY)])
# Quarters of a second are exact in binary, so that nothing depends on rounding.
STEPS = st.one_of(st.integers(0, 40), st.sampled_from([239, 240, 241, 14400])).map(lambda quarters: quarters / 4)
TOKENS = st.integers(0, 50)
COSTS = st.sampled_from([0.0, 0.1, 0.2])


class Event(NamedTuple):
    """An admission as the model remembers it. `state`: running, settled."""

    time: float
    demands: tuple[Demand, ...]
    tokens: int
    cost: float
    state: str


class Model:
    """Everything admitted, by request id; whether there is room is found by adding up."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}

    def admits(self, demands: tuple[Demand, ...], now: float) -> bool:
        return all(self._has_room(demand, now) for demand in demands)

    def _has_room(self, demand: Demand, now: float) -> bool:
        limits, of_scope = demand.limits, [each for each in self.events.values() if demand in each.demands]
        minute = [each for each in of_scope if now - each.time < 60]
        start, end = bounds(limits.period, now)
        period = [each for each in of_scope if start <= each.time < end]
        used = {
            "rpm": len(minute),
            "tpm": sum(each.tokens for each in minute),
            "concurrency": sum(each.state == "running" for each in of_scope),
            "requests": len(period),
            "tokens": sum(each.tokens for each in period),
            "cost": round(sum(each.cost for each in period), 6),
        }
        return all(getattr(limits, name) is None or count < getattr(limits, name) for name, count in used.items())

    def settled_since(self, scope: str, since: float) -> Totals:
        """What a ledger would tell."""
        ended = [
            each
            for each in self.events.values()
            if each.state == "settled" and each.time >= since and scope in [demand.scope for demand in each.demands]
        ]
        return Totals(len(ended), sum(each.tokens for each in ended), sum(each.cost for each in ended))


class Both:
    """The two limiters side by side, asked the same; they must say the same."""

    def __init__(self, redis_server: RedisServer, model: Model) -> None:
        self._runner = asyncio.Runner()

        async def rebuild(scope: str, since: float) -> Totals:
            return model.settled_since(scope, since)

        redis = RedisLimiter(redis_server.url, rebuild, prefix=f"{uuid.uuid4().hex}:", log=print, clock="caller")
        self._redis = redis
        self._limiters: tuple[Limiter, Limiter] = (MemoryLimiter(rebuild), redis)
        self._run(redis.start())

    def reserve(self, request_id: str, demands: tuple[Demand, ...], tokens: int, cost: float, now: float) -> list[Any]:
        async def ask(limiter: Limiter) -> Reservation | str:
            try:
                return await limiter.reserve(request_id, demands, tokens=tokens, cost=cost, now=now)
            except (RateLimited, QuotaUsedUp) as refusal:
                return f"{refusal.message} {refusal.headers}"

        memory, redis = [self._run(ask(limiter)) for limiter in self._limiters]
        if isinstance(memory, str) or isinstance(redis, str):
            assert memory == redis
        else:
            assert memory.headers() == redis.headers()
        return [memory, redis]

    def settle(self, held: list[Any], tokens: int, cost: float, now: float) -> None:
        for limiter, reservation in zip(self._limiters, held, strict=True):
            self._run(_called(limiter.settle, reservation, tokens=tokens, cost=cost, now=now))

    def cancel(self, held: list[Any], now: float) -> None:
        for limiter, reservation in zip(self._limiters, held, strict=True):
            self._run(_called(limiter.cancel, reservation, now=now))

    def standings(self, now: float) -> None:
        memory, redis = [self._run(limiter.standing((USER, ORGANISATION, KEY), now)) for limiter in self._limiters]
        assert [_comparable(each) for each in memory] == [_comparable(each) for each in redis]

    def close(self) -> None:
        assert not self._redis.is_degraded
        for limiter in self._limiters:
            self._run(limiter.close())
        self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)


async def _called(function: Any, *arguments: Any, **named: Any) -> None:
    """Within the loop, where settle and cancel are called."""
    function(*arguments, **named)


def _comparable(standing: Standing) -> dict[str, Any]:
    """What both must agree on; waits matter after refusals, and there the whole refusal is compared."""
    waits = {"minute_requests", "minute_tokens", "minute_leaves", "rpm_wait", "tpm_wait"}
    return {name: figure for name, figure in msgspec.structs.asdict(standing).items() if name not in waits}


class LimiterMachine(RuleBasedStateMachine):
    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.both = Both(self.server, self.model)
        self.now = NOON
        self.made = 0
        self.held: dict[str, list[Any]] = {}

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(demands=DEMANDS, tokens=TOKENS, cost=COSTS)
    def reserve(self, demands: tuple[Demand, ...], tokens: int, cost: float) -> None:
        self.made += 1
        request_id = f"r{self.made}"
        held = self.both.reserve(request_id, demands, tokens, cost, self.now)
        admitted = isinstance(held[0], Reservation)
        assert admitted == self.model.admits(demands, self.now)
        if admitted:
            self.held[request_id] = held
            self.model.events[request_id] = Event(self.now, demands, tokens, cost, "running")

    @precondition(lambda self: self.held)
    @rule(data=st.data(), tokens=TOKENS, cost=COSTS, twice=st.booleans())
    def settle(self, data: st.DataObject, tokens: int, cost: float, twice: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(request_id)
        for _ in range(1 + twice):
            self.both.settle(held, tokens, cost, self.now)
        event = self.model.events[request_id]
        self.model.events[request_id] = event._replace(tokens=tokens, cost=cost, state="settled")

    @precondition(lambda self: self.held)
    @rule(data=st.data(), twice=st.booleans())
    def cancel(self, data: st.DataObject, twice: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(request_id)
        for _ in range(1 + twice):
            self.both.cancel(held, self.now)
        del self.model.events[request_id]

    @invariant()
    def both_stand_alike(self) -> None:
        self.both.standings(self.now)

    def teardown(self) -> None:
        self.both.close()


@pytest.fixture
def server_of_machine(shared_redis: RedisServer) -> Iterator[None]:
    LimiterMachine.server = shared_redis
    yield
    del LimiterMachine.server


@pytest.mark.usefixtures("server_of_machine")
def test_limiters_do_what_adding_up_would_do() -> None:
    """Whatever is reserved, settled and cancelled in whatever order: both admit what the model admits, and agree."""
    LimiterMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
    LimiterMachine.TestCase().runTest()


@given(
    steps=st.lists(
        st.tuples(st.integers(-400, 400).map(lambda quarters: quarters / 4), DEMANDS, TOKENS, st.integers(0, 3)),
        max_size=25,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_limiters_agree_whatever_the_clock_does(
    shared_redis: RedisServer, steps: list[tuple[float, tuple[Demand, ...], int, int]]
) -> None:
    """The clock jumps both ways: the limiters still answer alike, to the header."""
    model = Model()
    both, now = Both(shared_redis, model), NOON
    try:
        for number, (jump, demands, tokens, then) in enumerate(steps):
            now += jump
            held = both.reserve(f"r{number}", demands, tokens, 0.0, now)
            if isinstance(held[0], Reservation) and then:
                if then == 1:
                    both.cancel(held, now)
                else:
                    both.settle(held, tokens + 1, 0.1, now)
                    model.events[f"r{number}"] = Event(now, demands, tokens + 1, 0.1, "settled")
    finally:
        both.close()


@given(
    steps=st.lists(st.tuples(st.integers(0, 80), st.one_of(st.just(0), st.integers(0, 400))), min_size=10, max_size=60)
)
@settings(max_examples=100, deadline=None)
async def test_steps_back_never_let_more_than_rpm_through(steps: list[tuple[int, int]]) -> None:
    """In true time, any 60 s hold at most `rpm` admissions, however often the clock is set back."""
    limiter, true, behind, admitted = MemoryLimiter(_nothing), NOON, 0.0, list[float]()
    for number, (passed, back) in enumerate(steps):
        true, behind = true + passed / 4, behind + back / 4
        try:
            await limiter.reserve(f"r{number}", (Demand("s", Limits(rpm=3)),), tokens=1, cost=0.0, now=true - behind)
        except RateLimited:
            continue
        admitted.append(true)
        assert sum(true - each < 60 for each in admitted) <= 3


async def _nothing(scope: str, since: float) -> Totals:
    return Totals()
