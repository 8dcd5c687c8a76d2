"""Watch totals that may have passed a threshold.

A note is made where what is settled and reserved, as of the request's admission, and what it used beyond that, could
have passed the next threshold. A look behind it asks the limiter, and the queue whether the event is new. While running
requests hold what would pass a threshold, the look is repeated.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec

from gateway.alerts.event import Clock, event, time_text
from gateway.alerts.queue import AlertQueue
from gateway.alerts.sender import Receiver
from gateway.alerts.thresholds import Total, amount_at, following, passed, totals_of
from gateway.errors import StoreUnavailable
from gateway.limits import Demand, Limiter, Rebuild, Reservation, Standing, Used, nano
from gateway.limits.demand import totals_period
from gateway.limits.periods import bounds
from gateway.types import Id, Limits
from gateway.usage import exact_cost

MOST_NOTED = 10_000
_LOOKS_AT_A_TIME = 200
_LOOKS_BACK_AT_A_TIME = 50  # of what is in no hurry
_MOST_KNOWN = 20_000
_UNREACHED = 2**63
_LATE_SECONDS = 86_400  # after a period's end, in which somebody may still look at it
_CLOSE = 4  # a request that used more than it reserved is looked at from this part of the next threshold on


_Value = TypeVar("_Value")


class Counted(NamedTuple):
    """Whom a scope counts, for what, by which limits.

    `user`: whom a plan's total counts. `model` None: all of them.
    """

    kind: Literal["user", "organisation", "plan", "key"]
    id: Id
    model: Id | None
    name: str | None
    limits: Limits | None
    user: Id | None = None


# From the name of a scope, and whether its limits are asked for (of a key they may take long to find); None where there
# is none such any more. Raises StoreUnavailable.
Describe = Callable[[str, bool], Awaitable[Counted | None]]


class _Note(NamedTuple):
    """A scope to look at.

    `limits` None: to be found. `start`: of the period that the request counts in, 0 for the present one. `recounted`:
    the ledger is to be asked, for it may know more than the limiter.
    """

    limits: Limits | None
    start: int
    recounted: bool = False


class _Ahead(NamedTuple):
    """The amounts at which a scope passes its next threshold."""

    limits: Limits
    start: int
    requests: int
    tokens: int
    cost_nano: int


class LimitWatch:
    """Watch totals of limits; see the module.

    `wake` is called when something was queued.
    """

    def __init__(
        self,
        limiter: Limiter,
        rebuild: Rebuild,
        describe: Describe,
        queue: AlertQueue,
        salt: str,
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._limiter = limiter
        self._rebuild = rebuild
        self._describe = describe
        self._queue = queue
        self._salt = salt
        self._wake = wake
        self._clock = clock
        self._receivers: tuple[Receiver, ...] = ()
        self._percents: tuple[int, ...] = ()
        self._noted: OrderedDict[str, _Note] = OrderedDict()
        self._behind: list[str] = []  # scopes in which something was used before this process began
        self._ahead: OrderedDict[str, _Ahead] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()  # names of events that are in the queue

    def configure(self, receivers: Iterable[Receiver]) -> None:
        """Take the receivers; note settled requests where any want limits."""
        self._receivers = tuple(each for each in receivers if "limits" in each.settings.events)
        self._percents = tuple(sorted({percent for each in self._receivers for percent in each.settings.at}))
        self._ahead.clear()
        self._known.clear()
        self._limiter.on_settled = self.settled if self._receivers else None

    # -- on a request's way

    def settled(self, reservation: Reservation, tokens: int, cost_nano: int) -> None:
        """Note the scopes that may have passed a threshold by this."""
        for demand, standing in zip(reservation.demands, reservation.standings, strict=False):
            if standing.period_start and (
                self._limiter.is_behind  # then nobody knows how the scope stands
                or self._may_have_passed(demand, standing, reservation, tokens, cost_nano)
            ):
                self._note(demand.scope, _Note(demand.limits, standing.period_start))

    def _may_have_passed(
        self, demand: Demand, standing: Standing, held: Reservation, tokens: int, cost_nano: int
    ) -> bool:
        ahead = self._ahead.get(demand.scope)
        if ahead is None or ahead.start != standing.period_start or ahead.limits is not demand.limits:
            return True
        if standing.requests >= ahead.requests:
            return True
        # What it used beyond its reservation, others that came after it do not know of.
        of_tokens = standing.tokens + standing.tokens_reserved + tokens
        of_cost = standing.cost_nano + standing.cost_reserved_nano + cost_nano
        exceeded = tokens > held.tokens or cost_nano > nano(held.cost)
        times = _CLOSE if exceeded else 1
        return times * of_tokens >= ahead.tokens or times * of_cost >= ahead.cost_nano

    # -- behind it

    def recheck(self, scopes: Iterable[str]) -> None:
        """Look at scopes in which a dead process settled."""
        if self._receivers:
            for scope in scopes:
                self._note(scope, _Note(None, 0, recounted=True))

    def look_back(self, scopes: Iterable[str]) -> None:
        """Look at these when there is time.

        An earlier process may have had none to tell.
        """
        self._behind = list(scopes)

    async def look(self) -> None:
        """Look at what is noted, and queue what is new."""
        if self._behind and not self._limiter.is_behind:
            if self._receivers:
                for scope in self._behind[-_LOOKS_BACK_AT_A_TIME:]:
                    self._noted.setdefault(scope, _Note(None, 0))
            del self._behind[-_LOOKS_BACK_AT_A_TIME:]
        noted = [self._noted.popitem(last=False) for _ in range(min(len(self._noted), _LOOKS_AT_A_TIME))]
        await asyncio.gather(*(self._look_at(scope, note) for scope, note in noted))

    @property
    def is_idle(self) -> bool:
        return not self._noted

    def _note(self, scope: str, note: _Note) -> None:
        before = self._noted.get(scope)
        if before is not None and before.start and note.start and before.start != note.start:
            scope_of_before = f"{scope}\n{before.start}"  # a period that has ended is looked at beside the present one
            self._noted[scope_of_before] = before
        elif before is not None and before.recounted:
            note = note._replace(recounted=True)
        if len(self._noted) < MOST_NOTED or scope in self._noted:
            self._noted[scope] = note

    async def _look_at(self, noted_as: str, note: _Note) -> None:
        scope = noted_as.partition("\n")[0]
        try:
            again = await self._looked(scope, note)
        except StoreUnavailable:
            again = note
        if again is not None:
            self._noted.setdefault(noted_as, again)

    async def _looked(self, scope: str, note: _Note) -> _Note | None:
        """Queue what is new; return what to look at once more."""
        if not self._receivers:
            return None
        limits = note.limits
        if limits is None:
            counted = await self._describe(scope, True)
            limits = None if counted is None else counted.limits
        if limits is None or totals_period(limits) is None:
            return None
        standing = await self._standing(scope, limits, note)
        if self._limiter.is_behind:
            return note  # what this worker alone knows passes too little
        totals = list(totals_of(limits, standing))
        for total in totals:
            await self._queue_passed(scope, limits, standing.period_start, total)
        if note.start and note.start < bounds(limits.period, self._clock())[0]:
            return None
        self._look_ahead(scope, limits, standing, totals)
        is_near = any(_may_pass_next(total, self._percents) for total in totals)
        return _Note(limits, standing.period_start) if is_near else None

    async def _standing(self, scope: str, limits: Limits, note: _Note) -> Standing:
        (standing,) = await self._limiter.standing((Demand(scope, limits),), self._clock())
        if note.start and standing.period_start > note.start:
            now_used, used = standing.used, await self._rebuild(scope, float(note.start))
            return _settled(
                Used(used.requests - now_used.requests, used.tokens - now_used.tokens, used.cost - now_used.cost),
                note.start,
            )
        if note.recounted:
            known = await self._rebuild(scope, float(standing.period_start))
            return msgspec.structs.replace(
                standing,
                requests=max(standing.requests, known.requests),
                tokens=max(standing.tokens, known.tokens),
                cost_nano=max(standing.cost_nano, nano(known.cost)),
            )
        return standing

    async def _queue_passed(self, scope: str, limits: Limits, start: int, total: Total) -> None:
        for percent in passed(total, self._percents):
            name = f"limit:{scope}:{total.metric}:{limits.period}:{start}:{percent}"
            if name in self._known:
                continue
            counted = await self._describe(scope, False)
            if counted is None:
                return
            now = self._clock()
            data = {
                "owner": {"kind": counted.kind, "id": counted.id},
                **({"user": counted.user} if counted.user is not None else {}),
                "model": counted.model,
                "name": counted.name,
                "limit": total.metric,
                "period": limits.period,
                "from": time_text(start),
                "share": percent,
                "used": _amount(total.metric, total.settled),
                "max": _amount(total.metric, total.most),
            }
            end = bounds(limits.period, float(start))[1]
            made = event(self._salt, name, "limit.threshold", now, data, kept_until=end + _LATE_SECONDS)
            await self._queue.add(made, self._wishing(percent), now)
            _remember(self._known, name, None, _MOST_KNOWN)
            self._wake()

    def _wishing(self, percent: int) -> Sequence[str]:
        return [each.id for each in self._receivers if percent in each.settings.at]

    def _look_ahead(self, scope: str, limits: Limits, standing: Standing, totals: Sequence[Total]) -> None:
        amounts = {"requests": _UNREACHED, "tokens": _UNREACHED, "cost": _UNREACHED}
        for total in totals:
            percent = following(total, self._percents)
            if percent is not None:
                amounts[total.metric] = amount_at(percent, total.most)
        _remember(self._ahead, scope, _Ahead(limits, standing.period_start, *amounts.values()), _MOST_KNOWN)


def _may_pass_next(total: Total, percents: Sequence[int]) -> bool:
    percent = following(total, percents)
    return percent is not None and total.may_pass(percent)


def _settled(used: Used, start: int) -> Standing:
    return Standing(requests=used.requests, tokens=used.tokens, cost_nano=nano(used.cost), period_start=start)


def _amount(metric: str, amount: int) -> int | msgspec.Raw:
    return exact_cost(amount) if metric == "cost" else amount


def _remember(known: OrderedDict[str, _Value], name: str, value: _Value, most: int) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > most:
        known.popitem(last=False)
