"""All about alerts that a process holds.

Where none are configured it only looks whether they are by now."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from gateway.alerts.dispatch import Counts, Delivery
from gateway.alerts.episodes import Episodes
from gateway.alerts.event import Clock
from gateway.alerts.queue import AlertQueue
from gateway.alerts.sender import Receiver
from gateway.alerts.watch import Describe, LimitWatch
from gateway.config.settings import AlertSettings
from gateway.errors import GatewayError, StoreUnavailable
from gateway.http.client import Transport
from gateway.limits import Limiter, Rebuild
from gateway.pool import Cooldown
from gateway.store.base import Catalogue

TICK_SECONDS = 0.25
_COUNT_SECONDS = 1.0
_LAST_LOOKS = 100  # before the end, at what is noted by then
_LAST_SECONDS = 2.0
_LOOK_BACK_SECONDS = 5.0  # between tries

AlertsConfigured = Callable[[], tuple[AlertSettings, ...]]


class Surroundings(NamedTuple):
    """What alerts look at.

    `take_replayed`: scopes of requests that dead processes settled, each once. `watch_answers`: whether good answers
    are to be told to `Alerts.episodes`. `counted_lately`: scopes in which something was used within a day, for what the
    last process could not tell any more. `salt`: what tells this gateway from others, no secret.
    """

    limiter: Limiter
    rebuild: Rebuild
    describe: Describe
    catalogue: Callable[[], Awaitable[Catalogue]]
    ledger_is_well: Callable[[], bool]
    take_replayed: Callable[[], Iterable[str]]
    counted_lately: Callable[[], Awaitable[Iterable[str]]]
    watch_answers: Callable[[bool], None]
    salt: str
    clock: Clock = time.time


class Alerts:
    """Watch, queue and send; `start` before use, `close` at the end."""

    def __init__(
        self,
        configured: AlertsConfigured,
        queue: AlertQueue,
        transport: Transport,
        around: Surroundings,
        log: FilteringBoundLogger,
    ) -> None:
        self.counts = Counts()
        self.waiting = 0  # as of the last look
        self._configured = configured
        self._queue = queue
        self._transport = transport
        self._take_replayed = around.take_replayed
        self._counted_lately = around.counted_lately
        self._looking_back: asyncio.Task[None] | None = None
        self._log = log
        self._clock = around.clock
        self._settings: tuple[AlertSettings, ...] = ()
        self._deliveries: list[Delivery] = []
        self._count_at = 0.0
        self._fault = ""
        limits = around.limiter, around.rebuild, around.describe
        self._watch = LimitWatch(*limits, queue, around.salt, self._wake, around.clock)
        self.episodes = Episodes(
            queue, around.salt, around.catalogue, around.ledger_is_well, around.watch_answers, self._wake, around.clock
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to note what is settled, queue or no queue."""
        self._listen([Receiver.of(each) for each in self._configured()])
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Queue what is noted, and leave off sending."""
        for task in (self._running, self._looking_back):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._settings:
            with contextlib.suppress(GatewayError, TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._look_last()
        await asyncio.gather(*(each.stop() for each in self._deliveries))
        await self._queue.close()

    def cooled(self, cooldown: Cooldown) -> None:
        """Note a cooldown that begins, or whose end moves out."""
        self.episodes.cooled(cooldown)

    def _wake(self) -> None:
        for each in self._deliveries:
            each.wake()

    async def _run(self) -> None:
        while True:
            try:
                await self._tick()
                self._fault = ""
            except StoreUnavailable as fault:
                self._tell(type(fault).__name__)  # what is noted stays noted
            except Exception:  # whatever it is, the next alert must still come
                self._log.exception("a mistake of the gateway, in its alerts")
            await asyncio.sleep(TICK_SECONDS)

    def _tell(self, fault: str) -> None:
        if fault != self._fault:
            self._log.error("alerts cannot be looked after at the moment", fault=fault)
        self._fault = fault

    async def _tick(self) -> None:
        wanted = self._configured()
        if wanted is not self._settings:
            await self._configure(wanted)
        if not self._settings:
            return
        if self._looking_back is None:
            self._looking_back = asyncio.create_task(self._look_back())
        self._watch.recheck(self._take_replayed())
        await self._watch.look()
        await self.episodes.look()
        if (now := time.monotonic()) >= self._count_at:
            self.waiting = await self._queue.waiting([each.receiver.id for each in self._deliveries])
            self._count_at = now + _COUNT_SECONDS

    async def _look_back(self) -> None:
        """Look once at all that was used lately.

        The ledger may be away.
        """
        while True:
            with contextlib.suppress(StoreUnavailable):
                self._watch.look_back(await self._counted_lately())
                return
            await asyncio.sleep(_LOOK_BACK_SECONDS)

    async def _configure(self, wanted: tuple[AlertSettings, ...]) -> None:
        receivers = [Receiver.of(each) for each in wanted]
        self._listen(receivers)
        kept = [each for each in self._deliveries if each.receiver in receivers]
        known = [delivery.receiver for delivery in kept]
        fresh = [each for each in receivers if each not in known]
        if fresh:
            await self._begin_anew(fresh)
        for gone in self._deliveries:
            if gone not in kept:
                await gone.stop()
        made = [Delivery(each, self._queue, self._transport, self.counts, self._log, self._clock) for each in fresh]
        self._deliveries = kept + made
        self._settings = wanted
        self.waiting = 0

    def _listen(self, receivers: list[Receiver]) -> None:
        self._watch.configure(receivers)
        self.episodes.configure(receivers)

    async def _begin_anew(self, receivers: list[Receiver]) -> None:
        """Make due what waits for these, and changed entries."""
        ids = [each.id for each in receivers]
        stopped = await self._queue.stopped(ids)
        for each in receivers:
            if stopped.get(each.id, each.fingerprint) != each.fingerprint:
                await self._queue.resume(each.id)
        await self._queue.hurry(ids, self._clock())

    async def _look_last(self) -> None:
        for _ in range(_LAST_LOOKS):
            if self._watch.is_idle:
                break
            await self._watch.look()
        await self.episodes.look()

    def __repr__(self) -> str:
        return f"<Alerts to {len(self._deliveries)} receivers, {self.waiting} waiting>"
