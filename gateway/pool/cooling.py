"""What follows from an endpoint's failures: counts, then cooldowns."""

from __future__ import annotations

from random import Random
from typing import Protocol

from gateway.pool.retry_after import LONGEST_WAIT_SECONDS
from gateway.pool.state import BODIES_IN_A_ROW, Cause, Cooldown, Slot, same_credential
from gateway.types import Endpoint, Model

FAILURES_IN_A_ROW = 3
FAILURE_COOLDOWNS_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
JITTER = 0.1  # lengthens a cooldown for failures by up to this share, so that workers do not probe in step
RATE_LIMIT_COOLDOWN_SECONDS = 5.0  # where the upstream does not say how long
CREDENTIALS_COOLDOWN_SECONDS = 60.0

_FAILURES = frozenset((Cause.BROKEN, Cause.TIMED_OUT))


class Judged(Protocol):
    """A lease, as its failure is judged."""

    endpoint: Endpoint
    endpoint_id: str

    def concerns(self, slot: Slot) -> bool: ...
    def is_outdated(self) -> bool: ...


class Cooling:
    """The endpoints of one model: which cools, for how long.

    Every `now` is in seconds of one monotonic clock.
    """

    def __init__(self, model: Model, random: Random, slots: dict[str, Slot]) -> None:
        self.model = model
        self._random = random
        self._slots = slots
        self._successor: Cooling | None = None

    def judge(self, lease: Judged, cause: Cause, now: float, retry_after_seconds: float | None) -> Cooldown | None:
        """Decide what follows from a lease's failure, for `Lease.failed`.

        Endpoints that a reload has replaced are left alone.
        """
        pool = self._latest()
        slot = pool._slots.get(lease.endpoint_id)
        if slot is None or not lease.concerns(slot):
            return None
        if cause is Cause.RATE_LIMITED:
            return pool._rest(slot, cause, now, _asked_for(retry_after_seconds))
        if cause is Cause.CREDENTIALS:
            is_replaced = not same_credential(lease.endpoint, slot.endpoint)
            return None if is_replaced else pool._rest(slot, cause, now, CREDENTIALS_COOLDOWN_SECONDS)
        if lease.is_outdated():
            return None
        asked = 0.0 if retry_after_seconds is None or cause is not Cause.BROKEN else _asked_for(retry_after_seconds)
        return pool._count_failure(slot, cause, now, asked)

    def judge_request(self, lease: Judged, body: bytes, now: float) -> Cooldown | None:
        """Decide what a request's own fault means, for `Lease.failed_by_request`."""
        pool = self._latest()
        slot = pool._slots.get(lease.endpoint_id)
        if slot is None or not lease.concerns(slot) or lease.is_outdated():
            return None
        health, known = slot.health, len(slot.health.bodies)
        if not health.add_body(body) or len(health.bodies) < BODIES_IN_A_ROW:
            return None
        if known < BODIES_IN_A_ROW:
            health.failures += known  # an outage after all: those before were failures too
        return pool._count_failure(slot, Cause.BROKEN, now)

    def _count_failure(self, slot: Slot, cause: Cause, now: float, asked_seconds: float = 0.0) -> Cooldown | None:
        """Count a failure, and begin a cooldown where one is due.

        `asked_seconds`: the upstream's Retry-After; 0 where it has none.
        """
        health = slot.health
        health.fail()
        # One upstream's hiccup must not become our outage: with nothing else standing it goes on, and its count stays.
        if self._is_last_to_stand(slot, now):
            return None
        seconds = asked_seconds
        if health.on_probation or health.failures >= FAILURES_IN_A_ROW:
            health.begin_probation()
            seconds = max(seconds, self._failure_cooldown_seconds(health.cooldowns))
        return self._rest(slot, cause, now, seconds) if seconds > 0 else None

    def _failure_cooldown_seconds(self, cooldowns: int) -> float:
        step = min(cooldowns, len(FAILURE_COOLDOWNS_SECONDS)) - 1
        return FAILURE_COOLDOWNS_SECONDS[step] * (1 + JITTER * self._random.random())

    def _rest(self, slot: Slot, cause: Cause, now: float, seconds: float) -> Cooldown | None:
        until = now + seconds
        if not slot.health.rest(cause, until):
            return None
        return Cooldown(
            model_id=self.model.id,
            model_name=self.model.name,
            endpoint_id=slot.endpoint.id,
            endpoint_url=slot.url,
            cause=cause,
            wait_ms=round(seconds * 1000),
            until=until,
        )

    def _is_last_to_stand(self, slot: Slot, now: float) -> bool:
        return all(other is slot or other.health.is_cooling(now) for other in self._slots.values())

    def _latest(self) -> Cooling:
        pool: Cooling = self
        while pool._successor is not None:
            pool = pool._successor
        return pool

    def cool(self, endpoint_id: str, cause: Cause, until: float, now: float) -> bool:
        """A cooldown that another worker began. True where it changes anything here.

        The last endpoint of this pool that is not cooling is spared here as well: two workers may each have cooled
        another endpoint at the same time, and together they would have cooled them all.
        """
        slot = self._slots.get(endpoint_id)
        end = min(until, now + LONGEST_WAIT_SECONDS)
        if slot is None or not end > max(now, slot.health.until):
            return False
        is_known_to_fail = slot.health.on_probation and slot.health.is_cooling(now)
        if cause in _FAILURES and not is_known_to_fail:
            if self._is_last_to_stand(slot, now):
                return False
            slot.health.begin_probation()
        return slot.health.rest(cause, end)


def _asked_for(retry_after_seconds: float | None) -> float:
    if retry_after_seconds is None:
        return RATE_LIMIT_COOLDOWN_SECONDS
    return min(max(retry_after_seconds, 0.0), LONGEST_WAIT_SECONDS)
