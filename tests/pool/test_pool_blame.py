"""Whose fault a 500 is: the request's where every endpoint says the same, theirs where three requests meet it."""

from __future__ import annotations

from random import Random

from gateway.pool import Blame, Cause, Cooldown, Lease, Pool
from gateway.types import Endpoint, Model

NOW = 1000.0


def pool_of(*names: str) -> Pool:
    endpoints = tuple(Endpoint(id=name, url=f"http://{name}.test/v1") for name in names)
    return Pool(Model(id=1, name="gpt", endpoints=endpoints), Random(7))


def take(pool: Pool, name: str) -> Lease:
    lease = pool.take(NOW, {str(endpoint.id) for endpoint in pool.model.endpoints} - {name})
    assert lease is not None
    lease.release()
    return lease


def meet(pool: Pool, body: bytes) -> list[Cooldown]:
    """One request that every endpoint answers with the same 500."""
    leases = [take(pool, str(row.id)) for row in pool.snapshot(NOW) if row.state != "cooling"]
    return [cooldown for lease in leases if (cooldown := lease.failed_by_request(body, NOW)) is not None]


def states(pool: Pool) -> list[str]:
    return [row.state for row in pool.snapshot(NOW)]


# --- one request


def test_the_same_words_everywhere_are_the_requests_own_fault() -> None:
    pool, blame = pool_of("a", "b"), Blame()
    leases = [take(pool, "a"), take(pool, "b")]
    assert [blame.add(lease, b"no pictures") for lease in leases] == [[], []]
    assert blame.shared() == leases
    assert blame.shared() == [], "told once"


def test_other_words_are_the_endpoints_faults_those_of_before_too() -> None:
    pool, blame = pool_of("a", "b", "c"), Blame()
    a, b, c = (take(pool, name) for name in "abc")
    assert blame.add(a, b"out of memory") == []
    assert blame.add(b, b"out of disk") == [a, b]
    assert blame.add(c, b"out of memory") == [c]
    assert blame.shared() == []


def test_any_other_outcome_says_that_the_request_was_not_at_fault() -> None:
    pool, blame = pool_of("a", "b", "c"), Blame()
    a, b, c = (take(pool, name) for name in "abc")
    assert blame.add(a, b"oops") == []
    assert blame.add(b, None) == [a], "an answer, or a failure with a verdict of its own"
    assert blame.add(c, b"oops") == [c]


# --- many requests


def test_one_callers_bad_request_cools_nothing_however_often_it_comes() -> None:
    pool = pool_of("a", "b")
    assert [meet(pool, b"bad") for _ in range(20)] == [[]] * 20
    assert states(pool) == ["available", "available"]
    assert [row.failures for row in pool.snapshot(NOW)] == [0, 0]


def test_two_bad_requests_in_turn_cool_nothing() -> None:
    pool = pool_of("a", "b")
    assert [meet(pool, body) for _ in range(10) for body in (b"bad", b"worse")] == [[]] * 20
    assert states(pool) == ["available", "available"]


def test_an_outage_is_known_by_three_different_requests_and_cools_as_any() -> None:
    pool = pool_of("a", "b")
    assert [meet(pool, body) for body in (b"1", b"2")] == [[], []]
    (cooldown,) = meet(pool, b"3")
    assert (cooldown.endpoint_id, cooldown.cause) == ("a", Cause.BROKEN)
    assert states(pool) == ["cooling", "available"], "the last one goes on"


def test_a_success_between_them_begins_another_row() -> None:
    pool = pool_of("a", "b")
    meet(pool, b"1"), meet(pool, b"2")
    for name in "ab":
        take(pool, name).succeeded(NOW)
    assert [meet(pool, body) for body in (b"3", b"4")] == [[], []]
    assert states(pool) == ["available", "available"]


def test_failures_of_other_kinds_still_count_to_three() -> None:
    pool = pool_of("a", "b")
    take(pool, "a").failed(Cause.BROKEN, NOW)
    take(pool, "a").failed(Cause.BROKEN, NOW)
    assert meet(pool, b"bad") == []
    assert take(pool, "a").failed(Cause.BROKEN, NOW) is not None


def test_a_verdict_from_before_a_cooldown_comes_too_late() -> None:
    pool = pool_of("a", "b")
    late = take(pool, "a")
    for body in (b"1", b"2", b"3"):
        meet(pool, body)
    assert late.failed_by_request(b"4", NOW) is None
