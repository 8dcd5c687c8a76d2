"""The wait itself: out of line with an endpoint, or because there will be none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

import msgspec

from gateway.config.settings import QueueSettings
from gateway.observability.calls import Call
from gateway.pool import Lease, Pool
from gateway.proxy.ask import Ask
from gateway.proxy.queueing.line import rank_of
from gateway.proxy.queueing.request_queue import Handed, Place, RequestQueue, Ticket
from gateway.proxy.upstreams import Upstreams
from gateway.types import id_text


@dataclass(frozen=True, slots=True)
class Turns:
    """The queue as one configuration has it.

    `still_asked`: judge a request that has waited by the present records; what it raises refuses it.
    """

    queue: RequestQueue
    rules: QueueSettings
    tiers: tuple[str, ...]
    still_asked: Callable[[Call, Ask], Awaitable[Ask]]


class Wait(msgspec.Struct, eq=False):
    """Wait until an endpoint is free; a subclass says of which pools.

    Afterwards `ask` is as the present records have it, and `handed` is the endpoint whose turn it was, if any.
    """

    turns: Turns
    upstreams: Upstreams
    call: Call
    ask: Ask
    loop: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)
    handed: Handed | None = None
    has_waited: bool = False

    def take(self, pool: Pool, now: float, tried: set[str], conversation: int | None = None) -> Lease | None:
        """Lease the endpoint it has waited for, if it is this pool's.

        Once that has been, any.
        """
        handed = self.handed
        if handed is None:
            return pool.take(now, tried, conversation)
        if handed.upstream.pool is not pool:
            return None
        self.handed = None
        return handed.lease

    def release(self) -> None:
        """Give back an endpoint that is not asked."""
        if self.handed is not None:
            self.handed.lease.release()
            self.handed = None

    # -- for subclasses

    async def places(self) -> list[Place]:
        """List the pools that would serve it, fallbacks' last."""
        raise NotImplementedError

    async def judged_anew(self) -> None:
        """Go on with another `ask` than before."""

    def begun(self) -> None:
        """Begin what runs beside the wait."""

    # -- the wait

    async def in_line(self, places: list[Place], until: float) -> None:
        """Wait in line, if there is room and time.

        Raises ShuttingDown, and what refuses it now.
        """
        queue, rules, ask, now = self.turns.queue, self.turns.rules, self.ask, self.loop.time()
        if queue.has_free(places, now) or queue.free_at(places, now) > until:
            return
        user, rank = id_text(ask.caller.user.id), rank_of(ask.caller, self.turns.tiers)
        ticket = queue.enter(user, rank, ask.access.model.name, most=rules.max, seconds=until - now)
        if ticket is None:
            return
        call, began = self.call, perf_counter()
        self.has_waited = call.is_queued = True
        call.attempt_began = began
        try:
            self.begun()
            await self._until_free(ticket, places)
        finally:
            waited = perf_counter() - began
            queue.leave(ticket, waited)
            call.is_queued, call.queued_seconds = False, waited
            call.upstream_seconds += waited  # it is the upstreams that were waited for

    async def _until_free(self, ticket: Ticket, places: list[Place]) -> None:
        queue = self.turns.queue
        while True:
            self.handed = await queue.wait(ticket, places)
            await self._ask_again()
            if self._is_at_hand():
                return
            self.release()
            places, now = await self.places(), self.loop.time()
            if now >= ticket.until or queue.free_at(places, now) > ticket.until:
                queue.gave_up(ticket)
                return

    async def _ask_again(self) -> None:
        """Judge the request by the present records."""
        before = self.ask
        self.ask = await self.turns.still_asked(self.call, before)
        if self.ask is not before:
            await self.judged_anew()

    def _is_at_hand(self) -> bool:
        """Whether the endpoint that it got is still one of its models'."""
        if self.handed is None:
            return False
        upstream, catalogue = self.handed.upstream, self.ask.catalogue
        model = catalogue.by_id(upstream.model.id)
        return model is not None and self.upstreams.of(model, catalogue) is upstream
