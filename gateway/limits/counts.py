"""Counters of the in-memory limiter: scopes, period totals, reservations."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec

from gateway.limits.base import Reservation
from gateway.limits.demand import WINDOW_SECONDS, Bounds, Standing, Used, nano
from gateway.limits.periods import bounds
from gateway.types import Period

# How far `now` may lie behind what a scope has seen without the scope taking it for a step of the clock: requests that
# waited for a load come back with the time at which they began to wait.
_LATE_SECONDS = 5.0
# A clock that steps back over a period's edge by less stays in the period that has begun.
_EDGE_SECONDS = 60.0
_MOST_LOOKED_AT = 100  # entries of a window, in search of the moment when it has room


class Count:
    """The totals of one period of a scope. Money in nano."""

    __slots__ = ("cost", "cost_reserved", "end", "requests", "requests_reserved", "start", "tokens", "tokens_reserved")

    def __init__(self, start: int, end: int, totals: Used) -> None:
        self.start = start
        self.end = end
        self.requests = totals.requests
        self.tokens = totals.tokens
        self.cost = nano(totals.cost)
        self.requests_reserved = 0  # those of `requests` that are running
        self.tokens_reserved = 0
        self.cost_reserved = 0


class Admitted(msgspec.Struct, gc=False):
    """A request in a window of 60 s, running or over.

    There are many of them: of numbers alone, none is looked at when garbage is collected. One that is no longer
    `in_window` has been cancelled, or is too old.
    """

    time: float
    tokens: int
    in_window: bool = True


class Scope:
    """What is counted together under one name."""

    __slots__ = (
        "counts",
        "latest",
        "leaves_at",
        "running",
        "touched",
        "window",
        "window_requests",
        "window_tokens",
    )

    def __init__(self) -> None:
        self.counts: dict[Period, Count] = {}
        self.running = 0
        self.touched = 0.0
        self.window: deque[Admitted] = (
            deque()
        )  # those of the last 60 s, oldest first; the newest has not been cancelled
        self.window_requests = 0  # without those that were cancelled
        self.window_tokens = 0
        self.latest = 0.0  # no admission in the window is newer
        self.leaves_at = 0.0  # none leaves the window earlier

    def slide(self, now: float) -> float:
        """Drop admissions older than 60 s; return the time to go by.

        It is never before the newest admission.
        """
        if now < self.latest:
            now = self._back_at(now)
        if now >= self.leaves_at:
            self._let_go(now)
        return now

    def leave(self, cancelled: Admitted) -> None:
        window = self.window
        cancelled.in_window = False
        self.window_requests -= 1
        self.window_tokens -= cancelled.tokens
        while window and not window[-1].in_window:
            window.pop()
        self.leaves_at = 0.0  # to be looked for anew

    def _let_go(self, now: float) -> None:
        window = self.window
        while window:
            oldest = window[0]
            if oldest.in_window:
                if now - oldest.time < WINDOW_SECONDS:
                    self.leaves_at = oldest.time + WINDOW_SECONDS
                    return
                self.window_requests -= 1
                self.window_tokens -= oldest.tokens
                oldest.in_window = False
            window.popleft()

    def _back_at(self, now: float) -> float:
        """The time to go by where `now` lies before the latest admission."""
        newest = self.window[-1].time if self.window else now
        if newest <= now:
            return now
        if newest - now <= _LATE_SECONDS:
            return newest
        for each in self.window:  # the clock has stepped back: the window keeps its shape and goes with it
            each.time -= newest - now
        self.latest, self.leaves_at = now, self.leaves_at - (newest - now)
        return now

    def count_at(self, period: Period, now: float) -> Count | None:
        """Return the totals of `now`'s period, None where the ledger has them.

        It need not be asked for a period that directly follows one that was counted: it starts from nothing.
        """
        count = self.counts.get(period)
        if count is None or count.start - _EDGE_SECONDS <= now < count.end:
            return count
        start, end = bounds(period, now)
        if start != count.end:
            return None
        count = self.counts[period] = Count(start, end, Used())
        return count

    def install(self, period: Period, count: Count, now: float) -> None:
        """Take the ledger's totals, unless a later period counts already."""
        known = self.counts.get(period)
        if known is None or not count.start <= known.start <= now + _EDGE_SECONDS:
            self.counts[period] = count

    def standing(self, count: Count | None, now: float, rpm_wait: float = 0.0, tpm_wait: float = 0.0) -> Standing:
        requests = self.window_requests
        leaves = self.leaves_at - now if requests else WINDOW_SECONDS
        if count is None:
            return Standing(requests, self.window_tokens, leaves, self.running, rpm_wait=rpm_wait, tpm_wait=tpm_wait)
        return Standing(
            requests,
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
            count.requests_reserved,
        )

    def rpm_wait(self, rpm: int, now: float) -> float:
        """Return the seconds until the window has room for one more request."""
        to_leave = self.window_requests - rpm + 1
        if to_leave <= 0:
            return 0.0
        leaver = next(islice(self._counted(), to_leave - 1, None), None)
        return WINDOW_SECONDS if leaver is None else leaver.time + WINDOW_SECONDS - now

    def tpm_wait(self, tpm: int, now: float) -> float:
        """Return the seconds until the window has room for the tokens.

        A lower bound where more than a hundred would have to leave.
        """
        left, wait = self.window_tokens, 0.0
        for each in islice(self._counted(), _MOST_LOOKED_AT):
            if left < tpm:
                return wait
            left -= each.tokens
            wait = each.time + WINDOW_SECONDS - now
        return wait if tpm > 0 and wait else WINDOW_SECONDS

    def _counted(self) -> Iterator[Admitted]:
        return (each for each in self.window if each.in_window)


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
        tokens, requests, cost = wanted.tokens, wanted.requests, nano(wanted.cost) if wanted.cost else 0
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
        return scope.standing(count, now)

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
