"""A model's endpoints, and a request's hold on one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from math import inf
from random import Random

import msgspec

from gateway.pool.cooling import Cooling
from gateway.pool.rotation import Tier
from gateway.pool.state import Blocked, Cause, Cooldown, EndpointState, Health, Obstacle, Slot, same_credential
from gateway.types import Endpoint, Model


class Pool(Cooling):
    """The endpoints of one model: which is free.

    Every `now` is in seconds of one monotonic clock.
    """

    def __init__(self, model: Model, random: Random) -> None:
        self._tiers = _tiers(model)
        super().__init__(model, random, {slot.id: slot for tier in self._tiers for slot in tier.slots})
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

    def _layout(self) -> list[tuple[object, ...]]:
        return [(self.model.rotation, slot.id, slot.endpoint.priority, slot.weight) for slot in self._slots.values()]

    def _go_on_from(self, other: Pool) -> None:
        for mine, theirs in zip(self._tiers, other._tiers, strict=True):
            mine.go_on_from(theirs)

    def __repr__(self) -> str:
        endpoints = ", ".join(repr(slot) for slot in self._slots.values()) or "no endpoints"
        return f"<pool of model {self.model.name} by {self.model.rotation}: {endpoints}>"


class Lease(msgspec.Struct, eq=False):
    """One request's hold on an endpoint, released by its holder.

    For a stream that is at the stream's end. `Pool.take` makes it, and counts it as one in flight.

    A request that is cancelled is released without a verdict, which says nothing against the endpoint.
    Verdicts may come late (after a reload, after the release, under a longer cooldown): then they do no harm.
    """

    _pool: Cooling
    _health: Health
    _epoch: int
    endpoint: Endpoint
    endpoint_id: str
    is_probe: bool
    _is_undecided_probe: bool
    _is_held: bool = True

    def succeeded(self, now: float) -> None:
        """Mark the endpoint alive; the in-flight slot stays held.

        By a first event, a whole answer, or a 4xx to be relayed.

        No success shortens a cooldown, and one of a request from before a cooldown for failures ends neither its
        probation nor its doubling: that takes a request from after it.
        """
        health = self._health
        if health.is_spotless:
            return
        if self._epoch == health.epoch:
            self._end_probe()
            health.succeed()
        else:
            health.end_row()

    def failed(self, cause: Cause, now: float, *, retry_after_seconds: float | None = None) -> Cooldown | None:
        """Count a failed attempt; return the cooldown that it causes.

        One that begins by it, or whose end moves out; None where none does.

        `retry_after_seconds`: what the upstream asks for. For RATE_LIMITED None is the default of 5 s; 0 cools for no
        time at all and is told nevertheless, with `wait_ms` 0. For a BROKEN one it cools at once.
        """
        self._end_probe()
        return self._pool.judge(self, cause, now, retry_after_seconds)

    def failed_by_request(self, body: bytes, now: float) -> Cooldown | None:
        """Count a failure that seems the request's own fault.

        Only the third different request's in a row counts.

        `body`: a digest of the request's body.
        """
        self._end_probe()
        return self._pool.judge_request(self, body, now)

    def obstacle(self, cause: Cause) -> Obstacle:
        """This failed attempt, for `no_answer`. To be asked for after `failed`."""
        return Obstacle(cause, self._health.until, attempted=True)

    def release(self) -> None:
        """Release the in-flight slot, and an undecided probe.

        A second call does nothing.
        """
        if self._is_held:
            self._is_held = False
            health = self._health
            health.in_flight -= 1
            if self._is_undecided_probe:
                self._end_probe()
            if health.on_change is not None:
                health.on_change()

    def concerns(self, slot: Slot) -> bool:
        """Whether the slot still holds the endpoint that was leased.

        A reload may have put another in its place.
        """
        return slot.health is self._health

    def is_outdated(self) -> bool:
        """Whether the endpoint was cooled or reset since the request began."""
        return self._epoch != self._health.epoch

    def _end_probe(self) -> None:
        if self._is_undecided_probe:
            self._is_undecided_probe = False
            if self._epoch == self._health.epoch:
                self._health.probes -= 1

    def __repr__(self) -> str:
        kind = "probe" if self.is_probe else "request"
        state = "held" if self._is_held else "released"
        return f"<lease of endpoint {self.endpoint_id} for a {kind}, {state}>"


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
