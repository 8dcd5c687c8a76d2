"""Places of requests whose large bodies are yet to be read."""

from __future__ import annotations

import time
from functools import partial

from gateway.limits import Limiter, Reservation, place_demands
from gateway.observability.calls import Call
from gateway.types import Caller

_HEAD = ".head"  # what the name of a request is continued with for the place that it has before it is admitted


class PlacesOnHead:
    """Count requests by their heads, before their bodies are read.

    `taken`: the places, by request id, that no reservation has taken over yet.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.taken: dict[str, Reservation] = {}

    async def take(self, call: Call, caller: Caller) -> None:
        """Count the request in its key's own `rpm` and `concurrency`.

        `Accounts.reserve` takes the place over; of a request that gets no further `concurrency` is given back when the
        call ends. Raises RateLimited.
        """
        asked = place_demands(caller)
        if asked:
            name = call.request_id + _HEAD
            self.taken[call.request_id] = await self._limiter.reserve(name, asked, tokens=0, cost=0, now=time.time())
            call.on_leaving = partial(self._leave, call.request_id)

    def _leave(self, request_id: str) -> None:
        place = self.taken.pop(request_id, None)
        if place is not None:
            self._limiter.settle(place, tokens=0, cost=0, now=time.time())

    def __repr__(self) -> str:
        return f"<PlacesOnHead: {len(self.taken)} taken>"
