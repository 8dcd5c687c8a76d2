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
from limits_kit import NOON, RedisServer, link

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Demand, Limiter, MemoryLimiter, Reservation, Standing, Used, bounds
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


class Held(NamedTuple):
    """What one running request has reserved of one demand; equal to what was used once it is settled."""

    minute_tokens: int
    tokens: int
    cost: float


class Event(NamedTuple):
    """An admission as the model remembers it. `state`: running, settled."""

    time: float
    demands: tuple[Demand, ...]
    held: dict[Demand, Held]
    state: str


class Model:
    """Everything admitted, by request id; whether there is room is found by adding up."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}

    def admits(self, demands: tuple[Demand, ...], now: float) -> bool:
        return all(
            limit is None or count < limit for demand in demands for limit, count in self._counts(demand, now).values()
        )

    def take(self, request_id: str, demands: tuple[Demand, ...], tokens: int, cost: float, now: float) -> None:
        """Reserves what is asked for, as far as it is left."""
        held = {}
        for demand in demands:
            counts = self._counts(demand, now)
            left = {name: None if limit is None else limit - count for name, (limit, count) in counts.items()}
            of_minute, of_tokens, of_cost = left["tpm"], left["tokens"], left["cost"]
            held[demand] = Held(
                tokens if of_minute is None else min(tokens, of_minute),
                tokens if of_tokens is None else min(tokens, of_tokens),
                cost if of_cost is None else min(cost, of_cost),
            )
        self.events[request_id] = Event(now, demands, held, "running")

    def settle(self, request_id: str, tokens: int, cost: float) -> None:
        event = self.events[request_id]
        held = dict.fromkeys(event.demands, Held(tokens, tokens, cost))
        self.events[request_id] = event._replace(held=held, state="settled")

    def is_used_up(self, demands: tuple[Demand, ...], now: float) -> bool:
        """Whether settled requests alone have reached a total."""
        return any(
            limit is not None and count >= limit
            for demand in demands
            for name, (limit, count) in self._counts(demand, now, only_settled=True).items()
            if name in ("requests", "tokens", "cost")
        )

    def _counts(
        self, demand: Demand, now: float, *, only_settled: bool = False
    ) -> dict[str, tuple[float | None, float]]:
        limits = demand.limits
        of_scope = [
            each
            for each in self.events.values()
            if demand in each.demands and not (only_settled and each.state == "running")
        ]
        minute = [each for each in of_scope if now - each.time < 60]
        start, end = bounds(limits.period, now)
        period = [each for each in of_scope if start <= each.time < end]
        return {
            "rpm": (limits.rpm, len(minute)),
            "tpm": (limits.tpm, sum(each.held[demand].minute_tokens for each in minute)),
            "concurrency": (limits.concurrency, sum(each.state == "running" for each in of_scope)),
            "requests": (limits.requests, len(period)),
            "tokens": (limits.tokens, sum(each.held[demand].tokens for each in period)),
            "cost": (limits.cost, round(sum(each.held[demand].cost for each in period), 6)),
        }

    def settled_since(self, scope: str, since: float) -> Used:
        """What a ledger would tell."""
        ended = [
            each
            for each in self.events.values()
            if each.state == "settled" and each.time >= since and scope in [demand.scope for demand in each.demands]
        ]
        used = [next(iter(each.held.values())) for each in ended]
        return Used(len(used), sum(each.tokens for each in used), sum(each.cost for each in used))


class Both:
    """The two limiters side by side, asked the same; they must say the same."""

    def __init__(self, redis_server: RedisServer, model: Model) -> None:
        self._runner = asyncio.Runner()

        async def rebuild(scope: str, since: float) -> Used:
            return model.settled_since(scope, since)

        redis = RedisLimiter(link(redis_server.url), rebuild, prefix=f"{uuid.uuid4().hex}:", log=print, clock="caller")
        self._redis = redis
        self._limiters: tuple[Limiter, Limiter] = (MemoryLimiter(rebuild), redis)
        self._run(redis.start())

    def reserve(self, request_id: str, demands: tuple[Demand, ...], tokens: int, cost: float, now: float) -> list[Any]:
        async def ask(limiter: Limiter) -> Reservation | str:
            try:
                return await limiter.reserve(request_id, demands, tokens=tokens, cost=cost, now=now)
            except (RateLimited, QuotaUsedUp) as refusal:
                waits.append(dict(refusal.headers).get("retry-after"))
                return f"{refusal.code} {refusal.message} {refusal.headers}"

        waits = list[str | None]()
        memory, redis = [self._run(ask(limiter)) for limiter in self._limiters]
        assert all(seconds is None or 1 <= int(seconds) <= 60 for seconds in waits)
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
            self.model.take(request_id, demands, tokens, cost, self.now)
        else:
            assert held[0].startswith("insufficient_quota") == self.model.is_used_up(demands, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), tokens=TOKENS, cost=COSTS, twice=st.booleans())
    def settle(self, data: st.DataObject, tokens: int, cost: float, twice: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(request_id)
        for _ in range(1 + twice):
            self.both.settle(held, tokens, cost, self.now)
        self.model.settle(request_id, tokens, cost)

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
                    used = dict.fromkeys(demands, Held(tokens + 1, tokens + 1, 0.1))
                    model.events[f"r{number}"] = Event(now, demands, used, "settled")
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


async def _nothing(scope: str, since: float) -> Used:
    return Used()
