"""A socket's wait for an endpoint, where requests wait instead of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.api.router import Hit
from gateway.proxy.ask import Ask
from gateway.proxy.books.accounting import Account
from gateway.proxy.queueing import Place, Wait
from gateway.proxy.upstreams import candidates
from gateway.types import Endpoint, Model, id_text
from gateway.websockets.upstream_choice import silent

Places = Callable[[Hit, Ask], list[Place]]


class SocketTurn(Wait, eq=False, kw_only=True):
    """The wait of a request on a socket, or of a socket that opens."""

    hit: Hit
    leads_to: Places
    until: float  # on the loop's clock
    stands: asyncio.Future[None]  # done once it stands in line

    @classmethod
    def of(cls, hit: Hit, ask: Ask, leads_to: Places) -> SocketTurn | None:
        """Make one whose time begins now; None where no request waits."""
        turns, upstreams, loop = hit.runtime.relay.turns, hit.runtime.relay.upstreams, asyncio.get_running_loop()
        if turns is None:
            return None
        until = loop.time() + turns.rules.wait
        return cls(
            turns, upstreams, hit.call, ask, hit=hit, leads_to=leads_to, until=until, stands=loop.create_future()
        )

    async def wait(self, account: Account | None = None) -> None:
        """Wait until an endpoint is free, or none will be.

        Raises ShuttingDown, and what refuses it now.
        """
        queue, places = self.turns.queue, await self.places()
        for place in places if len(queue) else ():
            queue.serve(place.model)
        if self.loop.time() < self.until:
            await self.in_line(places, self.until)

    async def places(self) -> list[Place]:
        return self.leads_to(self.hit, self.ask)

    async def judged_anew(self) -> None:
        await self.places()

    def begun(self) -> None:
        if not self.stands.done():
            self.stands.set_result(None)


def of_opening(hit: Hit, ask: Ask) -> list[Place]:
    """List the pools that a socket may open to."""
    places = []
    for upstream, _ in candidates(ask, ask, hit.runtime.relay.upstreams):
        model = upstream.model
        left_out = ask.endpoints_left_out(model) | silent(model)
        if len(left_out) < len(model.endpoints):
            places.append(Place(id_text(model.id), frozenset(left_out), None))
    return places


def of_one(endpoint: Endpoint, model: Model) -> list[Place]:
    """Name the one endpoint that a socket is bound to."""
    others = {id_text(one.id) for one in model.endpoints} - {id_text(endpoint.id)}
    return [Place(id_text(model.id), frozenset(others), None)]
