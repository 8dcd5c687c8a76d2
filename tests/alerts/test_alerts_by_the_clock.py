"""Months that end, days that pass while a receiver is away: alerts of a process whose clock the test turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from alerts_kit import Hook, shares, told
from kit import FakeUpstream, answer, as_openai
from kit.wire import DEADLINE_SECONDS
from store.grants_kit import Clock, Log

from gateway.alerts import AlertQueue, Alerts, Counted, SqliteQueue, Surroundings
from gateway.alerts.dispatch import Counts, Delivery, retry_seconds
from gateway.alerts.event import DAY_SECONDS, event
from gateway.alerts.queue import LEASE_SECONDS, Due
from gateway.alerts.sender import Receiver
from gateway.config.settings import AlertSettings
from gateway.errors import StoreUnavailable
from gateway.http.client import Transport
from gateway.limits import Demand, MemoryLimiter, Reservation, Used, bounds
from gateway.store.base import Catalogue
from gateway.types import Limits, Secret

LIMITS = Limits(tokens=1000, period="month")
OWNER = "user:42:model:m"
TRIES_IN_A_DAY = 33  # after 5 s, 10 s … 2,560 s, then every hour
NOT_TAKEN, GIVEN_UP = "an alert was not taken", "an alert was given up after a day"


class Turned:
    """Alerts to a hook; `clock` is theirs, and the limiter's as the test tells it."""

    def __init__(self, hook: Hook, queue: AlertQueue, transport: Transport) -> None:
        self.hook = hook
        self.queue = queue
        self.transport = transport
        self.clock = Clock()
        self.clock.now = time.time()
        self.log = Log()
        self.settled: list[tuple[float, int]] = []  # what a ledger would know: when it was admitted, its tokens
        self.limiter = MemoryLimiter(self._known)
        self.entry = AlertSettings(
            Secret(hook.url), (Secret(hook.secret),), at=(50, 80, 100), events=frozenset({"limits"})
        )
        wanted = (self.entry,)
        around = Surroundings(
            limiter=self.limiter,
            rebuild=self._known,
            describe=_described,
            catalogue=_no_catalogue,
            ledger_is_well=lambda: True,
            take_replayed=tuple,
            counted_lately=_nothing_lately,
            watch_answers=_ignored,
            salt="salt",
            clock=self.clock,
        )
        self.alerts = Alerts(lambda: wanted, queue, transport, around, self.log.logger)

    async def begin(self, request_id: str) -> Reservation:
        demands = [Demand(OWNER, LIMITS)]
        return await self.limiter.reserve(request_id, demands, tokens=1, cost=0, now=self.clock())

    def end(self, held: Reservation, tokens: int) -> None:
        self.limiter.settle(held, tokens=tokens, cost=0, now=self.clock())
        self.settled.append((held.now, tokens))

    async def use(self, tokens: int) -> None:
        self.end(await self.begin(f"request-{len(self.settled)}"), tokens)

    async def _known(self, scope: str, since: float) -> Used:
        tokens = [tokens for at, tokens in self.settled if at >= since]
        return Used(len(tokens), sum(tokens))


async def _described(scope: str, with_limits: bool) -> Counted:
    return Counted("user", 42, "m", "m", LIMITS)


async def _no_catalogue() -> Catalogue:
    raise AssertionError("nothing cools here")


async def _nothing_lately() -> Iterable[str]:
    return ()


def _ignored(is_wanted: bool) -> None:
    pass


async def until(wanted: Callable[[], bool]) -> None:
    """Waits for what has no event."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not wanted():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def turned(queue: AlertQueue, *, watching: bool = True) -> AsyncIterator[Turned]:
    upstream = await FakeUpstream.start(as_openai())
    transport = Transport()
    made = Turned(Hook(upstream), queue, transport)
    if watching:
        await made.alerts.start()
    try:
        yield made
    finally:
        await made.alerts.close()
        await transport.close()
        await upstream.close()


async def test_a_new_month_tells_of_its_thresholds_anew(queue: AlertQueue) -> None:
    """By another id, from another beginning; a request that ran over the month's end counts where it began."""
    async with turned(queue) as place:
        place.clock.now = bounds("month", time.time())[0] - 2.0
        running = await place.begin("over")
        await place.use(500)
        await place.hook.endpoint.request(1)
        place.clock.now = time.time()
        await place.use(600)
        await place.hook.endpoint.request(2)
        place.end(running, 300)
        await place.hook.endpoint.request(3)
        old, new, late = (told(each, place.hook.secret) for each in place.hook.requests)
    assert shares([old, new, late]) == [50, 50, 80]
    assert old["data"]["from"] == late["data"]["from"] != new["data"]["from"]
    assert (old["data"]["used"], new["data"]["used"], late["data"]["used"]) == (500, 600, 800)
    assert len({old["id"], new["id"], late["id"]}) == 3


async def test_what_was_used_before_the_month_counts_nothing_in_it(queue: AlertQueue) -> None:
    async with turned(queue) as place:
        place.clock.now = bounds("month", time.time())[0] - 2.0
        await place.use(490)
        place.clock.now = time.time()
        await place.use(490)
        await place.use(10)
        await place.hook.endpoint.request(1)
        (only,) = place.hook.events()
    assert (only["data"]["share"], only["data"]["used"]) == (50, 500)


async def test_an_alert_is_given_up_after_a_day(tmp_path: Path) -> None:
    """After 5 s, doubling to an hour; then it is dropped and logged, and the next is sent as if nothing had been."""
    async with turned(SqliteQueue(tmp_path), watching=False) as place:
        receiver, counts, clock = Receiver.of(place.entry), Counts(), place.clock
        place.hook.always(answer(500, b""))
        delivery = Delivery(receiver, place.queue, place.transport, counts, place.log.logger, clock)
        begun = clock()
        await place.queue.add(event("salt", "first", "test", begun, {}), [receiver.id], begun)
        while not place.log.events(GIVEN_UP):
            delivery.wake()
            tries = len(place.log.events(NOT_TAKEN)) + 1
            await until(lambda: len(place.log.events(NOT_TAKEN)) + len(place.log.events(GIVEN_UP)) == tries)  # noqa: B023 - it is asked here alone
            if not place.log.events(GIVEN_UP):
                clock.advance(retry_seconds(tries))
        age = clock() - begun
        place.hook.always(answer(200, b""))
        await place.queue.add(event("salt", "second", "test", clock(), {}), [receiver.id], clock())
        delivery.wake()
        await until(lambda: counts.sent == 1)
        await delivery.stop()
    assert DAY_SECONDS - 3600 < age <= DAY_SECONDS
    *failed, last = (told(each, place.hook.secret)["id"] for each in place.hook.requests)
    assert len(failed) == counts.failed == TRIES_IN_A_DAY
    assert len(set(failed)) == 1
    assert last not in failed
    assert counts.given_up == 1


async def test_what_waited_for_more_than_a_day_is_tried_once(queue: AlertQueue) -> None:
    """The gateway was off meanwhile: at once after its start, and then no more."""
    async with turned(queue) as place:
        receiver = Receiver.of(place.entry).id
        place.hook.always(answer(500, b""))
        made = event("salt", "a", "limit.threshold", time.time(), {"share": 50})
        await queue.add(made, [receiver], time.time() - DAY_SECONDS)
        await place.hook.endpoint.request(1)
        await until(lambda: place.alerts.counts.given_up == 1)
        assert await queue.waiting([receiver]) == 0


async def test_a_delivery_is_not_repeated_while_its_record_waits(tmp_path: Path) -> None:
    """The queue goes away between a receiver's 2xx and its record, for longer than another worker would wait."""
    queue = ForgetfulQueue(tmp_path)
    async with turned(queue, watching=False) as place:
        receiver, counts, clock = Receiver.of(place.entry), Counts(), place.clock
        delivery = Delivery(receiver, queue, place.transport, counts, place.log.logger, clock)
        queue.is_away = True
        await queue.add(event("salt", "a", "test", clock(), {}), [receiver.id], clock())
        delivery.wake()
        await until(lambda: counts.sent == 1)
        clock.advance(LEASE_SECONDS + 1)
        delivery.wake()
        await until(lambda: queue.claimed == 2)
        queue.is_away = False
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await queue.waiting([receiver.id]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await delivery.stop()
    assert len(place.hook.requests) == 1


class ForgetfulQueue(SqliteQueue):
    """Takes no records of deliveries while it is away."""

    is_away = False
    claimed = 0

    async def claim(self, receiver: str, now: float, most: int) -> list[Due]:
        found = await super().claim(receiver, now, most)
        self.claimed += len(found)
        return found

    async def done(self, receiver: str, name: str) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        await super().done(receiver, name)
