"""One request's wait for an endpoint, between its reservation and its admission."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.dialects.affinity import affinity_of
from gateway.errors import GatewayError, ShuttingDown
from gateway.http.memory_budget import Held
from gateway.proxy.ask import Ask
from gateway.proxy.books.accounting import Account, Accounts
from gateway.proxy.heartbeat import Heartbeat
from gateway.proxy.queueing.request_queue import Place
from gateway.proxy.queueing.wait import Turns, Wait
from gateway.proxy.response import Response
from gateway.proxy.upstreams import Upstreams, asked_of_fallback, asked_of_own_model, candidates
from gateway.types import Model, id_text


class Turn(Wait, eq=False, kw_only=True):
    """The wait of a request whose answer a responder makes.

    `asked`: what its own model's endpoints are asked; it and `response.ask` follow the present records.
    """

    asked: Ask
    response: Response
    memory: Held | None
    heartbeat_seconds: float
    heartbeat: Heartbeat | None = None  # of a stream, from when it begins to wait
    of_fallbacks: dict[str, tuple[Model, Ask | None]] = msgspec.field(default_factory=dict)

    @classmethod
    def of(
        cls, turns: Turns, upstreams: Upstreams, asked: Ask, response: Response, memory: Held | None, beats: float
    ) -> Turn:
        """Make a request's; `beats`: seconds between its heartbeats."""
        call, ask = response.call, response.ask
        return cls(turns, upstreams, call, ask, asked=asked, response=response, memory=memory, heartbeat_seconds=beats)

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

    # -- the wait

    async def _wait(self, account: Account) -> None:
        """Wait with what is reserved.

        Raises ShuttingDown, and what refuses it now.
        """
        now = self.loop.time()
        if self._is_free(now):
            return
        self.response.account = account  # a head that goes out meanwhile tells of its limits
        await self.in_line(await self.places(), now + self.turns.rules.wait)

    def begun(self) -> None:
        self.response.client.watch(None)
        self._begin_heartbeat()

    async def judged_anew(self) -> None:
        ask = self.response.ask = self.ask
        self.of_fallbacks.clear()
        self.asked = ask if ask.is_spoken_by(ask.access.model) else await asked_of_own_model(ask, self.memory)

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
            if queue.is_serving(id_text(model.id)):
                return False
        return not ask.needs_no_model and pool.has_free(now, self.asked.endpoints_left_out(model))

    async def places(self) -> list[Place]:
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
