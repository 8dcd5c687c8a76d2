"""The one error that a client gets when no endpoint answered: each row of the contract's table, and what is mixed."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from gateway.errors import (
    GatewayError,
    Overloaded,
    UpstreamCredentialsRejected,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimedOut,
)
from gateway.pool import Blocked, Cause, Obstacle, Pool, no_answer
from gateway.types import Endpoint, Model

NOW = 1000.0
WHY: list[Cause | Blocked] = [*Cause, *Blocked]
ALONE: list[tuple[Cause | Blocked, type[GatewayError]]] = [
    (Cause.RATE_LIMITED, UpstreamRateLimited),
    (Cause.CREDENTIALS, UpstreamCredentialsRejected),
    (Cause.TIMED_OUT, UpstreamTimedOut),
    (Cause.BROKEN, UpstreamFailed),
    (Blocked.FULL, Overloaded),
]


def met(cause: Cause | Blocked, *, left: float = 0, attempted: bool = False) -> Obstacle:
    return Obstacle(cause, NOW + left, attempted)


@pytest.mark.parametrize(("cause", "error"), ALONE)
@pytest.mark.parametrize("times", [1, 3])
def test_one_cause_everywhere_gives_its_own_error(
    cause: Cause | Blocked, error: type[GatewayError], times: int
) -> None:
    assert type(no_answer([met(cause)] * times, NOW)) is error


@pytest.mark.parametrize(("first", "second"), [(a, b) for a, b in product(Cause, Cause) if a is not b])
def test_mixed_causes_are_an_upstream_error(first: Cause, second: Cause) -> None:
    obstacles = [met(first, attempted=True), met(second)]
    assert type(no_answer(obstacles, NOW)) is UpstreamFailed


@pytest.mark.parametrize("cause", list(Cause))
def test_full_beside_cooling_is_overloaded_unless_this_request_was_sent_somewhere(cause: Cause) -> None:
    assert type(no_answer([met(Blocked.FULL), met(cause)], NOW)) is Overloaded
    assert type(no_answer([met(Blocked.FULL), met(cause, attempted=True)], NOW)) is UpstreamFailed


def test_nothing_in_the_way_because_there_are_no_endpoints_is_an_upstream_error() -> None:
    assert type(no_answer([], NOW)) is UpstreamFailed


@pytest.mark.parametrize(
    ("lefts", "seconds"), [([12.0], "12"), ([12.001, 30.0], "13"), ([0.02], "1"), ([0.0], "1"), ([-50.0, 9.0], "1")]
)
def test_retry_after_is_the_soonest_end_in_whole_seconds_at_least_one(lefts: list[float], seconds: str) -> None:
    error = no_answer([met(Cause.RATE_LIMITED, left=left) for left in lefts], NOW)
    assert dict(error.headers)["retry-after"] == seconds
    assert f" {seconds} second" in error.message


@pytest.mark.parametrize(
    ("cause", "status", "code", "headers"),
    [
        (Cause.RATE_LIMITED, 429, "upstream_rate_limited", {"retry-after": "1"}),
        (Cause.CREDENTIALS, 502, "upstream_credentials_rejected", {"x-should-retry": "false"}),
        (Cause.TIMED_OUT, 504, "upstream_timeout", {"x-should-retry": "false"}),
        (Cause.BROKEN, 502, "upstream_error", {}),
        (Blocked.FULL, 503, "overloaded", {"retry-after": "1"}),
    ],
)
def test_the_answer_is_that_of_the_contracts_table(
    cause: Cause | Blocked, status: int, code: str, headers: dict[str, str]
) -> None:
    error = no_answer([met(cause)], NOW)
    assert (error.status, error.code, dict(error.headers)) == (status, code, headers)


def test_a_request_turned_away_everywhere_is_told_when_to_come_back() -> None:
    endpoints = tuple(Endpoint(id=name, url=f"http://{name}.test/v1") for name in "ab")
    pool = Pool(Model(id=1, name="gpt", endpoints=endpoints), Random(7))
    pool.cool("a", Cause.RATE_LIMITED, NOW + 40, NOW)
    first, second = pool.take(NOW), pool.take(NOW)
    assert first is not None
    assert second is not None
    first.failed(Cause.RATE_LIMITED, NOW, retry_after_seconds=20)
    assert second.failed(Cause.RATE_LIMITED, NOW, retry_after_seconds=3) is None, "the longer cooldown holds"
    obstacles = [second.obstacle(Cause.RATE_LIMITED), *pool.blocked(NOW, {"b"})]
    assert dict(no_answer(obstacles, NOW + 5).headers)["retry-after"] == "15"


@pytest.mark.parametrize("cause", WHY)
def test_no_message_names_an_endpoint(cause: Cause | Blocked) -> None:
    pool = Pool(Model(id=1, name="gpt", endpoints=(Endpoint(id="box-17", url="http://box.test/v1"),)), Random(7))
    lease = pool.take(NOW)
    assert lease is not None
    obstacle = lease.obstacle(cause) if isinstance(cause, Cause) else met(cause)
    message = no_answer([obstacle], NOW).message
    assert message.endswith(".")
    assert "box" not in message
