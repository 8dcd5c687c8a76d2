"""Encode limits for the Redis script, and decode its replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.limits.demand import Demand, Standing, nano, still_asked, totals_period
from gateway.limits.reservation import Reservation

MICROSECONDS = 1_000_000
ADMITTED, REFUSED = 0, 1
_FIGURES = 14  # of each standing in an answer


class Wish(NamedTuple):
    """What a reserve asks for. `place`: what the request has already."""

    request_id: str
    demands: Sequence[Demand]
    tokens: int
    cost: float
    now: float
    place: Reservation | None = None
    requests: int = 1

    def asked(self) -> Sequence[Demand]:
        return self.demands if self.place is None else still_asked(self.demands, self.place.demands)

    def figures(self) -> tuple[Any, ...]:
        """As the script takes them."""
        name, placed = "", set()
        if self.place is not None:
            name, placed = self.place.request_id, {demand.scope for demand in self.place.demands}
        rows = [(*_row(demand), demand.scope in placed) for demand in self.demands]
        return self.request_id, self.tokens, nano(self.cost), rows, name, self.requests

    def reservation(self, standings: Sequence[Standing] = (), now: float | None = None) -> Reservation:
        at = self.now if now is None else now
        return Reservation(self.request_id, self.demands, self.tokens, self.cost, standings, at, self.requests)


class ScriptReply(NamedTuple):
    """The script's reply to a reserve.

    `now` is the time that it went by.
    """

    code: int
    now: float
    standings: list[Standing]

    @classmethod
    def read(cls, reply: Sequence[int]) -> ScriptReply:
        standings = [_standing(reply[at : at + _FIGURES]) for at in range(2, len(reply), _FIGURES)]
        return cls(reply[0], reply[1] / MICROSECONDS, standings)


def _standing(figures: Sequence[int]) -> Standing:
    waits = [figure / MICROSECONDS for figure in (figures[2], figures[11], figures[12])]
    return Standing(figures[0], figures[1], waits[0], *figures[3:11], *waits[1:], *figures[13:])


def _row(demand: Demand) -> tuple[str | int | None, ...]:
    scope, limits = demand.scope, demand.limits
    cost = None if limits.cost is None else nano(limits.cost)
    period = demand.period or ""
    return scope, limits.rpm, limits.tpm, limits.concurrency, limits.requests, limits.tokens, cost, period


def counted(held: Reservation) -> list[tuple[str, str, int, int]]:
    """Return where a reservation is counted: scope, period, starts, requests.

    No starts where it was never admitted.
    """
    starts = [standing.period_start for standing in held.standings] or [0] * len(held.demands)
    return [
        (demand.scope, totals_period(demand.limits) or "", start, held.requests)
        for demand, start in zip(held.demands, starts, strict=True)
    ]


def most(held: Reservation) -> list[tuple[int, int]]:
    """Return each demand's limits of tokens and cost, negative for none."""
    limits = [demand.limits for demand in held.demands]
    return [
        (-1 if each.tokens is None else each.tokens, -1 if each.cost is None else nano(each.cost)) for each in limits
    ]


def end_figures(held: Reservation, kind: str, tokens: int, cost: float) -> tuple[Any, ...]:
    """Return a request's end as the script takes it."""
    return held.request_id, kind, tokens, nano(cost), counted(held)


def entry_figures(held: Reservation, *, detached: bool) -> tuple[Any, ...]:
    """Return a running request as the script enters it again."""
    return held.request_id, held.tokens, nano(held.cost), counted(held), most(held), detached
