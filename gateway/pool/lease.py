"""One request's hold on an endpoint, and its verdict."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.pool.state import Cause, Cooldown, Health, Obstacle, Slot
from gateway.types import Endpoint


class Judge(Protocol):
    """The pool, as a lease knows it."""

    def judge(self, lease: Lease, cause: Cause, now: float, retry_after_seconds: float | None) -> Cooldown | None: ...

    def judge_request(self, lease: Lease, body: bytes, now: float) -> Cooldown | None: ...


class Lease(msgspec.Struct, eq=False):
    """One request's hold on an endpoint, released by its holder.

    For a stream that is at the stream's end. `Pool.take` makes it, and counts it as one in flight.

    A request that is cancelled is released without a verdict, which says nothing against the endpoint.
    Verdicts may come late (after a reload, after the release, under a longer cooldown): then they do no harm.
    """

    _pool: Judge
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
