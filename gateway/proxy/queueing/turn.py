"""One request's wait for an endpoint, between its reservation and its admission."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

import msgspec

from gateway.config.settings import QueueSettings
from gateway.dialects.affinity import affinity_of
from gateway.errors import GatewayError, ShuttingDown
from gateway.http.memory_budget import Held
from gateway.observability.calls import Call
from gateway.pool import Lease, Pool
from gateway.proxy.ask import Ask
from gateway.proxy.books.accounting import Account, Accounts
from gateway.proxy.heartbeat import Heartbeat
from gateway.proxy.queueing.line import rank_of
from gateway.proxy.queueing.request_queue import Handed, Place, RequestQueue, Ticket
from gateway.proxy.response import Response
from gateway.proxy.upstreams import Upstreams, asked_of_fallback, asked_of_own_model, candidates
from gateway.types import Model, id_text


@dataclass(frozen=True, slots=True)
class Turns:
    """The queue as one configuration has it.

    `still_asked`: judge a request that has waited by the present records; what it raises refuses it.
    """

    queue: RequestQueue
    rules: QueueSettings
    tiers: tuple[str, ...]
    still_asked: Callable[[Call, Ask], Awaitable[Ask]]


class Turn(msgspec.Struct, eq=False):
    """Wait until an endpoint is free for a request.

    `asked`: what its own model's endpoints are asked. Afterwards it and `response.ask` are as the present records have
    them, and `handed` is the endpoint whose turn it was, if any.
    """

    turns: Turns
    upstreams: Upstreams
    asked: Ask
    response: Response
    memory: Held | None
    heartbeat_seconds: float
    loop: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)
    heartbeat: Heartbeat | None = None  # of a stream, from when it begins to wait
    handed: Handed | None = None
    has_waited: bool = False
    of_fallbacks: dict[str, tuple[Model, Ask | None]] = {}

    async def open(self, accounts: Accounts) -> bool:
        """Admit the request once an endpoint is free, or none will be.

        False where its refusal went into the stream that it had begun by then. Raises GatewayError otherwise.
        """
        call, ask = self.response.call, self.response.ask
        try:
            self.response.account = await accounts.open(call, ask, streamed=ask.wants_stream, turn=self._wait)
        except BaseException as error:
            self.stop()
            self._end_unadmitted(error)
            return False
        self._begin_heartbeat()
        return True

    @property
    def account(self) -> Account:
        """The books of the admitted request."""
        assert self.response.account is not None  # noqa: S101 - narrows the type
        return self.response.account

    def stop(self) -> None:
        """End the heartbeat; give back an endpoint that was not asked."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
        self.release()

    def take(self, pool: Pool, now: float, tried: set[str], conversation: int | None) -> Lease | None:
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

    # -- the wait

    async def _wait(self, account: Account) -> None:
        """Wait with what is reserved. Raises ShuttingDown, and what refuses it now."""
        ask, now = self.response.ask, self.loop.time()
        if self._is_free(now):
            return
        places, queue, rules = await self._places(), self.turns.queue, self.turns.rules
        if queue.has_free(places, now) or queue.free_at(places, now) > now + rules.wait:
            return
        user, rank = id_text(ask.caller.user.id), rank_of(ask.caller, self.turns.tiers)
        ticket = queue.enter(user, rank, ask.access.model.name, most=rules.max, seconds=rules.wait)
        if ticket is None:
            return
        call, began = self.response.call, perf_counter()
        self.has_waited = call.is_queued = True
        try:
            self.response.account = account
            self.response.client.watch(None)
            self._begin_heartbeat()
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
            places, now = await self._places(), self.loop.time()
            if now >= ticket.until or queue.free_at(places, now) > ticket.until:
                queue.gave_up(ticket)
                return

    async def _ask_again(self) -> None:
        """Judge the request by the present records."""
        before = self.response.ask
        ask = self.response.ask = await self.turns.still_asked(self.response.call, before)
        if ask is not before:
            self.of_fallbacks.clear()
            self.asked = ask if ask.is_spoken_by(ask.access.model) else await asked_of_own_model(ask, self.memory)

    def _is_at_hand(self) -> bool:
        """Whether the endpoint that it got is still one of its models'."""
        if self.handed is None:
            return False
        upstream, catalogue = self.handed.upstream, self.response.ask.catalogue
        model = catalogue.by_id(upstream.model.id)
        return model is not None and self.upstreams.of(model, catalogue) is upstream

    # -- where it may go

    def _is_free(self, now: float) -> bool:
        """Whether an endpoint of its own model is free.

        None that waits could take it: they are served first.
        """
        ask, queue = self.response.ask, self.turns.queue
        model = ask.access.model
        pool = self.upstreams.of(model, ask.catalogue).pool
        if len(queue):
            queue.serve(id_text(model.id))
        return not ask.needs_no_model and pool.has_free(now, self.asked.endpoints_left_out(model))

    async def _places(self) -> list[Place]:
        """List the pools that would serve it, fallbacks' last."""
        ask, places = self.response.ask, []
        for upstream, of_own in candidates(ask, self.asked, self.upstreams):
            model = upstream.model
            asked = of_own or await self._asked_of(model)
            if asked is None:
                continue
            conversation = None
            if model.rotation == "cache_affinity":
                named = self.response.call.conversation
                conversation = affinity_of(ask.body.fields, named, ask.caller, model.id)
            places.append(Place(id_text(model.id), frozenset(asked.endpoints_left_out(model)), conversation))
        return places

    async def _asked_of(self, fallback: Model) -> Ask | None:
        """Translate the request for a fallback, once."""
        known = self.of_fallbacks.get(id_text(fallback.id))
        if known is None or known[0] is not fallback:
            known = fallback, await asked_of_fallback(self.response.ask, fallback, self.memory)
            self.of_fallbacks[id_text(fallback.id)] = known
        return known[1]

    # -- a stream that waits

    def _begin_heartbeat(self) -> None:
        if self.heartbeat is None and self.response.ask.wants_stream:
            self.heartbeat = Heartbeat(self.loop, self.heartbeat_seconds, self.response.beat)

    def _end_unadmitted(self, error: BaseException) -> None:
        """Refuse a stream that has begun; raise where none has."""
        response = self.response
        if self.has_waited:
            response.client.unwatch()
        if isinstance(error, asyncio.CancelledError) and response.call.was_interrupted():
            error = ShuttingDown()
        if not response.responder.started or not isinstance(error, GatewayError):
            raise error
        response.call.code = error.code
        response.responder.on_error(error, 0)
