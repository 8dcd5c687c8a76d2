"""The pool under any sequence of requests, verdicts, news, resets and reloads: what must hold at every step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from gateway.pool import Blocked, Cause, EndpointState, Lease, Pool
from gateway.types import Endpoint, Model

FAILURES = (Cause.BROKEN, Cause.TIMED_OUT)
NAMES = ("a", "b", "c", "d")
Rotations = Literal["round_robin", "weighted", "least_busy"]

endpoints = st.builds(
    Endpoint,
    id=st.just(""),
    url=st.just(""),
    weight=st.integers(1, 3),
    priority=st.integers(0, 1),
    max_in_flight=st.none() | st.integers(1, 3),
)
layouts = st.tuples(
    st.sampled_from(["round_robin", "weighted", "least_busy"]), st.lists(endpoints, min_size=1, max_size=4)
)
waits = st.none() | st.sampled_from([0.0, 0.5, 5.0, 700.0]) | st.floats(0.001, 100)


@dataclass(eq=False)
class Request:
    lease: Lease
    is_undecided: bool = True


class PoolMachine(RuleBasedStateMachine):
    held = Bundle("held")

    @initialize(layout=layouts)
    def begin(self, layout: tuple[Rotations, list[Endpoint]]) -> None:
        self.now = 100.0
        self.births: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.pool = Pool(self.model(layout), Random(3))

    def model(self, layout: tuple[Rotations, list[Endpoint]]) -> Model:
        rotation, rows = layout
        named = (
            msgspec.structs.replace(row, id=name, url=self.url_of(name)) for name, row in zip(NAMES, rows, strict=False)
        )
        return Model(id=1, name="gpt", rotation=rotation, endpoints=tuple(named))

    def url_of(self, name: str) -> str:
        return f"http://{name}{self.births[name]}.test/v1"

    # --- what can be seen from outside

    def rows(self) -> dict[str, EndpointState]:
        return {str(row.id): row for row in self.pool.snapshot(self.now)}

    def ends(self) -> dict[str, float]:
        return {name: self.now + row.seconds_left for name, row in self.rows().items()}

    def on(self, row: EndpointState) -> list[Request]:
        """The requests held on this very endpoint, not on a predecessor at another URL."""
        return [request for request in self.requests if request.lease.endpoint.url == row.url]

    def is_probed(self, row: EndpointState) -> bool:
        return any(
            request.lease.is_probe and request.is_undecided and not request.lease.is_outdated()
            for request in self.on(row)
        )

    def is_free(self, row: EndpointState) -> bool:
        return row.state == "available" or (row.state == "probing" and not self.is_probed(row))

    def limit(self, name: str) -> float:
        row = next(endpoint for endpoint in self.pool.model.endpoints if endpoint.id == name)
        return float("inf") if row.max_in_flight is None else row.max_in_flight

    # --- what happens

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 6.0, 30.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=held, tried=st.sets(st.sampled_from(NAMES), max_size=2))
    def take(self, tried: set[str]) -> object:
        before = self.rows()
        untried = {name: row for name, row in before.items() if name not in tried}
        free = {name: row for name, row in untried.items() if self.is_free(row)}
        blocked = self.pool.blocked(self.now, tried)
        foretold = self.pool.order(self.now)

        lease = self.pool.take(self.now, tried)
        assert Counter(
            "cooling" if row.state == "cooling" else "probed" if self.is_probed(row) else "full"
            for name, row in untried.items()
            if name not in free
        ) == Counter(
            "full" if obstacle.cause is Blocked.FULL else "cooling" if obstacle.until > self.now else "probed"
            for obstacle in blocked
        )
        if lease is None:
            assert not free, "an endpoint that could have been taken was not"
            return multiple()
        name = str(lease.endpoint.id)
        assert name in free, "cooling, full, tried, or beside a probe"
        assert before[name].priority == min(row.priority for row in free.values())
        assert lease.is_probe == (before[name].state == "probing")
        assert self.rows()[name].in_flight == before[name].in_flight + 1 <= self.limit(name)
        if not tried:
            assert foretold[0] == name
        request = Request(lease)
        self.requests.append(request)
        return request

    @rule(request=held)
    def succeed(self, request: Request) -> None:
        before = self.ends()
        is_late = request.lease.is_outdated()
        request.lease.succeeded(self.now)
        request.is_undecided = False
        assert self.ends() == before, "no success shortens a cooldown"
        row = self.rows().get(str(request.lease.endpoint.id))
        if row is not None and row.url == request.lease.endpoint.url:
            assert row.failures == 0
            assert is_late or row.state != "probing"

    @rule(request=held, cause=st.sampled_from(list(Cause)), wait=waits)
    def fail(self, request: Request, cause: Cause, wait: float | None) -> None:
        name = str(request.lease.endpoint.id)
        before = self.rows()
        is_late = request.lease.is_outdated()
        is_here = name in before and before[name].url == request.lease.endpoint.url
        cooldown = request.lease.failed(cause, self.now, retry_after_seconds=wait)
        request.is_undecided = False
        after = self.rows()
        if not is_here:
            assert cooldown is None
            assert after == before, "a verdict on an endpoint that is gone touched another"
            return
        row, earlier = after[name], before[name]
        others = [other for other in before if other != name]
        assert all(after[other] == before[other] for other in others)
        assert row.seconds_left >= earlier.seconds_left, "a later end replaces an earlier one, never the other way"
        assert (row.seconds_left > earlier.seconds_left) <= (cooldown is not None)
        if cooldown is not None:
            assert cooldown.until == self.now + row.seconds_left or cooldown.wait_ms == 0
            assert row.seconds_left == 0 or row.cause is cause
        if cause in FAILURES:
            stands = any(before[other].state != "cooling" for other in others)
            assert stands or cooldown is None, "the last endpoint was cooled for a failure"
            assert row.failures == earlier.failures + (0 if is_late else 1)
            assert not is_late or cooldown is None
            asks = cause is Cause.BROKEN and wait is not None and wait > 0
            if not is_late and stands and (earlier.state == "probing" or row.failures >= 3 or asks):
                assert row.state == "cooling"
        else:
            assert row.failures == earlier.failures
            expected = 60.0 if cause is Cause.CREDENTIALS else min(5.0 if wait is None else wait, 600.0)
            assert abs(row.seconds_left - max(expected, earlier.seconds_left)) < 1e-6

    @rule(request=held, body=st.sampled_from([b"1", b"2", b"3", b"4"]))
    def fail_by_request(self, request: Request, body: bytes) -> None:
        before = self.rows()
        cooldown = request.lease.failed_by_request(body, self.now)
        request.is_undecided = False
        after = self.rows()
        changed = [name for name in before if before[name] != after[name] and before[name].failures != 0]
        assert changed in ([], [str(request.lease.endpoint.id)])
        if cooldown is not None:
            assert any(row.state != "cooling" for row in after.values()), "the last endpoint was cooled for a failure"

    @rule(request=consumes(held), again=st.booleans())
    def release(self, request: Request, again: bool) -> None:
        request.lease.release()
        if again:
            request.lease.release()
        self.requests.remove(request)

    @rule(name=st.sampled_from(NAMES), cause=st.sampled_from(list(Cause)), seconds=st.floats(-5, 700))
    def hear_of_a_cooldown(self, name: str, cause: Cause, seconds: float) -> None:
        before = self.rows()
        changed = self.pool.cool(name, cause, self.now + seconds, self.now)
        after = self.rows()
        assert changed == (after != before)
        if changed:
            assert after[name].cause is cause
            assert before[name].seconds_left < after[name].seconds_left <= 600
            assert (
                cause not in FAILURES
                or before[name].state == "cooling"
                or any(row.state != "cooling" for row in after.values())
            ), "hearing of it cooled the last one for failures"

    @rule(name=st.sampled_from(NAMES))
    def admin_resets(self, name: str) -> None:
        known = name in self.rows()
        assert self.pool.reset(name) == known
        if known:
            row = self.rows()[name]
            assert (row.failures, row.cause) == (0, None)
            assert row.state in ("available", "full")

    @rule(layout=layouts)
    def reload(self, layout: tuple[Rotations, list[Endpoint]]) -> None:
        before = self.rows()
        # Endpoint `a` moves to another URL with each reload. One that is left out comes back as another, if at all.
        self.births.update({"a", *NAMES[len(layout[1]) :]})
        successor = Pool(self.model(layout), Random(4))
        successor.adopt(self.pool)
        self.pool = successor
        for name, row in self.rows().items():
            if name in before and before[name].url == row.url:
                earlier = before[name]
                assert (row.seconds_left, row.cause, row.failures) == (
                    earlier.seconds_left,
                    earlier.cause,
                    earlier.failures,
                )
            else:
                assert (row.seconds_left, row.failures) == (0, 0)

    # --- what must always hold

    @invariant()
    def in_flight_is_what_is_held(self) -> None:
        for row in self.rows().values():
            assert row.in_flight == len(self.on(row))

    @invariant()
    def nothing_is_shown_of_a_cooldown_that_is_over(self) -> None:
        for row in self.rows().values():
            assert (row.state == "cooling") == (row.seconds_left > 0) == (row.cause is not None)

    @invariant()
    def order_foretells_every_endpoint_that_can_be_taken_once_and_changes_nothing(self) -> None:
        before = self.rows()
        foretold = self.pool.order(self.now)
        assert sorted(foretold) == sorted(name for name, row in before.items() if self.is_free(row))
        assert self.rows() == before

    def teardown(self) -> None:
        for request in self.requests:
            request.lease.release()
        self.requests.clear()
        assert all(row.in_flight == 0 for row in self.rows().values())


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
