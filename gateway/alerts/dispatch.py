"""Send what is due until a 2xx is on record.

To each receiver beside the others.

A try is on record in the queue before it is made: a worker killed within one leaves the event to be tried again, by
whoever comes next.
"""

from __future__ import annotations

import asyncio
import contextlib

from structlog.typing import FilteringBoundLogger

from gateway.alerts.event import DAY_SECONDS, Clock
from gateway.alerts.queue import AlertQueue, Due
from gateway.alerts.sender import GONE, Outcome, Receiver, send
from gateway.errors import StoreUnavailable
from gateway.http.client import Transport

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 5.0, 3_600.0
LOOK_SECONDS = 1.0  # between looks at the queue
_LAST_SECONDS = 1.0
_AT_A_TIME = 4  # tries of one receiver
_MOST_DOUBLINGS = 30


class Delivery:
    """One receiver's tries, while it is in the configuration."""

    def __init__(
        self,
        receiver: Receiver,
        queue: AlertQueue,
        transport: Transport,
        counts: Counts,
        log: FilteringBoundLogger,
        clock: Clock,
    ) -> None:
        self.receiver = receiver
        self._queue = queue
        self._transport = transport
        self._counts = counts
        self._log = log
        self._clock = clock
        self._wake = asyncio.Event()
        self._trying: set[asyncio.Task[None]] = set()
        self._delivered: set[str] = set()  # names of events whose delivery is not on record yet
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look at the queue now: something was added."""
        self._wake.set()

    async def stop(self) -> None:
        """Try what is due, and leave off a moment later.

        What is under way then is tried again by whoever comes next.
        """
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._take_due()
        if self._trying:
            await asyncio.wait(self._trying, timeout=_LAST_SECONDS)
        for trying in self._trying:
            trying.cancel()
        await asyncio.gather(*self._trying, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            with contextlib.suppress(StoreUnavailable):  # what is queued is safe there
                await self._take_due()
            await _set_within(self._wake, LOOK_SECONDS)

    async def _take_due(self) -> None:
        receiver = self.receiver
        if await self._queue.stopped([receiver.id]):
            return
        while (room := _AT_A_TIME - len(self._trying)) > 0:
            due = await self._queue.claim(receiver.id, self._clock(), room)
            for each in due:
                trying = asyncio.create_task(self._try(each))
                self._trying.add(trying)
                trying.add_done_callback(self._tried)
            if len(due) < room:
                return

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._trying.discard(task)
        self._wake.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._log.error("an alert could not be tried", fault=type(fault).__name__)

    async def _try(self, due: Due) -> None:
        if due.name in self._delivered:  # its lease has ended before its record could be made
            return
        outcome = await send(self._transport, self.receiver, due.id, due.body, self._clock())
        if outcome.is_delivered:
            self._counts.sent += 1
            await self._record(due)
            return
        self._counts.failed += 1
        with contextlib.suppress(StoreUnavailable):  # its lease ends, and it is tried again
            await self._failed(due, outcome)

    async def _record(self, due: Due) -> None:
        """Put a delivery on record, however long the queue is away."""
        self._delivered.add(due.name)
        try:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    await self._queue.done(self.receiver.id, due.name)
                    return
                await asyncio.sleep(LOOK_SECONDS / 2)
        finally:
            self._delivered.discard(due.name)

    async def _failed(self, due: Due, outcome: Outcome) -> None:
        receiver, now, log = self.receiver, self._clock(), self._log.bind(alert=due.id, receiver=self.receiver.shown)
        if outcome.status == GONE:
            log.error("a receiver of alerts wants no more of them: none are sent to it until its entry is changed")
            await self._queue.stop(receiver.id, receiver.fingerprint)
            return
        wait = retry_seconds(due.tries)
        if now + wait > due.made + DAY_SECONDS:
            log.error("an alert was given up after a day", tries=due.tries, last=outcome.words)
            self._counts.given_up += 1
            await self._queue.done(receiver.id, due.name)
            return
        log.warning("an alert was not taken", tries=due.tries, answer=outcome.words, next_seconds=wait)
        await self._queue.retry(receiver.id, due.name, now, wait)


class Counts:
    """What this process has sent."""

    __slots__ = ("failed", "given_up", "sent")

    def __init__(self) -> None:
        self.sent = self.failed = self.given_up = 0


def retry_seconds(tries: int) -> float:
    """Return the wait after so many tries.

    5 s, doubling to an hour."""
    return min(FIRST_RETRY_SECONDS * 2.0 ** min(tries - 1, _MOST_DOUBLINGS), LONGEST_RETRY_SECONDS)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
