"""Count a scope's use, in a window of 60 s and in totals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec

from gateway.limits.demand import WINDOW_SECONDS, Used, nano
from gateway.limits.periods import bounds
from gateway.types import Period

# How far `now` may lie behind what a scope has seen without the scope taking it for a step of the clock: requests that
# waited for a load come back with the time at which they began to wait.
_LATE_SECONDS = 5.0
_MOST_CANCELLED = 1_000  # beyond as many as the others: they are no longer carried along
# A clock that steps back over a period's edge by less stays in the period that has begun.
EDGE_SECONDS = 60.0
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
        if len(window) > 2 * self.window_requests + _MOST_CANCELLED:
            self.window = deque(each for each in window if each.in_window)
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
        if count is None or count.start - EDGE_SECONDS <= now < count.end:
            return count
        start, end = bounds(period, now)
        if start != count.end:
            return None
        count = self.counts[period] = Count(start, end, Used())
        return count

    def install(self, period: Period, count: Count, now: float) -> None:
        """Take the ledger's totals, unless a later period counts already."""
        known = self.counts.get(period)
        if known is None or not count.start <= known.start <= now + EDGE_SECONDS:
            self.counts[period] = count

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
