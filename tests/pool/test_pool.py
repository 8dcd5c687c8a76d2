"""Whose turn it is: rotation, priorities, `max_in_flight`, leases, reloads, and what admin routes see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pool import Blocked, Cause, Lease, Obstacle, Pool
from gateway.types import Endpoint, Model, Secret

NOW = 1000.0
SECRET = "sk-very-secret-0123456789"


def endpoint(name: str | int, **fields: Any) -> Endpoint:
    return Endpoint(id=name, url=fields.pop("url", f"http://{name}.test/v1"), **fields)


def pool_of(*endpoints: Endpoint | str, rotation: Any = "round_robin") -> Pool:
    rows = tuple(endpoint(row) if isinstance(row, str) else row for row in endpoints)
    return Pool(Model(id=1, name="gpt", rotation=rotation, endpoints=rows), Random(7))


def taken(pool: Pool, now: float = NOW, tried: Container[str] = ()) -> Lease:
    lease = pool.take(now, tried)
    assert lease is not None
    return lease


def ask(pool: Pool, now: float = NOW, tried: Container[str] = ()) -> str:
    """One whole good request; the id of the endpoint that served it."""
    lease = taken(pool, now, tried)
    lease.succeeded(now)
    lease.release()
    return str(lease.endpoint.id)


def asks(pool: Pool, times: int, now: float = NOW) -> str:
    return "".join(ask(pool, now) for _ in range(times))


# --- rotation


def test_round_robin_goes_strictly_in_the_order_of_the_file() -> None:
    assert asks(pool_of("a", "b", "c"), 7) == "abcabca"


def test_round_robin_keeps_its_place_when_an_endpoint_rests_and_comes_back() -> None:
    pool = pool_of("a", "b", "c")
    assert asks(pool, 1) == "a"
    pool.cool("b", Cause.RATE_LIMITED, NOW + 10, NOW)
    assert asks(pool, 3) == "cac"
    assert asks(pool, 4, NOW + 10) == "abca"


def test_a_retry_goes_on_in_turn_and_leaves_out_what_was_tried() -> None:
    pool = pool_of("a", "b", "c")
    assert ask(pool) == "a"
    assert ask(pool, tried={"a"}) == "b"
    assert ask(pool, tried={"a", "b"}) == "c"
    assert pool.take(NOW, {"a", "b", "c"}) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcd"), max_size=3), max_size=40))
def test_round_robin_serves_nobody_twice_before_one_who_was_there_all_along(absences: list[set[str]]) -> None:
    pool = pool_of("a", "b", "c", "d")
    waited_through: dict[str, Counter[str]] = {name: Counter() for name in "abcd"}
    for absent in absences:
        served = ask(pool, tried=absent)
        waited_through[served].clear()
        for name in set("abcd") - {served}:
            if name in absent:
                waited_through[name].clear()
            else:
                waited_through[name][served] += 1
                assert waited_through[name][served] == 1, f"{served} had two turns while {name} waited"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((3, 1), "aabaaaba"), ((5, 1, 1), "aabacaa"), ((1, 1), "abab"), ((1,), "aaa"), ((2, 3), "babab")],
)
def test_weighted_rotation_is_smooth_as_in_nginx(weights: tuple[int, ...], expected: str) -> None:
    pool = pool_of(
        *(endpoint(name, weight=weight) for name, weight in zip("abc", weights, strict=False)), rotation="weighted"
    )
    assert asks(pool, len(expected)) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 3))
def test_weighted_shares_are_exact_over_full_cycles(weights: list[int], cycles: int) -> None:
    rows = [endpoint(index, weight=weight) for index, weight in enumerate(weights)]
    pool = pool_of(*rows, rotation="weighted")
    served = Counter(ask(pool) for _ in range(cycles * sum(weights)))
    assert served == {str(index): cycles * weight for index, weight in enumerate(weights)}


def test_weighted_rotation_shares_by_weight_among_those_that_are_left() -> None:
    rows = [endpoint("a", weight=2), endpoint("b", weight=1), endpoint("c", weight=5)]
    pool = pool_of(*rows, rotation="weighted")
    pool.cool("c", Cause.RATE_LIMITED, NOW + 60, NOW)
    assert Counter(asks(pool, 6)) == {"a": 4, "b": 2}


def test_least_busy_takes_the_one_with_the_fewest_requests_for_its_weight() -> None:
    pool = pool_of(endpoint("a", weight=3), endpoint("b", weight=1), rotation="least_busy")
    leases = [taken(pool) for _ in range(8)]
    assert Counter(str(lease.endpoint.id) for lease in leases) == {"a": 6, "b": 2}
    next(lease for lease in leases if lease.endpoint.id == "b").release()
    assert taken(pool).endpoint.id == "b"


def test_least_busy_goes_in_turn_among_equals() -> None:
    assert asks(pool_of("a", "b", "c", rotation="least_busy"), 5) == "abcab"


def test_ids_that_are_numbers_are_tried_and_reset_by_their_text() -> None:
    pool = pool_of(endpoint(1), endpoint(2))
    assert ask(pool, tried={"1"}) == "2"
    assert pool.reset("1")
    assert pool.snapshot(NOW)[0].id == 1


# --- priorities


def test_a_higher_number_is_taken_only_where_no_lower_one_is_free() -> None:
    pool = pool_of(endpoint("z", priority=5), endpoint("a"), endpoint("b"))
    assert asks(pool, 4) == "abab"
    assert ask(pool, tried={"a", "b"}) == "z"
    pool.cool("a", Cause.CREDENTIALS, NOW + 9, NOW)
    assert asks(pool, 2) == "bb"
    pool.cool("b", Cause.CREDENTIALS, NOW + 9, NOW)
    assert asks(pool, 2) == "zz"
    assert set(asks(pool, 2, NOW + 9)) == {"a", "b"}


def test_a_visit_to_the_next_priority_does_not_restart_the_first_ones_turn() -> None:
    pool = pool_of("a", "b", endpoint("z", priority=1))
    assert ask(pool) == "a"
    assert ask(pool, tried={"a", "b"}) == "z"
    assert ask(pool) == "b"


def test_a_model_without_endpoints_has_nothing_to_take_and_nothing_in_the_way() -> None:
    pool = pool_of()
    assert pool.take(NOW, ()) is None
    assert pool.blocked(NOW, ()) == []
    assert pool.order(NOW) == []


# --- in flight


def test_max_in_flight_makes_an_endpoint_full_until_a_lease_is_released() -> None:
    pool = pool_of(endpoint("a", max_in_flight=2), endpoint("b", priority=1, max_in_flight=1))
    leases = [taken(pool) for _ in range(3)]
    assert [lease.endpoint.id for lease in leases] == ["a", "a", "b"]
    assert pool.take(NOW, ()) is None
    assert [row.state for row in pool.snapshot(NOW)] == ["full", "full"]
    leases[0].release()
    assert taken(pool).endpoint.id == "a"


def test_a_verdict_keeps_the_slot_and_a_second_release_gives_nothing_more_back() -> None:
    pool = pool_of("a")
    first, second = taken(pool), taken(pool)
    first.succeeded(NOW)
    assert pool.snapshot(NOW)[0].in_flight == 2
    first.release()
    first.release()
    assert pool.snapshot(NOW)[0].in_flight == 1
    second.release()
    assert pool.snapshot(NOW)[0].in_flight == 0


def test_a_request_released_without_a_verdict_says_nothing_against_its_endpoint() -> None:
    pool = pool_of("a", "b")
    for _ in range(10):
        taken(pool).release()
    assert [(row.state, row.failures) for row in pool.snapshot(NOW)] == [("available", 0)] * 2


# --- what stands in the way


def test_blocked_names_what_keeps_each_untried_endpoint_from_being_taken() -> None:
    pool = pool_of("a", "b", endpoint("c", max_in_flight=1), "d", "e")
    pool.cool("a", Cause.RATE_LIMITED, NOW + 8, NOW)
    pool.cool("b", Cause.CREDENTIALS, NOW + 60, NOW)
    taken(pool, tried={"d", "e"})
    assert pool.blocked(NOW, {"e"}) == [
        Obstacle(Cause.RATE_LIMITED, NOW + 8, attempted=False),
        Obstacle(Cause.CREDENTIALS, NOW + 60, attempted=False),
        Obstacle(Blocked.FULL, NOW, attempted=False),
    ]
    assert len(pool.blocked(NOW, {"a", "b"})) == 1


# --- admin


def test_a_snapshot_tells_the_state_of_every_endpoint_by_priority() -> None:
    pool = pool_of(endpoint("late", priority=2, weight=4), endpoint(7))
    pool.cool("7", Cause.RATE_LIMITED, NOW + 12.5, NOW)
    first, second = pool.snapshot(NOW)
    assert (first.id, first.priority, first.weight, first.url) == (7, 0, 1, "http://7.test/v1")
    assert (first.state, first.cause, first.seconds_left) == ("cooling", Cause.RATE_LIMITED, 12.5)
    assert (second.id, second.priority, second.weight) == ("late", 2, 4)
    assert (second.state, second.cause, second.seconds_left) == ("available", None, 0.0)
    assert pool.snapshot(NOW + 12.5)[0].state == "available"


def test_no_credential_shows_in_anything_that_describes_a_pool() -> None:
    secrets = {"x-key": Secret(SECRET)}
    row = endpoint(
        "a",
        url=f"https://user:{SECRET}@host.test:8443/v1?key={SECRET}#{SECRET}",
        api_key=Secret(SECRET),
        headers=secrets,
        query=secrets,
    )
    pool = pool_of(row, "b")
    lease = taken(pool)
    cooldown = lease.failed(Cause.RATE_LIMITED, NOW)
    assert cooldown is not None
    assert cooldown.endpoint_url == "https://host.test:8443/v1"
    shown = f"{pool!r} {lease!r} {cooldown!r} {pool.snapshot(NOW)!r} {pool.blocked(NOW)!r}"
    assert "host.test:8443" in shown
    assert SECRET not in shown


def test_objects_describe_themselves_in_one_readable_line() -> None:
    pool = pool_of("a")
    lease = taken(pool)
    assert repr(lease) == "<lease of endpoint a for a request, held>"
    lease.failed(Cause.RATE_LIMITED, NOW)
    lease.release()
    assert repr(lease) == "<lease of endpoint a for a request, released>"
    assert repr(pool) == (
        "<pool of model gpt by round_robin: <endpoint a at http://a.test/v1: "
        "<0 in flight, 0 failures in a row, rests until 1005.000 (rate_limited)>>>"
    )


def test_order_goes_on_from_where_the_rotation_is() -> None:
    pool = pool_of("a", "b", "c")
    assert pool.order(NOW) == ["a", "b", "c"]
    assert ask(pool) == "a"
    assert pool.order(NOW) == ["b", "c", "a"]


@pytest.mark.parametrize("rotation", ["round_robin", "weighted", "least_busy"])
def test_order_foretells_what_one_failing_request_would_try_and_changes_nothing(rotation: str) -> None:
    rows = [endpoint("a", weight=3), endpoint("b"), endpoint("c", priority=1), endpoint("d", max_in_flight=1)]
    pool = pool_of(*rows, rotation=rotation)
    taken(pool, tried={"a", "b", "c"})
    asks(pool, 1)
    pool.cool("c", Cause.RATE_LIMITED, NOW + 5, NOW)
    for now in (NOW, NOW + 5):
        before = pool.snapshot(now)
        foretold = pool.order(now)
        assert pool.order(now) == foretold
        assert pool.snapshot(now) == before
        tried: list[str] = []
        leases = []
        while (lease := pool.take(now, tried)) is not None:
            leases.append(lease)
            tried.append(str(lease.endpoint.id))
        assert tried == foretold
        for lease in leases:
            lease.release()


def test_an_admin_ends_a_cooldown_and_the_failures_behind_it() -> None:
    pool = pool_of("a", "b")
    for _ in range(3):
        taken(pool, tried={"b"}).failed(Cause.BROKEN, NOW)
    assert pool.snapshot(NOW)[0].state == "cooling"
    assert pool.reset("a")
    row = pool.snapshot(NOW)[0]
    assert (row.state, row.failures, row.cause) == ("available", 0, None)
    assert not pool.reset("nobody")


def test_failures_of_requests_from_before_a_reset_do_not_cool_again() -> None:
    pool = pool_of("a", "b")
    leases = [taken(pool, tried={"b"}) for _ in range(5)]
    pool.reset("a")
    assert [lease.failed(Cause.TIMED_OUT, NOW + 1) for lease in leases] == [None] * 5
    assert pool.snapshot(NOW + 1)[0].failures == 0


# --- reload


def reloaded(pool: Pool, *endpoints: Endpoint | str, rotation: Any = "round_robin") -> Pool:
    heir = pool_of(*endpoints, rotation=rotation)
    heir.adopt(pool)
    return heir


def test_a_reload_keeps_cooldowns_failures_and_what_is_in_flight() -> None:
    old = pool_of("a", "b")
    old.cool("a", Cause.RATE_LIMITED, NOW + 30, NOW)
    lease = taken(old)
    lease.failed(Cause.BROKEN, NOW)
    new = reloaded(old, "b", endpoint("a", weight=9), "c")
    rows = {row.id: row for row in new.snapshot(NOW)}
    assert (rows["a"].state, rows["a"].seconds_left, rows["a"].weight) == ("cooling", 30, 9)
    assert (rows["b"].failures, rows["b"].in_flight) == (1, 1)
    assert (rows["c"].state, rows["c"].in_flight) == ("available", 0)
    lease.release()
    assert {row.in_flight for row in new.snapshot(NOW)} == {0}


def test_a_request_that_outlives_a_reload_still_counts_against_max_in_flight() -> None:
    old = pool_of(endpoint("a", max_in_flight=1))
    lease = taken(old)
    new = reloaded(old, endpoint("a", max_in_flight=1))
    assert new.take(NOW, ()) is None
    lease.release()
    assert taken(new).endpoint.id == "a"


def test_an_endpoint_with_another_base_url_starts_anew_and_late_verdicts_on_the_old_one_are_void() -> None:
    old = pool_of("a", "b")
    leases = [taken(old, tried={"b"}) for _ in range(4)]
    new = reloaded(old, endpoint("a", url="http://elsewhere.test/v1"), "b")
    for lease, cause in zip(
        leases, (Cause.BROKEN, Cause.RATE_LIMITED, Cause.CREDENTIALS, Cause.TIMED_OUT), strict=True
    ):
        assert lease.failed(cause, NOW) is None
        lease.succeeded(NOW)
        lease.release()
    row = new.snapshot(NOW)[0]
    assert (row.state, row.failures, row.in_flight) == ("available", 0, 0)


def test_a_late_failure_does_not_cool_what_a_reload_has_made_the_last_endpoint() -> None:
    old = pool_of("a", "b")
    leases = [taken(old, tried={"b"}) for _ in range(3)]
    new = reloaded(reloaded(old, "a", "b"), "a")
    assert [lease.failed(Cause.BROKEN, NOW) for lease in leases] == [None] * 3
    row = new.snapshot(NOW)[0]
    assert (row.state, row.failures) == ("available", 3)


def test_a_late_verdict_on_an_endpoint_that_is_gone_is_harmless() -> None:
    old = pool_of("a", "b")
    lease = taken(old)
    new = reloaded(old, "b")
    assert lease.failed(Cause.RATE_LIMITED, NOW, retry_after_seconds=60) is None
    lease.release()
    assert [row.state for row in new.snapshot(NOW)] == ["available"]


@pytest.mark.parametrize(
    "correction",
    [
        {"api_key": Secret("new")},
        {"auth_header": "api-key"},
        {"headers": {"x-project": Secret("p")}},
        {"query": {"api-version": Secret("2")}},
    ],
)
def test_a_corrected_credential_ends_the_cooldown_of_the_refused_one(correction: dict[str, Any]) -> None:
    old = pool_of(endpoint("a"), endpoint("b"))
    late, lease = taken(old, tried={"b"}), taken(old, tried={"b"})
    lease.failed(Cause.CREDENTIALS, NOW)
    taken(old, tried={"a"}).failed(Cause.CREDENTIALS, NOW)
    new = reloaded(old, endpoint("a", **correction), endpoint("b"))
    assert [row.state for row in new.snapshot(NOW)] == ["available", "cooling"]
    assert late.failed(Cause.CREDENTIALS, NOW) is None, "the old credential's refusal says nothing about the new one"
    assert new.snapshot(NOW)[0].state == "available"


def test_another_credential_does_not_end_a_rate_limit() -> None:
    old = pool_of("a", "b")
    old.cool("a", Cause.RATE_LIMITED, NOW + 30, NOW)
    assert reloaded(old, endpoint("a", api_key=Secret("new")), "b").snapshot(NOW)[0].state == "cooling"


@pytest.mark.parametrize("rotation", ["round_robin", "weighted", "least_busy"])
def test_a_reload_that_leaves_the_endpoints_alone_goes_on_with_the_rotation(rotation: str) -> None:
    rows = [endpoint("a", weight=2), endpoint("b"), endpoint("c")]
    undisturbed, reloading = (pool_of(*rows, rotation=rotation) for _ in range(2))
    for _ in range(12):
        assert ask(reloading) == ask(undisturbed)
        reloading = reloaded(reloading, *rows, rotation=rotation)
