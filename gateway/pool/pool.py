"""A model's endpoints: which is free, and what follows from a failure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from math import inf
from random import Random

from gateway.pool.lease import Lease
from gateway.pool.retry_after import LONGEST_WAIT_SECONDS
from gateway.pool.rotation import Tier
from gateway.pool.state import BODIES_IN_A_ROW, Blocked, Cause, Cooldown, EndpointState, Obstacle, Slot, same_credential
from gateway.types import Model

FAILURES_IN_A_ROW = 3
FAILURE_COOLDOWNS_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
JITTER = 0.1  # lengthens a cooldown for failures by up to this share, so that workers do not probe in step
RATE_LIMIT_COOLDOWN_SECONDS = 5.0  # where the upstream does not say how long
CREDENTIALS_COOLDOWN_SECONDS = 60.0

_FAILURES = frozenset((Cause.BROKEN, Cause.TIMED_OUT))


class Pool:
    """The endpoints of one model.

    Every `now` is in seconds of one monotonic clock.
    """

    def __init__(self, model: Model, random: Random) -> None:
        self.model = model
        self._random = random
        self._tiers = _tiers(model)
        self._slots = {slot.id: slot for tier in self._tiers for slot in tier.slots}
        self._successor: Pool | None = None
        self._on_change: Callable[[], None] | None = None

    def take(self, now: float, tried: Container[str] = (), conversation: int | None = None) -> Lease | None:
        """Lease a free endpoint of the lowest priority, by rotation.

        None where there is none.

        `tried`: ids (as text) of endpoints to leave out. `conversation`: which goes to one endpoint if it can.
        """
        for tier in self._tiers:
            free = []
            for slot in tier.slots:  # each request comes this way: `is_free`, without its calls
                health = slot.health
                if (
                    health.until <= now
                    and health.in_flight < slot.max_in_flight
                    and not (health.on_probation and health.probes)
                    and slot.id not in tried
                ):
                    free.append(slot)
            if not free:
                continue
            slot = free[0] if len(tier.slots) == 1 else tier.rotation.choose(free, conversation)
            health = slot.health
            health.in_flight += 1
            is_probe = health.on_probation
            if is_probe:
                health.probes += 1
            return Lease(self, health, health.epoch, slot.endpoint, slot.id, is_probe, is_probe)
        return None

    def has_free(self, now: float, left_out: Container[str] = ()) -> bool:
        """Whether `take` would give an endpoint."""
        for slot in self._slots.values():  # noqa: SIM110  # the first nearly always is: `any` would be more calls
            if slot.is_free(now) and slot.id not in left_out:
                return True
        return False

    def free_at(self, now: float, left_out: Container[str] = ()) -> float:
        """When an endpoint may be free at the soonest.

        `now` where it is, or where the end of a request decides it; infinite where there is none.
        """
        return min((slot.free_at(now) for slot in self._slots.values() if slot.id not in left_out), default=inf)

    def next_end(self, now: float) -> float:
        """When the next cooldown ends; infinite where none runs."""
        ends = [slot.health.until for slot in self._slots.values() if slot.health.is_cooling(now)]
        return min(ends, default=inf)

    def ends(self) -> tuple[float, ...]:
        """When each endpoint's last cooldown ends, or ended."""
        return tuple([slot.health.until for slot in self._slots.values()])

    def listen(self, on_change: Callable[[], None] | None) -> None:
        """Call this whenever an endpoint may have become free, or cools.

        In the midst of the change: it must do no more than note it.
        """
        self._on_change = on_change
        for slot in self._slots.values():
            slot.health.on_change = on_change

    def blocked(self, now: float, tried: Container[str] = ()) -> list[Obstacle]:
        """List why each endpoint outside `tried` cannot be taken now.

        Those that can be are not in it.
        """
        obstacles = []
        for slot in self._slots.values():
            if slot.id in tried:
                continue
            if slot.health.is_cooling(now):
                obstacles.append(Obstacle(slot.health.cause, slot.health.until, attempted=False))
            elif slot.is_being_probed():
                obstacles.append(Obstacle(slot.health.cause, now, attempted=False))
            elif slot.is_full():
                obstacles.append(Obstacle(Blocked.FULL, now, attempted=False))
        return obstacles

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

    def reset(self, endpoint_id: str) -> bool:
        """End a cooldown for an admin, and forget its failures.

        False where the id is unknown.
        """
        slot = self._slots.get(endpoint_id)
        if slot is None:
            return False
        slot.health.forget()
        return True

    def adopt(self, other: Pool) -> None:
        """Take over the state of `other` after a reload.

        Of endpoints with the same id and the same base URL.

        Their health is shared from here on, so requests still in flight on `other` count here as well.
        """
        other._successor = self
        for slot in self._slots.values():
            theirs = other._slots.get(slot.id)
            if theirs is not None and theirs.endpoint.url == slot.endpoint.url:
                _inherit(slot, theirs)
        if self._layout() == other._layout():
            self._go_on_from(other)
        if other._on_change is not None:
            self.listen(other._on_change)
            other._on_change()

    def snapshot(self, now: float) -> list[EndpointState]:
        """Every endpoint by priority, as admin routes and logs show it."""
        return [slot.snapshot(now) for slot in self._slots.values()]

    def order(self, now: float) -> list[str]:
        """List the endpoints that one request would try now, in turn.

        Their ids, if each of them failed. Changes nothing.
        """
        rehearsal = Pool(self.model, self._random)
        rehearsal._go_on_from(self)
        for slot in rehearsal._slots.values():
            slot.health = copy.copy(self._slots[slot.id].health)
        tried: list[str] = []
        while (lease := rehearsal.take(now, tried)) is not None:
            tried.append(lease.endpoint_id)
        return tried

    def judge(self, lease: Lease, cause: Cause, now: float, retry_after_seconds: float | None) -> Cooldown | None:
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

    def judge_request(self, lease: Lease, body: bytes, now: float) -> Cooldown | None:
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

    def _latest(self) -> Pool:
        pool = self
        while pool._successor is not None:
            pool = pool._successor
        return pool

    def _layout(self) -> list[tuple[object, ...]]:
        return [(self.model.rotation, slot.id, slot.endpoint.priority, slot.weight) for slot in self._slots.values()]

    def _go_on_from(self, other: Pool) -> None:
        for mine, theirs in zip(self._tiers, other._tiers, strict=True):
            mine.go_on_from(theirs)

    def __repr__(self) -> str:
        endpoints = ", ".join(repr(slot) for slot in self._slots.values()) or "no endpoints"
        return f"<pool of model {self.model.name} by {self.model.rotation}: {endpoints}>"


def _tiers(model: Model) -> tuple[Tier, ...]:
    priorities = sorted({endpoint.priority for endpoint in model.endpoints})
    return tuple(_tier(model, priority) for priority in priorities)


def _tier(model: Model, priority: int) -> Tier:
    endpoints = [endpoint for endpoint in model.endpoints if endpoint.priority == priority]
    return Tier([Slot(endpoint, position) for position, endpoint in enumerate(endpoints)], model.rotation)


def _inherit(slot: Slot, predecessor: Slot) -> None:
    slot.health = predecessor.health
    # A corrected credential deserves its chance at once, not after what is left of the old one's minute.
    if slot.health.cause is Cause.CREDENTIALS and not same_credential(slot.endpoint, predecessor.endpoint):
        slot.health.until = -inf


def _asked_for(retry_after_seconds: float | None) -> float:
    if retry_after_seconds is None:
        return RATE_LIMIT_COOLDOWN_SECONDS
    return min(max(retry_after_seconds, 0.0), LONGEST_WAIT_SECONDS)
