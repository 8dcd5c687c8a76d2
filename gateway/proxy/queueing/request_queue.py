"""Keep requests waiting, and hand the next one a slot that frees.

Nothing is looked at from time to time: a request that ends, a cooldown that ends, begins or is ended, and a pool that
is made anew say so (`Pool.listen`), and a timer stands for the next cooldown's end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from math import inf
from operator import attrgetter
from typing import NamedTuple

from gateway.errors import ShuttingDown
from gateway.observability.metrics import Counters
from gateway.pool import Lease, Pool
from gateway.proxy.queueing.line import Line, Order, Rank
from gateway.proxy.upstreams import Upstream, Upstreams

# The loop's clock may tick in whole milliseconds: a timer that fires early would find the endpoint cooling still.
_TICK_SECONDS = 0.001
# How many go on in one turn of the loop: all of a long queue at once would hold up everybody else.
_AT_ONCE = 64
_ORDER = attrgetter("order")


class Place(NamedTuple):
    """A pool that would serve a request.

    `model`: its id as text. `left_out`: ids of endpoints that would not. `conversation`: see `Pool.take`.
    """

    model: str
    left_out: frozenset[str]
    conversation: int | None


class Handed(NamedTuple):
    """An endpoint for the request whose turn it is."""

    upstream: Upstream
    lease: Lease


class Ticket:
    """One waiting request.

    `until`: the loop's time at which it waits no longer.
    """

    __slots__ = ("is_served", "is_woken", "model", "order", "places", "rank", "turn", "until", "user")

    def __init__(self, user: str, rank: Rank, order: Order, model: str, until: float) -> None:
        self.user = user
        self.rank = rank
        self.order = order
        self.model = model  # its name, for metrics
        self.until = until
        self.places: Sequence[Place] = ()
        self.turn: asyncio.Future[Handed | None] | None = None
        self.is_served = False
        self.is_woken = False  # something has changed while it was being judged

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has been decided; not so once its client has left."""
        return self.turn is not None and not self.turn.done()

    def resolve(self, handed: Handed | None) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(handed)

    def __repr__(self) -> str:
        return f"<Ticket {self.order} for {self.model}>"


class _Waiting:
    """Those that wait for one model's pool, the next one first."""

    __slots__ = ("ends", "is_due", "tickets", "timer")

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self.timer: asyncio.TimerHandle | None = None
        self.is_due = False  # it is served later in this turn of the loop
        self.ends: tuple[float, ...] = ()  # of the pool's cooldowns, as all that wait know


class RequestQueue:
    """The waiting requests of one process, whatever its configuration."""

    def __init__(self, upstreams: Upstreams, counters: Counters) -> None:
        self._upstreams = upstreams
        self._counters = counters
        self._line = Line()
        self._by_model: dict[str, _Waiting] = {}
        self._names: Counter[str] = Counter()
        self._tickets: dict[Ticket, None] = {}  # as they came
        self._to_wake: dict[Ticket, None] = {}
        self._is_waking = False
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._line)

    def waiting(self) -> dict[str, int]:
        """Count those that wait, by their model's name."""
        return dict(self._names)

    @property
    def models(self) -> list[str]:
        """The ids, as text, of models that are waited for."""
        return list(self._by_model)

    # -- who waits

    def enter(self, user: str, rank: Rank, model: str, *, most: int, seconds: float) -> Ticket | None:
        """Take a request in, which `leave` ends; None without room.

        `most` that wait at a time; one user holds half of them. Raises ShuttingDown.
        """
        if self._is_closed:
            raise ShuttingDown
        if len(self._line) >= most:
            self._counters.queue_refused(model, "full")
            return None
        if self._line.of_user(user) >= max(1, most // 2):
            self._counters.queue_refused(model, "user_share")
            return None
        until = asyncio.get_running_loop().time() + seconds
        ticket = Ticket(user, rank, self._line.enter(user, rank), model, until)
        self._tickets[ticket] = None
        self._names[model] += 1
        return ticket

    def leave(self, ticket: Ticket, seconds: float) -> None:
        """End a wait that has taken so long."""
        del self._tickets[ticket]
        self._to_wake.pop(ticket, None)
        self._line.leave(ticket.user, ticket.rank, ticket.order, is_served=ticket.is_served)
        self._names[ticket.model] -= 1
        if not self._names[ticket.model]:
            del self._names[ticket.model]
        self._counters.queue_left(ticket.model, seconds)

    def gave_up(self, ticket: Ticket) -> None:
        """Count a wait that was in vain."""
        self._counters.queue_refused(ticket.model, "in_vain")

    async def wait(self, ticket: Ticket, places: Sequence[Place]) -> Handed | None:
        """Wait for one of these places.

        None where it is in vain, or where `wake` has said that something about the models has changed.
        Raises ShuttingDown.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise ShuttingDown
        if ticket.is_woken:
            ticket.is_woken = False
            return None
        turn: asyncio.Future[Handed | None] = loop.create_future()
        ticket.turn = turn
        ticket.places = places
        deadline = loop.call_at(ticket.until, ticket.resolve, None)
        models = {place.model for place in places}
        for model in models:
            self._join(model, ticket)
        for model in models:
            self.serve(model)
        try:
            return await turn
        except BaseException:
            # Its client has left in the very turn of the loop in which it got an endpoint.
            if turn.done() and not turn.cancelled() and turn.exception() is None and (handed := turn.result()):
                handed.lease.release()
            raise
        finally:
            deadline.cancel()
            self._part(ticket)

    def wake(self) -> None:
        """Let all that wait see whether their models are what they were."""
        self._to_wake |= self._tickets
        if not self._is_waking:
            self._wake_some()

    def close(self) -> None:
        """Refuse all that wait, and all that would."""
        self._is_closed = True
        self.wake()

    def _wake_some(self) -> None:
        for ticket in list(islice(self._to_wake, _AT_ONCE)):
            del self._to_wake[ticket]
            if not ticket.is_waiting:
                ticket.is_woken = True
            elif self._is_closed and ticket.turn is not None:
                ticket.turn.set_exception(ShuttingDown())
            else:
                ticket.resolve(None)
        self._is_waking = bool(self._to_wake)
        if self._is_waking:
            asyncio.get_running_loop().call_soon(self._wake_some)

    # -- who is next

    def serve(self, model: str) -> None:
        """Hand free endpoints of a model to the next in line."""
        waiting, upstream = self._by_model.get(model), self._upstreams.known(model)
        if waiting is None:
            return
        waiting.is_due = False
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        if upstream is None:
            return
        loop = asyncio.get_running_loop()
        now, pool = loop.time(), upstream.pool
        in_vain: set[frozenset[str]] = set()
        handed = 0
        while pool.has_free(now):
            if handed == _AT_ONCE:
                self._changed(model)
                break
            found = self._next(waiting, model, in_vain)
            if found is None:
                break
            ticket, place = found
            lease = pool.take(now, place.left_out, place.conversation)
            if lease is None:
                in_vain.add(place.left_out)
                continue
            ticket.is_served = True
            ticket.resolve(Handed(upstream, lease))
            self._part(ticket)
            handed += 1
        if waiting.tickets:
            self._dismiss_hopeless(waiting, pool, now)
            end = pool.next_end(now)
            if end < inf:
                waiting.timer = loop.call_at(end + _TICK_SECONDS, self.serve, model)

    def _next(self, waiting: _Waiting, model: str, in_vain: set[frozenset[str]]) -> tuple[Ticket, Place] | None:
        for ticket in filter(attrgetter("is_waiting"), waiting.tickets):
            for place in ticket.places:
                if place.model == model and place.left_out not in in_vain:
                    return ticket, place
        return None

    def _dismiss_hopeless(self, waiting: _Waiting, pool: Pool, now: float) -> None:
        """Let those go for whom nothing can be free in time.

        Whoever joins knows when that is: they are looked at again only where a cooldown has another end, be it of an
        endpoint that only some of them can go to.
        """
        known, waiting.ends = waiting.ends, pool.ends()
        if waiting.ends == known or pool.free_at(now) <= now:
            return
        for ticket in list(waiting.tickets):
            if self.free_at(ticket.places, now) > ticket.until:
                ticket.resolve(None)
                self._part(ticket)

    def has_free(self, places: Sequence[Place], now: float) -> bool:
        """Whether an endpoint is free for whoever comes now.

        None is while those that wait for it are being served.
        """
        pools = [(self._upstreams.known(place.model), place) for place in places if not self.is_serving(place.model)]
        return any(upstream is not None and upstream.pool.has_free(now, place.left_out) for upstream, place in pools)

    def is_serving(self, model: str) -> bool:
        """Whether endpoints of a model are being handed to those that wait."""
        waiting = self._by_model.get(model)
        return waiting is not None and waiting.is_due

    def free_at(self, places: Sequence[Place], now: float) -> float:
        """When one of the places may be free, on the loop's clock."""
        pools = [(self._upstreams.known(place.model), place) for place in places]
        return min(
            (upstream.pool.free_at(now, place.left_out) for upstream, place in pools if upstream is not None),
            default=inf,
        )

    def _join(self, model: str, ticket: Ticket) -> None:
        waiting = self._by_model.get(model)
        if waiting is None:
            waiting = self._by_model[model] = _Waiting()
        insort(waiting.tickets, ticket, key=_ORDER)
        upstream = self._upstreams.known(model)
        if upstream is not None:
            upstream.pool.listen(partial(self._changed, model))

    def _part(self, ticket: Ticket) -> None:
        """Take a request out of every line that it stands in."""
        for model in {place.model for place in ticket.places}:
            waiting = self._by_model.get(model)
            if waiting is None:
                continue
            at = bisect_left(waiting.tickets, ticket.order, key=_ORDER)
            if at < len(waiting.tickets) and waiting.tickets[at] is ticket:
                del waiting.tickets[at]
            if not waiting.tickets:
                self._forget(model, waiting)
        ticket.places = ()

    def _forget(self, model: str, waiting: _Waiting) -> None:
        del self._by_model[model]
        if waiting.timer is not None:
            waiting.timer.cancel()
        upstream = self._upstreams.known(model)
        if upstream is not None:
            upstream.pool.listen(None)

    def _changed(self, model: str) -> None:
        """Serve the model's line later in this turn of the loop, once."""
        waiting = self._by_model.get(model)
        if waiting is not None and not waiting.is_due:
            waiting.is_due = True
            asyncio.get_running_loop().call_soon(self.serve, model)

    def __repr__(self) -> str:
        return f"<RequestQueue: {len(self)} waiting for {len(self._by_model)} models>"
