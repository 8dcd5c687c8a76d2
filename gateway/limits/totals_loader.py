"""Load totals into Redis from the ledger, by one worker for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.limits.base import Rebuild
from gateway.limits.demand import Demand, nano
from gateway.single_flight import SingleFlight
from gateway.types import Period

_POLL_SECONDS = 0.02  # while another worker loads totals
_WRITTEN_SECONDS = 1.0  # after which what was settled, by whomever, is in the ledger


class TotalsLoader:
    """Loads totals for a limiter, which has the way to Redis.

    `message` makes a message, which `ask` and `send` take; `beat` enters again what runs here.
    """

    def __init__(
        self,
        rebuild: Rebuild,
        message: Callable[..., bytes],
        ask: Callable[[bytes], Awaitable[list[Any]]],
        send: Callable[[bytes], None],
        beat: Callable[[], Awaitable[bool]],
    ) -> None:
        self._rebuild = rebuild
        self._message = message
        self._ask = ask
        self._send = send
        self._beat = beat
        self._loads: SingleFlight[None] = SingleFlight()
        self._recounts: SingleFlight[None] = SingleFlight()

    @property
    def is_recounting(self) -> bool:
        """Whether totals may lack what the ledger has."""
        return len(self._recounts) > 0

    async def load(self, demand: Demand, *, start: int, end: int, is_mine: bool, now: float) -> None:
        """Wait until totals may be loaded.

        `is_mine`: this worker is the one to load them, for all.
        """
        key = demand.scope, demand.limits.period, start
        if is_mine or key in self._loads:
            await self._loads.join(key, lambda: self._load_for_all(demand.scope, demand.limits.period, start, end, now))
        else:
            await asyncio.sleep(_POLL_SECONDS)

    def recount(self, reply: Any) -> None:
        """Ask the ledger for totals once more.

        `reply`: of the script to an end; rows of what it did not count, since the data were lost after the request
        began. Whoever loaded these totals may have done so before the request was in the ledger.
        """
        for scope, period, start in reply if isinstance(reply, list) else ():
            key = scope.decode(), period.decode(), start
            self._recounts.begin(key, partial(self._recount, *key))

    async def close(self) -> None:
        await self._loads.close()
        await self._recounts.close()

    async def _load_for_all(self, scope: str, period: Period, start: int, end: int, now: float) -> None:
        try:
            await self._beat()  # the data may have been lost: then what runs here is entered before it is counted
            totals = await self._rebuild(scope, float(start))
        except BaseException:
            self._send(self._message("release", now, scope, period))
            raise
        figures = totals.requests, totals.tokens, nano(totals.cost)
        message = self._message("install", now, scope, period, start, end, *figures)
        await self._ask(message)

    async def _recount(self, scope: str, period: Period, start: int) -> None:
        await asyncio.sleep(_WRITTEN_SECONDS)
        while True:
            try:
                totals = await self._rebuild(scope, float(start))
                break
            except StoreUnavailable:  # the ledger is away, and what it has is needed nevertheless
                await asyncio.sleep(_WRITTEN_SECONDS)
        self._send(
            self._message("raise", start, scope, period, start, totals.requests, totals.tokens, nano(totals.cost))
        )

    def __repr__(self) -> str:
        return f"<TotalsLoader, {len(self._loads)} under way>"
