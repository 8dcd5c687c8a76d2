"""Combine every endpoint's obstacle into the client's one error (contract §4)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from gateway.errors import (
    GatewayError,
    Overloaded,
    UpstreamCredentialsRejected,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimedOut,
)
from gateway.pool.state import Blocked, Cause, Obstacle


def no_answer(obstacles: Sequence[Obstacle], now: float) -> GatewayError:
    """The error of a request that no endpoint of any pool answered.

    `obstacles`: the failed attempts of this request (`Lease.obstacle`) and, of every pool tried, what could not be
    taken (`Pool.blocked`). `now`: monotonic seconds. The messages name no endpoint and quote no upstream.
    """
    causes = {obstacle.cause for obstacle in obstacles}
    if causes == {Cause.RATE_LIMITED}:
        return _rate_limited(obstacles, now)
    if causes == {Cause.CREDENTIALS}:
        return UpstreamCredentialsRejected(
            "Every upstream of this model refuses the gateway's own credential. Your key is fine; "
            "please tell the operator of this gateway."
        )
    if causes == {Cause.TIMED_OUT}:
        return UpstreamTimedOut("No upstream of this model answered in time.")
    if Blocked.FULL in causes and not any(obstacle.attempted for obstacle in obstacles):
        return Overloaded("Every upstream of this model is busy. Please try again in a moment.")
    return UpstreamFailed("No upstream of this model could answer. Please try again shortly.")


def _rate_limited(obstacles: Sequence[Obstacle], now: float) -> GatewayError:
    soonest = min(obstacle.until for obstacle in obstacles)
    seconds = max(1, ceil(max(0.0, soonest - now)))
    unit = "second" if seconds == 1 else "seconds"
    return UpstreamRateLimited(
        f"Every upstream of this model is rate-limited. Please try again in {seconds} {unit}.",
        headers=(("retry-after", str(seconds)),),
    )
