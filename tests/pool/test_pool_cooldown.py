"""Who rests and for how long: every rule of the contract's §5 on cooldowns, failures in a row, and probes."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from random import Random

import pytest

from gateway.pool import Cause, Cooldown, EndpointState, Lease, Obstacle, Pool
from gateway.types import Endpoint, Model

NOW = 1000.0
FAILURES = [Cause.BROKEN, Cause.TIMED_OUT]


class NoJitter(Random):
    """Waiting times come out at their lower end."""

    def random(self) -> float:
        return 0.0


def pool_of(*names: str, random: Random | None = None) -> Pool:
    endpoints = tuple(Endpoint(id=name, url=f"http://{name}.test/v1") for name in names)
    return Pool(Model(id=1, name="gpt", endpoints=endpoints), random or NoJitter())


def take(pool: Pool, name: str, now: float = NOW) -> Lease:
    others = {str(endpoint.id) for endpoint in pool.model.endpoints} - {name}
    lease = pool.take(now, others)
    assert lease is not None
    return lease


def fail(pool: Pool, name: str, now: float = NOW, cause: Cause = Cause.BROKEN) -> Cooldown | None:
    lease = take(pool, name, now)
    cooldown = lease.failed(cause, now)
    lease.release()
    return cooldown


def limit(pool: Pool, name: str, seconds: float | None, now: float = NOW) -> Cooldown | None:
    lease = take(pool, name, now)
    cooldown = lease.failed(Cause.RATE_LIMITED, now, retry_after_seconds=seconds)
    lease.release()
    return cooldown


def succeed(pool: Pool, name: str, now: float = NOW) -> None:
    lease = take(pool, name, now)
    lease.succeeded(now)
    lease.release()


def break_down(pool: Pool, name: str, now: float = NOW) -> Cooldown:
    """Three failures in a row."""
    assert fail(pool, name, now) is None
    assert fail(pool, name, now) is None
    return begun(fail(pool, name, now))


def begun(cooldown: Cooldown | None) -> Cooldown:
    assert cooldown is not None
    return cooldown


def row(pool: Pool, name: str, now: float = NOW) -> EndpointState:
    return next(row for row in pool.snapshot(now) if row.id == name)


def probes_sent(pool: Pool, now: float) -> int:
    """How many of four requests at once are sent as probes."""
    leases = [pool.take(now, ()) for _ in range(4)]
    return sum(lease is not None and lease.is_probe for lease in leases)


# --- 429


@pytest.mark.parametrize(
    ("asked", "wait_ms"),
    [(None, 5_000), (1.5, 1_500), (0.02, 20), (600, 600_000), (86_400, 600_000), (inf, 600_000), (-3, 0), (0, 0)],
)
def test_a_429_cools_at_once_for_what_the_upstream_asks_at_most_ten_minutes(asked: float | None, wait_ms: int) -> None:
    cooldown = begun(limit(pool_of("a", "b"), "a", asked))
    assert (cooldown.wait_ms, cooldown.until) == (wait_ms, NOW + wait_ms / 1000)
    assert (cooldown.model_id, cooldown.model_name, cooldown.endpoint_id) == (1, "gpt", "a")
    assert (cooldown.endpoint_url, cooldown.cause) == ("http://a.test/v1", Cause.RATE_LIMITED)


def test_a_429_without_any_wait_is_told_but_cools_nothing() -> None:
    pool = pool_of("a", "b")
    assert [begun(limit(pool, "a", 0)).wait_ms for _ in range(2)] == [0, 0]
    assert row(pool, "a").state == "available"


def test_a_429_cools_the_last_endpoint_as_well() -> None:
    pool = pool_of("a")
    limit(pool, "a", 7)
    assert pool.take(NOW + 6.999, ()) is None
    assert pool.take(NOW + 7, ()) is not None


def test_after_a_rate_limit_the_endpoint_is_simply_available() -> None:
    pool = pool_of("a", "b")
    limit(pool, "a", 7)
    assert row(pool, "a", NOW + 7).state == "available"
    assert not take(pool, "a", NOW + 7).is_probe


@pytest.mark.parametrize("cause", [Cause.RATE_LIMITED, Cause.CREDENTIALS])
def test_neither_429_nor_401_touches_the_count_of_failures_in_a_row(cause: Cause) -> None:
    pool = pool_of("a", "b")
    fail(pool, "a")
    fail(pool, "a")
    later = NOW + begun(fail(pool, "a", cause=cause)).wait_ms / 1000
    assert row(pool, "a", later).failures == 2
    assert begun(fail(pool, "a", later)).cause is Cause.BROKEN


def test_a_later_end_replaces_an_earlier_one_and_never_the_other_way() -> None:
    pool = pool_of("a", "b")
    leases = [take(pool, "a") for _ in range(4)]
    assert begun(leases[0].failed(Cause.RATE_LIMITED, NOW, retry_after_seconds=30)).until == NOW + 30
    assert leases[1].failed(Cause.RATE_LIMITED, NOW + 1, retry_after_seconds=5) is None
    assert row(pool, "a").seconds_left == 30
    assert begun(leases[2].failed(Cause.CREDENTIALS, NOW + 2)).until == NOW + 62
    assert row(pool, "a").cause is Cause.CREDENTIALS
    assert leases[3].failed(Cause.RATE_LIMITED, NOW + 3, retry_after_seconds=0) is None
    assert (row(pool, "a").cause, row(pool, "a").seconds_left) == (Cause.CREDENTIALS, 62)


def test_a_success_that_comes_late_does_not_lift_a_rate_limit() -> None:
    pool = pool_of("a", "b")
    fail(pool, "a")
    early = take(pool, "a")
    limit(pool, "a", 30)
    early.succeeded(NOW + 1)
    assert (row(pool, "a", NOW + 1).state, row(pool, "a", NOW + 1).failures) == ("cooling", 0)


# --- 401


def test_a_401_cools_for_a_minute_at_once_the_last_endpoint_as_well() -> None:
    pool = pool_of("a")
    cooldown = begun(fail(pool, "a", cause=Cause.CREDENTIALS))
    assert (cooldown.wait_ms, cooldown.cause) == (60_000, Cause.CREDENTIALS)
    assert pool.take(NOW + 59.9, ()) is None
    assert not take(pool, "a", NOW + 60).is_probe


# --- failures in a row


@pytest.mark.parametrize("cause", FAILURES)
def test_the_third_failure_in_a_row_cools_for_five_seconds(cause: Cause) -> None:
    pool = pool_of("a", "b")
    assert fail(pool, "a", cause=cause) is None
    assert fail(pool, "a", cause=cause) is None
    cooldown = begun(fail(pool, "a", cause=cause))
    assert (cooldown.wait_ms, cooldown.cause) == (5_000, cause)


def test_a_success_in_between_starts_the_count_again() -> None:
    pool = pool_of("a", "b")
    for _ in range(5):
        fail(pool, "a")
        fail(pool, "a")
        succeed(pool, "a")
    assert row(pool, "a").state == "available"


def test_jitter_lengthens_a_failure_cooldown_by_up_to_a_tenth() -> None:
    waits = {break_down(pool_of("a", "b", random=Random(seed)), "a").wait_ms for seed in range(200)}
    assert min(waits) >= 5_000
    assert max(waits) <= 5_500
    assert max(waits) - min(waits) > 400


def test_consecutive_cooldowns_double_up_to_a_minute_until_a_success() -> None:
    pool = pool_of("a", "b")
    waits = [break_down(pool, "a").wait_ms]
    now = NOW + 5
    for _ in range(6):
        cooldown = begun(fail(pool, "a", now))
        waits.append(cooldown.wait_ms)
        now = cooldown.until
    assert waits == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]
    succeed(pool, "a", now)
    assert break_down(pool, "a", now).wait_ms == 5_000


@pytest.mark.parametrize("cause", FAILURES)
def test_the_last_endpoint_that_is_not_cooling_is_never_cooled_for_failures(cause: Cause) -> None:
    pool = pool_of("a", "b")
    limit(pool, "b", 30)
    assert [fail(pool, "a", cause=cause) for _ in range(10)] == [None] * 10
    assert (row(pool, "a").state, row(pool, "a").failures) == ("available", 10)
    assert begun(fail(pool, "a", NOW + 30)).wait_ms == 5_000, "its count stays for the time when another one is back"


def test_a_full_endpoint_still_stands_so_that_its_neighbour_may_be_cooled() -> None:
    rows = (Endpoint(id="a", url="http://a.test/v1"), Endpoint(id="b", url="http://b.test/v1", max_in_flight=1))
    pool = Pool(Model(id=1, name="gpt", endpoints=rows), NoJitter())
    take(pool, "b")
    assert break_down(pool, "a").wait_ms == 5_000


def test_failures_of_many_requests_at_once_begin_one_cooldown_and_do_not_double_it() -> None:
    pool = pool_of("a", "b")
    leases = [take(pool, "a") for _ in range(10)]
    cooldowns = [lease.failed(Cause.TIMED_OUT, NOW + index * 2) for index, lease in enumerate(leases)]
    assert [cooldown is not None for cooldown in cooldowns] == [False, False, True] + [False] * 7
    assert row(pool, "a", NOW + 18).state == "probing", "failures from before the cooldown came after its end"


def test_failures_from_before_a_cooldown_do_not_count_after_a_probe_has_succeeded() -> None:
    pool = pool_of("a", "b")
    early = [take(pool, "a") for _ in range(4)]
    break_down(pool, "a")
    succeed(pool, "a", NOW + 5)
    assert [lease.failed(Cause.TIMED_OUT, NOW + 6) for lease in early] == [None] * 4
    assert (row(pool, "a", NOW + 6).state, row(pool, "a", NOW + 6).failures) == ("available", 0)


def test_a_failure_cooldown_under_a_longer_rate_limit_leaves_its_end_but_asks_for_a_probe() -> None:
    pool = pool_of("a", "b")
    leases = [take(pool, "a") for _ in range(3)]
    limit(pool, "a", 30)
    assert [lease.failed(Cause.BROKEN, NOW) for lease in leases] == [None] * 3
    assert (row(pool, "a").cause, row(pool, "a").seconds_left) == (Cause.RATE_LIMITED, 30)
    assert take(pool, "a", NOW + 30).is_probe


# --- probes


def test_after_a_failure_cooldown_one_probe_at_a_time_and_the_others_go_elsewhere() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    now = NOW + 5
    assert row(pool, "a", now).state == "probing"
    leases = [pool.take(now, ()) for _ in range(6)]
    served = [(lease.endpoint.id, lease.is_probe) for lease in leases if lease is not None]
    assert sorted(served) == [("a", True)] + [("b", False)] * 5


def test_a_probe_goes_to_a_lower_priority_rather_than_stand_beside_another() -> None:
    rows = (Endpoint(id="a", url="http://a.test"), Endpoint(id="z", url="http://z.test", priority=1))
    pool = Pool(Model(id=1, name="gpt", endpoints=rows), NoJitter())
    break_down(pool, "a")
    leases = [pool.take(NOW + 5, ()) for _ in range(2)]
    assert [lease.endpoint.id for lease in leases if lease is not None] == ["a", "z"]


def test_one_probe_at_a_time_also_where_the_endpoint_is_all_that_is_left() -> None:
    """A crowd would fall upon an endpoint that has hardly recovered; whoever waits in vain is told why."""
    pool = pool_of("a", "b")
    break_down(pool, "a")
    now = NOW + 5
    probe = take(pool, "a", now)
    limit(pool, "b", 60, now)
    assert probe.is_probe
    assert pool.take(now, ()) is None
    assert pool.blocked(now, {"b"}) == [Obstacle(Cause.BROKEN, now, attempted=False)]
    probe.release()
    assert take(pool, "a", now).is_probe


def test_a_probe_that_succeeds_opens_the_endpoint_while_its_stream_goes_on() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    probe = take(pool, "a", NOW + 5)
    probe.succeeded(NOW + 5)
    assert (row(pool, "a", NOW + 5).state, row(pool, "a", NOW + 5).in_flight) == ("available", 1)
    served = [take(pool, "a", NOW + 5).is_probe for _ in range(3)]
    assert served == [False] * 3


def test_a_long_stream_of_an_old_probe_does_not_keep_a_later_probe_away() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    old = take(pool, "a", NOW + 5)
    old.succeeded(NOW + 5)
    break_down(pool, "a", NOW + 6)
    assert [pool.take(NOW + 20, ()) is not None for _ in range(2)] == [True, True]
    assert row(pool, "a", NOW + 20).in_flight == 2, "the old stream and the new probe"
    old.release()
    assert row(pool, "a", NOW + 20).in_flight == 1
    assert [lease.endpoint.id for lease in (pool.take(NOW + 20, ()), pool.take(NOW + 20, ())) if lease] == ["b", "b"]


def test_an_undecided_probe_gives_its_place_back_when_it_is_released() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    now = NOW + 5
    take(pool, "a", now).release()
    assert row(pool, "a", now).state == "probing"
    served = [lease.endpoint.id for lease in (pool.take(now, ()), pool.take(now, ())) if lease]
    assert sorted(map(str, served)) == ["a", "b"]


def test_a_probe_that_is_rate_limited_leaves_the_endpoint_to_be_probed_again() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    limit(pool, "a", 3, NOW + 5)
    assert row(pool, "a", NOW + 5).cause is Cause.RATE_LIMITED
    assert begun(fail(pool, "a", NOW + 8)).wait_ms == 10_000


@pytest.mark.parametrize("verdict", [Cause.RATE_LIMITED, Cause.CREDENTIALS])
def test_a_verdict_ends_a_probe_before_its_lease_is_released(verdict: Cause) -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    probe = take(pool, "a", NOW + 5)
    probe.failed(verdict, NOW + 5, retry_after_seconds=0)
    assert probes_sent(pool, NOW + 65) == 1


def test_an_undecided_probe_from_before_another_cooldown_neither_bars_nor_frees_the_next_probe() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    hanging = take(pool, "a", NOW + 5)
    assert pool.cool("a", Cause.BROKEN, NOW + 30, NOW + 5), "another worker's probe failed"
    now = NOW + 30
    assert probes_sent(pool, now) == 1
    hanging.release()
    assert probes_sent(pool, now) == 0, "the probe that is under way is still the only one"


def test_the_failure_of_a_probe_after_that_of_another_worker_does_not_double_twice() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    probe = take(pool, "a", NOW + 5)
    assert pool.cool("a", Cause.BROKEN, NOW + 16, NOW + 5)
    assert probe.failed(Cause.BROKEN, NOW + 6) is None


def test_a_success_from_before_the_cooldown_does_not_count_as_the_probe() -> None:
    pool = pool_of("a", "b")
    early = take(pool, "a")
    break_down(pool, "a")
    early.succeeded(NOW + 1)
    assert (row(pool, "a", NOW + 1).state, row(pool, "a", NOW + 1).failures) == ("cooling", 0)
    assert begun(fail(pool, "a", NOW + 5)).wait_ms == 10_000


def test_a_failing_probe_on_the_last_endpoint_leaves_it_open() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    limit(pool, "b", 60, NOW + 5)
    assert [fail(pool, "a", NOW + 5) for _ in range(4)] == [None] * 4
    assert row(pool, "a", NOW + 5).state == "probing"


# --- what other workers have seen


def test_a_cooldown_of_another_worker_holds_here_and_its_echo_changes_nothing() -> None:
    pool = pool_of("a", "b")
    assert pool.cool("a", Cause.RATE_LIMITED, NOW + 20, NOW)
    assert (row(pool, "a").state, row(pool, "a").seconds_left) == ("cooling", 20)
    assert not pool.cool("a", Cause.RATE_LIMITED, NOW + 20, NOW)
    assert not pool.cool("a", Cause.CREDENTIALS, NOW + 10, NOW)
    assert row(pool, "a").cause is Cause.RATE_LIMITED
    assert pool.cool("a", Cause.CREDENTIALS, NOW + 21, NOW)
    assert row(pool, "a").cause is Cause.CREDENTIALS


@pytest.mark.parametrize("until", [NOW, NOW - 1, nan, -inf])
def test_a_cooldown_that_is_over_when_it_is_heard_of_changes_nothing(until: float) -> None:
    pool = pool_of("a", "b")
    assert not pool.cool("a", Cause.RATE_LIMITED, until, NOW)
    assert row(pool, "a").state == "available"


def test_a_cooldown_heard_of_is_bounded_too_and_needs_an_endpoint_that_exists() -> None:
    pool = pool_of("a", "b")
    assert pool.cool("a", Cause.RATE_LIMITED, inf, NOW)
    assert row(pool, "a").seconds_left == 600
    assert not pool.cool("nobody", Cause.RATE_LIMITED, NOW + 5, NOW)


def test_a_failure_cooldown_heard_of_is_followed_by_a_probe_and_counts_for_the_doubling() -> None:
    pool = pool_of("a", "b")
    assert pool.cool("a", Cause.BROKEN, NOW + 5, NOW)
    assert pool.cool("a", Cause.TIMED_OUT, NOW + 5.3, NOW + 0.1), "the same outage, seen by a third worker"
    probe = take(pool, "a", NOW + 5.3)
    assert probe.is_probe
    probe.release()
    assert begun(fail(pool, "b", NOW + 5.3, Cause.CREDENTIALS)).wait_ms == 60_000
    assert fail(pool, "a", NOW + 6) is None, "it is the last one now"
    assert begun(fail(pool, "a", NOW + 66)).wait_ms == 10_000


def test_a_failure_cooldown_heard_of_during_a_rate_limit_asks_for_a_probe_as_well() -> None:
    pool = pool_of("a", "b")
    limit(pool, "a", 3)
    assert pool.cool("a", Cause.BROKEN, NOW + 5, NOW)
    assert take(pool, "a", NOW + 5).is_probe


def test_a_failed_probe_of_another_worker_does_not_cool_what_is_last_here() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    limit(pool, "b", 60)
    assert not pool.cool("a", Cause.BROKEN, NOW + 15, NOW + 5)
    assert row(pool, "a", NOW + 5).state == "probing"


def test_two_workers_together_do_not_cool_the_last_endpoint_for_failures() -> None:
    pool = pool_of("a", "b")
    break_down(pool, "a")
    assert not pool.cool("b", Cause.BROKEN, NOW + 5, NOW)
    assert pool.cool("b", Cause.RATE_LIMITED, NOW + 5, NOW), "a rate limit is the upstream's own word"


def test_cooldowns_end_by_the_clock_alone() -> None:
    pool = pool_of("a", "b")
    until = break_down(pool, "a").until
    states = [row(pool, "a", now).state for now in (until - 0.001, until, until + 1e6)]
    assert states == ["cooling", "probing", "probing"]
    lefts = [row(pool, "a", NOW + second).seconds_left for second in range(7)]
    assert all(earlier >= later for earlier, later in pairwise(lefts))


# --- what a failing upstream asks for


def broken(pool: Pool, name: str, seconds: float | None, now: float = NOW) -> Cooldown | None:
    lease = take(pool, name, now)
    cooldown = lease.failed(Cause.BROKEN, now, retry_after_seconds=seconds)
    lease.release()
    return cooldown


def test_a_5xx_that_says_for_how_long_cools_at_once_and_is_no_probation() -> None:
    pool = pool_of("a", "b")
    cooldown = begun(broken(pool, "a", 30))
    assert (cooldown.wait_ms, cooldown.cause) == (30_000, Cause.BROKEN)
    assert (row(pool, "a", NOW + 29).state, row(pool, "a", NOW + 30).state) == ("cooling", "available")
    assert row(pool, "a").failures == 1, "it counts as any failure besides"


def test_a_pools_last_endpoint_is_not_cooled_by_what_a_5xx_asks_for() -> None:
    pool = pool_of("a", "b")
    assert broken(pool, "a", 30) is not None
    assert broken(pool, "b", 30) is None
    assert row(pool, "b").state == "available"


@pytest.mark.parametrize("seconds", [0, None])
def test_a_5xx_that_asks_for_no_time_cools_for_none(seconds: float | None) -> None:
    assert broken(pool_of("a", "b"), "a", seconds) is None


@pytest.mark.parametrize(("asked", "waited_ms"), [(2.0, 5_000), (40.0, 40_000), (900.0, 600_000)])
def test_the_third_failure_cools_for_the_longer_of_what_is_asked_for_and_ours(asked: float, waited_ms: int) -> None:
    pool = pool_of("a", "b")
    fail(pool, "a"), fail(pool, "a")
    assert begun(broken(pool, "a", asked)).wait_ms == waited_ms


def test_of_two_ends_that_5xx_ask_for_the_later_holds() -> None:
    pool = pool_of("a", "b")
    first, second = take(pool, "a"), take(pool, "a")
    assert first.failed(Cause.BROKEN, NOW, retry_after_seconds=60) is not None
    assert second.failed(Cause.BROKEN, NOW, retry_after_seconds=5) is None
    assert row(pool, "a").seconds_left == 60
