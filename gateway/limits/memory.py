"""A limiter within one process: reserve, settle.

Plain dictionaries on one event loop: nothing between two awaits needs a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import msgspec

from gateway.limits.base import OnSettled, Rebuild
from gateway.limits.counts import EDGE_SECONDS, Admitted, Count, Scope
from gateway.limits.demand import (
    NANO_PER_UNIT,
    WINDOW_SECONDS,
    Bounds,
    Demand,
    Standing,
    Used,
    still_asked,
    totals_period,
)
from gateway.limits.over_limit import refusal
from gateway.limits.periods import bounds
from gateway.limits.reservation import Reservation
from gateway.single_flight import SingleFlight
from gateway.types import Limits, Period

_DROPPED_AT_A_TIME = 2  # more than one, so that dropping keeps ahead of what comes


class MemoryLimiter:
    """Keep limits in this process's memory; see `base`.

    Scopes unused for `idle_seconds` are forgotten; their totals are in the ledger.

    `idle_seconds` must be well above the time that the ledger needs until it can tell of a request that has ended.
    """

    def __init__(self, rebuild: Rebuild, *, idle_seconds: float = 600.0) -> None:
        self.on_settled: OnSettled | None = None
        self._rebuild = rebuild
        self._idle_seconds = idle_seconds
        self._scopes: OrderedDict[str, Scope] = OrderedDict()  # longest unused first
        self._holds: dict[str, tuple[Reservation, list[Hold]]] = {}
        self._loads: SingleFlight[None] = SingleFlight()

    def __repr__(self) -> str:
        return f"<MemoryLimiter: {len(self._scopes)} scopes, {len(self._holds)} running>"

    async def reserve(
        self,
        request_id: str,
        demands: Sequence[Demand],
        *,
        tokens: int,
        cost: float,
        now: float,
        place: Reservation | None = None,
        requests: int = 1,
    ) -> Reservation:
        held = self._holds.get(request_id)
        if held is not None:
            return held[0]
        wanted = Reservation(request_id, demands, tokens, cost, (), now, requests)
        while not self._admit(wanted, place):
            await self._load_missing(demands, now)
        return wanted

    def settle(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        held = self._holds.pop(reservation.request_id, None)
        if held is not None:
            cost_nano = round(cost * NANO_PER_UNIT)  # `nano`, without a call
            for each in held[1]:
                each.settle(tokens, cost_nano)
            if self.on_settled is not None:
                self.on_settled(held[0], tokens, cost_nano)

    def cancel(self, reservation: Reservation, *, now: float) -> None:
        held = self._holds.pop(reservation.request_id, None)
        if held is not None:
            for hold in held[1]:
                hold.cancel()

    def detach(self, reservation: Reservation, *, now: float) -> None:
        held = self._holds.get(reservation.request_id)
        if held is not None:
            for hold in held[1]:
                hold.detach()

    async def hold(self, reservation: Reservation) -> None:
        now = reservation.now
        if reservation.request_id in self._holds:
            for demand in reservation.demands:  # lest its scopes be dropped as idle
                self._touch(demand.scope, now)
            return
        await self._load_missing(reservation.demands, now)
        holds = []
        for demand, at in zip(reservation.demands, reservation.standings, strict=True):
            scope, period = self._touch(demand.scope, now), totals_period(demand.limits)
            count = scope.count_at(period, now) if period is not None else None
            if count is not None and count.start != at.period_start:
                count = None
            hold = Hold(reservation, demand.bounds, scope, count, now, False)
            hold.take()
            hold.detach()
            holds.append(hold)
        self._holds[reservation.request_id] = reservation, holds

    def settle_held(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        self.settle(reservation, tokens=tokens, cost=cost, now=now)

    async def used(self, scope: str, limits: Limits, now: float) -> Used:
        if totals_period(limits) is None:  # not counted here
            return await self._rebuild(scope, float(bounds(limits.period, now)[0]))
        return (await self.standing((Demand(scope, limits),), now))[0].used

    async def standing(self, demands: Sequence[Demand], now: float) -> list[Standing]:
        await self._load_missing(demands, now)
        return [self._standing(demand, now) for demand in demands]

    @property
    def is_degraded(self) -> bool:
        return False

    @property
    def is_behind(self) -> bool:
        return False

    async def close(self) -> None:
        await self._loads.close()

    # -- admission

    def _admit(self, wanted: Reservation, place: Reservation | None) -> bool:
        """Reserve in one atomic step, without an await.

        False where totals have to be loaded first.
        """
        demands, now = wanted.demands, wanted.now
        asked = demands if place is None else still_asked(demands, place.demands)
        holds = []
        for demand, left in zip(demands, asked, strict=True):
            hold = self._asked_for(wanted, demand, left.bounds)
            if hold is None:
                return False
            holds.append(hold)
        if not all(map(Hold.has_room, holds)):
            raise refusal(demands, [self._standing(demand, now) for demand in demands], now, asked, wanted.requests)
        if place is not None:
            self.cancel(place, now=now)
            for hold in holds:  # it may have been the oldest of their minute
                hold.scope.slide(hold.time)
        wanted.standings = list(map(Hold.take, holds))
        self._holds[wanted.request_id] = wanted, holds
        return True

    def _asked_for(self, wanted: Reservation, demand: Demand, bounds: Bounds) -> Hold | None:
        """Find where the demand is counted; None where totals are missing."""
        now, period, count = wanted.now, demand.period, None
        scope = self._touch(demand.scope, now)
        if period is not None:
            count = scope.counts.get(period)
            if count is None or not count.start - EDGE_SECONDS <= now < count.end:
                count = scope.count_at(period, now)
                if count is None:
                    return None
        is_windowed = demand.is_windowed
        if is_windowed and (now < scope.latest or now >= scope.leaves_at):
            now = scope.slide(now)
        return Hold(wanted, bounds, scope, count, now, is_windowed)

    def _standing(self, demand: Demand, now: float) -> Standing:
        scope, limits = self._touch(demand.scope, now), demand.limits
        at = scope.slide(now)
        period = demand.period
        return standing_of(
            scope,
            None if period is None else scope.count_at(period, now),
            at,
            rpm_wait=0.0 if limits.rpm is None else scope.rpm_wait(limits.rpm, at),
            tpm_wait=0.0 if limits.tpm is None else scope.tpm_wait(limits.tpm, at),
        )

    def _touch(self, name: str, now: float) -> Scope:
        scopes = self._scopes
        scope = scopes.get(name)
        if scope is None:
            self._drop_idle(now)
            scope = scopes[name] = Scope()
        else:
            scopes.move_to_end(name)
        scope.touched = now
        return scope

    def _drop_idle(self, now: float) -> None:
        """Drop a few of the longest unused scopes.

        Called whenever a scope is added: no more than are in use can pile up.
        """
        for name in list(islice(self._scopes, _DROPPED_AT_A_TIME)):
            scope = self._scopes[name]
            if now - scope.touched < self._idle_seconds:
                return
            if scope.running:
                self._scopes.move_to_end(name)
            else:
                del self._scopes[name]

    # -- totals from the ledger

    async def _load_missing(self, demands: Sequence[Demand], now: float) -> None:
        for demand in demands:
            name, period = demand.scope, demand.period
            while period is not None and self._touch(name, now).count_at(period, now) is None:
                await self._load(name, period, now)

    async def _load(self, name: str, period: Period, now: float) -> None:
        start, end = bounds(period, now)

        async def load() -> None:
            totals = await self._rebuild(name, float(start))
            self._touch(name, now).install(period, Count(start, end, totals), now)

        await self._loads.join((name, period, start), load)


class Hold(msgspec.Struct, eq=False):
    """One request's reservation in one scope: asked for, then taken.

    It reserves no more than what is left of a limit: then one large request is not felt beyond its own end.
    """

    wanted: Reservation
    bounds: Bounds
    scope: Scope
    count: Count | None  # None where no totals are limited
    time: float  # by which the window goes
    is_windowed: bool
    is_running: bool = False
    admitted: Admitted | None = None  # where there are limits by the minute
    tokens_reserved: int = 0
    cost_reserved: int = 0

    def has_room(self) -> bool:
        rpm, tpm, concurrency, requests, tokens, cost = self.bounds
        scope, count = self.scope, self.count
        return (
            scope.window_requests < rpm
            and scope.window_tokens < tpm
            and scope.running < concurrency
            and (
                count is None
                or (
                    count.requests + self.wanted.requests <= requests
                    and count.tokens + count.tokens_reserved < tokens
                    and count.cost + count.cost_reserved < cost
                )
            )
        )

    def take(self) -> Standing:
        """Reserve; return how the demand stands with it."""
        wanted, scope, count, now = self.wanted, self.scope, self.count, self.time
        tokens, requests, cost = wanted.tokens, wanted.requests, 0
        if wanted.cost:
            cost = round(wanted.cost * NANO_PER_UNIT)  # `nano`, without a call
        _, most_of_minute, _, _, most_tokens, most_cost = self.bounds
        self.is_running = True
        scope.running += 1
        if self.is_windowed:
            taken = scope.window_tokens
            if not scope.window_requests:
                scope.leaves_at = now + WINDOW_SECONDS
            scope.window_requests += 1
            scope.latest = now
            here = tokens if taken + tokens <= most_of_minute else max(0, most_of_minute - taken)
            self.admitted = Admitted(now, here)
            scope.window.append(self.admitted)
            scope.window_tokens = taken + here
        if count is not None:
            taken = count.tokens + count.tokens_reserved
            self.tokens_reserved = reserved = tokens if taken + tokens <= most_tokens else max(0, most_tokens - taken)
            count.tokens_reserved += reserved
            count.requests += requests
            count.requests_reserved += requests
            if cost:
                taken = count.cost + count.cost_reserved
                self.cost_reserved = cost if taken + cost <= most_cost else max(0, most_cost - taken)
                count.cost_reserved += self.cost_reserved
        return standing_of(scope, count, now)

    def settle(self, tokens: int, cost: int) -> None:
        scope, count = self.scope, self.count
        if self.is_running:
            self.is_running = False
            scope.running -= 1
        if count is not None:
            count.requests_reserved -= self.wanted.requests
            count.tokens_reserved -= self.tokens_reserved
            count.cost_reserved -= self.cost_reserved
            count.tokens += tokens
            count.cost += cost
        admitted = self.admitted
        if admitted is not None and admitted.in_window:
            scope.window_tokens += tokens - admitted.tokens
            admitted.tokens = tokens

    def cancel(self) -> None:
        self.settle(0, 0)
        if self.count is not None:
            self.count.requests -= self.wanted.requests
        if self.admitted is not None and self.admitted.in_window:
            self.scope.leave(self.admitted)

    def detach(self) -> None:
        """It runs on without a place among running ones."""
        if self.is_running:
            self.is_running = False
            self.scope.running -= 1


def standing_of(
    scope: Scope, count: Count | None, now: float, rpm_wait: float = 0.0, tpm_wait: float = 0.0
) -> Standing:
    requests = scope.window_requests
    leaves = scope.leaves_at - now if requests else WINDOW_SECONDS
    if count is None:
        return Standing(requests, scope.window_tokens, leaves, scope.running, rpm_wait=rpm_wait, tpm_wait=tpm_wait)
    return Standing(
        requests,
        scope.window_tokens,
        leaves,
        scope.running,
        count.requests,
        count.tokens,
        count.cost,
        count.tokens_reserved,
        count.cost_reserved,
        count.start,
        count.end,
        rpm_wait,
        tpm_wait,
        count.requests_reserved,
    )
