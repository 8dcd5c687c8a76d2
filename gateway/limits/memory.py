"""A limiter within one process.

Plain dictionaries on one event loop: nothing between two awaits needs a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from gateway.limits.base import Rebuild, Reservation
from gateway.limits.flights import Flights
from gateway.limits.periods import bounds
from gateway.limits.told import refusal
from gateway.limits.values import (
    WINDOW_SECONDS,
    Demand,
    Standing,
    Totals,
    Used,
    is_windowed,
    nano,
    totals_period,
)
from gateway.types import Limits, Period

# How far `now` may lie behind what a scope has seen without the scope taking it for a step of the clock: requests that
# waited for a load come back with the time at which they began to wait.
_LATE_SECONDS = 5.0
# A clock that steps back over a period's edge by less stays in the period that has begun.
_EDGE_SECONDS = 60.0
_MOST_LOOKED_AT = 100  # entries of a window, in search of the moment when it has room
_DROPPED_AT_A_TIME = 2  # more than one, so that dropping keeps ahead of what comes


class _Count:
    """The totals of one period of a scope. Money in nano."""

    __slots__ = ("cost", "cost_reserved", "end", "requests", "start", "tokens", "tokens_reserved")

    def __init__(self, start: int, end: int, totals: Totals) -> None:
        self.start = start
        self.end = end
        self.requests = totals.requests
        self.tokens = totals.tokens
        self.cost = nano(totals.cost)
        self.tokens_reserved = 0
        self.cost_reserved = 0

    def has_room(self, limits: Limits) -> bool:
        return (
            (limits.requests is None or self.requests < limits.requests)
            and (limits.tokens is None or self.tokens + self.tokens_reserved < limits.tokens)
            and (limits.cost is None or self.cost + self.cost_reserved < nano(limits.cost))
        )


class _Scope:
    """What is counted together under one name."""

    __slots__ = ("counts", "latest", "leaves_at", "running", "touched", "window", "window_tokens")

    def __init__(self) -> None:
        self.counts: dict[Period, _Count] = {}
        self.running = 0
        self.touched = 0.0
        self.window: OrderedDict[str, _Hold] = OrderedDict()  # admissions of the last 60 s by request id, oldest first
        self.window_tokens = 0
        self.latest = 0.0  # no admission in the window is newer
        self.leaves_at = 0.0  # none leaves the window earlier

    def slide(self, now: float) -> float:
        """Lets go what is 60 s old. Returns the time to go by: never before the newest admission."""
        if now < self.latest:
            now = self._back_at(now)
        if now >= self.leaves_at:
            self._let_go(now)
        return now

    def enter(self, hold: _Hold, now: float) -> None:
        if not self.window:
            self.leaves_at = now + WINDOW_SECONDS
        self.window[hold.request_id] = hold
        self.window_tokens += hold.tokens
        self.latest = now

    def leave(self, hold: _Hold) -> None:
        del self.window[hold.request_id]
        self.window_tokens -= hold.tokens
        self.leaves_at = 0.0  # to be looked for anew

    def _let_go(self, now: float) -> None:
        window = self.window
        while window:
            oldest = window[next(iter(window))]
            if now - oldest.time < WINDOW_SECONDS:
                self.leaves_at = oldest.time + WINDOW_SECONDS
                return
            window.popitem(last=False)
            self.window_tokens -= oldest.tokens
            oldest.in_window = False

    def _back_at(self, now: float) -> float:
        """The time to go by where `now` lies before the latest admission."""
        newest = next((hold.time for hold in reversed(self.window.values())), now)
        if newest <= now:
            return now
        if newest - now <= _LATE_SECONDS:
            return newest
        for hold in self.window.values():  # the clock has stepped back: the window keeps its shape and goes with it
            hold.time -= newest - now
        self.latest, self.leaves_at = now, self.leaves_at - (newest - now)
        return now

    def count_at(self, period: Period, now: float) -> _Count | None:
        """The totals of the period of `now`; None where the ledger has to be asked.

        It need not be asked for a period that directly follows one that was counted: it starts from nothing.
        """
        count = self.counts.get(period)
        if count is None or count.start - _EDGE_SECONDS <= now < count.end:
            return count
        start, end = bounds(period, now)
        if start != count.end:
            return None
        count = self.counts[period] = _Count(start, end, Totals())
        return count

    def has_room(self, limits: Limits) -> bool:
        return (
            (limits.rpm is None or len(self.window) < limits.rpm)
            and (limits.tpm is None or self.window_tokens < limits.tpm)
            and (limits.concurrency is None or self.running < limits.concurrency)
        )

    def standing(self, count: _Count | None, now: float, rpm_wait: float = 0.0, tpm_wait: float = 0.0) -> Standing:
        window = self.window
        leaves = self.leaves_at - now if window else WINDOW_SECONDS
        if count is None:
            return Standing(len(window), self.window_tokens, leaves, self.running, rpm_wait=rpm_wait, tpm_wait=tpm_wait)
        return Standing(
            len(window),
            self.window_tokens,
            leaves,
            self.running,
            count.requests,
            count.tokens,
            count.cost,
            count.tokens_reserved,
            count.cost_reserved,
            count.start,
            count.end,
            rpm_wait,
            tpm_wait,
        )

    def rpm_wait(self, rpm: int, now: float) -> float:
        """Seconds until so many of the oldest have left that one more request has room."""
        to_leave = len(self.window) - rpm + 1
        if to_leave <= 0:
            return 0.0
        leaver = next(islice(self.window.values(), to_leave - 1, None), None)
        return WINDOW_SECONDS if leaver is None else leaver.time + WINDOW_SECONDS - now

    def tpm_wait(self, tpm: int, now: float) -> float:
        """The same for tokens; a lower bound where more than a hundred would have to leave."""
        left, wait = self.window_tokens, 0.0
        for hold in islice(self.window.values(), _MOST_LOOKED_AT):
            if left < tpm:
                return wait
            left -= hold.tokens
            wait = hold.time + WINDOW_SECONDS - now
        return wait if tpm > 0 and wait else WINDOW_SECONDS


class _Hold:
    """What one running request holds of one scope. It stays in the window after it has ended."""

    __slots__ = ("cost_reserved", "count", "in_window", "request_id", "scope", "time", "tokens")

    def __init__(
        self, request_id: str, scope: _Scope, count: _Count | None, tokens: int, cost: int, at: float | None
    ) -> None:
        """Takes place in `scope` and `count`, and, at the time `at`, in the window."""
        self.request_id = request_id
        self.scope = scope
        self.count = count
        self.tokens = tokens
        self.cost_reserved = cost
        self.in_window = at is not None
        scope.running += 1
        if at is not None:
            self.time = at
            scope.enter(self, at)
        if count is not None:
            count.requests += 1
            count.tokens_reserved += tokens
            count.cost_reserved += cost

    def settle(self, tokens: int, cost: int) -> None:
        self._release()
        if self.count is not None:
            self.count.tokens += tokens
            self.count.cost += cost
        if self.in_window:
            self.scope.window_tokens += tokens - self.tokens
        self.tokens = tokens

    def cancel(self) -> None:
        self._release()
        if self.count is not None:
            self.count.requests -= 1
        if self.in_window:
            self.scope.leave(self)

    def _release(self) -> None:
        self.scope.running -= 1
        if self.count is not None:
            self.count.tokens_reserved -= self.tokens
            self.count.cost_reserved -= self.cost_reserved


class MemoryLimiter:
    """See `base`. Scopes that nobody has asked for in `idle_seconds` are forgotten; their totals are in the ledger.

    `idle_seconds` must be well above the time that the ledger needs until it can tell of a request that has ended.
    """

    def __init__(self, rebuild: Rebuild, *, idle_seconds: float = 600.0) -> None:
        self._rebuild = rebuild
        self._idle_seconds = idle_seconds
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()  # longest unused first
        self._holds: dict[str, tuple[Reservation, list[_Hold]]] = {}
        self._loads = Flights()

    def __repr__(self) -> str:
        return f"<MemoryLimiter: {len(self._scopes)} scopes, {len(self._holds)} running>"

    async def reserve(
        self, request_id: str, demands: Sequence[Demand], *, tokens: int, cost: float, now: float
    ) -> Reservation:
        held = self._holds.get(request_id)
        if held is not None:
            return held[0]
        while (reservation := self._admit(request_id, demands, tokens, cost, now)) is None:
            await self._load_missing(demands, now)
        return reservation

    def settle(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        held = self._holds.pop(reservation.request_id, None)
        if held is not None:
            cost_nano = nano(cost)
            for hold in held[1]:
                hold.settle(tokens, cost_nano)

    def cancel(self, reservation: Reservation, *, now: float) -> None:
        held = self._holds.pop(reservation.request_id, None)
        if held is not None:
            for hold in held[1]:
                hold.cancel()

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

    async def close(self) -> None:
        await self._loads.close()

    # -- admission

    def _admit(
        self, request_id: str, demands: Sequence[Demand], tokens: int, cost: float, now: float
    ) -> Reservation | None:
        """The atomic step; no await within. None where totals have to be loaded first."""
        taken: list[tuple[_Scope, _Count | None, float | None]] = []
        has_room = True
        for name, limits in demands:
            scope = self._touch(name, now)
            at = scope.slide(now) if is_windowed(limits) else None
            period = totals_period(limits)
            count = None
            if period is not None:
                count = scope.count_at(period, now)
                if count is None:
                    return None
                has_room = has_room and count.has_room(limits)
            has_room = has_room and scope.has_room(limits)
            taken.append((scope, count, at))
        if not has_room:
            raise refusal(demands, [self._standing(demand, now) for demand in demands], now)
        return self._take(request_id, demands, taken, tokens, cost, now)

    def _take(
        self,
        request_id: str,
        demands: Sequence[Demand],
        taken: list[tuple[_Scope, _Count | None, float | None]],
        tokens: int,
        cost: float,
        now: float,
    ) -> Reservation:
        cost_nano = nano(cost)
        holds = [_Hold(request_id, scope, count, tokens, cost_nano, at) for scope, count, at in taken]
        standings = [scope.standing(count, now if at is None else at) for scope, count, at in taken]
        reservation = Reservation(request_id, demands, tokens, cost, standings, now)
        self._holds[request_id] = reservation, holds
        return reservation

    def _standing(self, demand: Demand, now: float) -> Standing:
        scope, limits = self._touch(demand.scope, now), demand.limits
        at = scope.slide(now)
        period = totals_period(limits)
        return scope.standing(
            None if period is None else scope.count_at(period, now),
            at,
            rpm_wait=0.0 if limits.rpm is None else scope.rpm_wait(limits.rpm, at),
            tpm_wait=0.0 if limits.tpm is None else scope.tpm_wait(limits.tpm, at),
        )

    def _touch(self, name: str, now: float) -> _Scope:
        scopes = self._scopes
        scope = scopes.get(name)
        if scope is None:
            self._drop_idle(now)
            scope = scopes[name] = _Scope()
        else:
            scopes.move_to_end(name)
        scope.touched = now
        return scope

    def _drop_idle(self, now: float) -> None:
        """Looks at the longest unused few, whenever a scope is added: no more than are in use can pile up."""
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
        for name, limits in demands:
            period = totals_period(limits)
            while period is not None and self._touch(name, now).count_at(period, now) is None:
                await self._load(name, period, now)

    async def _load(self, name: str, period: Period, now: float) -> None:
        start, end = bounds(period, now)

        async def load() -> None:
            totals = await self._rebuild(name, float(start))
            self._touch(name, now).counts[period] = _Count(start, end, totals)

        await self._loads.join((name, period, start), load)
