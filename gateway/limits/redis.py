"""Keep limits in Redis for many workers and machines.

Each step is one run of `script.lua`. A request waits for one round trip, shared with all that ask at the same moment;
settling and cancelling are told without waiting. The time is that of Redis, the one clock that all workers share. Redis
6.2 or newer; one step spans the keys of several scopes, so that in a Cluster `prefix` begins with a tag.

- A worker's reservations live as long as it is heard of: one heartbeat a worker, and any worker ends those of one that
  has fallen silent, within a lease and a quarter of another.
- Redis away, silent or unwell: each worker limits alone, by a MemoryLimiter, and tells Redis what was used when it is
  back. What runs on then is entered there. A circuit breaker says which of the two holds.
- Redis lost its data: totals are loaded from the ledger, by one worker for all, and running requests are entered again.
- Everything told is idempotent by request id; ends are numbered besides, since one may be told twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.errors import StoreUnavailable
from gateway.limits.base import OnSettled, Rebuild
from gateway.limits.demand import Demand, Standing, Used, nano, totals_period
from gateway.limits.memory import MemoryLimiter
from gateway.limits.over_limit import refusal
from gateway.limits.periods import bounds
from gateway.limits.reservation import Reservation
from gateway.limits.script_codec import (
    ADMITTED,
    MICROSECONDS,
    REFUSED,
    ScriptReply,
    Wish,
    counted,
    end_figures,
    entry_figures,
)
from gateway.limits.totals_loader import TotalsLoader
from gateway.redis.circuit_breaker import CircuitBreaker
from gateway.redis.link import RedisLink
from gateway.redis.outbox import Outbox
from gateway.redis.pipelining import Call
from gateway.redis.refusals import RedisUnavailable, Refusal, Reply, is_refusal, is_unwell, refusal_word
from gateway.redis.script import Script
from gateway.types import Limits

_MOST_LAPSED = 500  # requests of dead workers that one heartbeat ends
_LOAD_SECONDS = 10.0  # in which one worker or another must have loaded them
_LAST_WORDS_SECONDS = 1.0  # in which the ends of requests are delivered at the end

_encode = msgspec.msgpack.Encoder().encode


class _Live(NamedTuple):
    """A running request; `alone` admitted it while Redis was away."""

    reservation: Reservation
    alone: MemoryLimiter | None = None


class RedisLimiter:
    """Keep limits in Redis; see the module and `base`.

    `start` before use, `close` at the end. `prefix` is that of `store.prefix`; keys begin with it and `limit:`.
    `lease_seconds`: how long a worker that is not heard of keeps its reservations. `clock`: "caller" goes by the `now`
    of each call instead of the time of Redis, for tests of the calendar.
    """

    def __init__(
        self,
        link: RedisLink,
        rebuild: Rebuild,
        *,
        prefix: str = "gw:",
        log: Callable[[str], None],
        lease_seconds: float = 10.0,
        clock: Literal["redis", "caller"] = "redis",
    ) -> None:
        self.on_settled: OnSettled | None = None
        self._rebuild = rebuild
        self._prefix, self._keys = prefix, (f"{prefix}limit:life",)  # by which a Cluster knows where the others are
        self._log = log
        self._lease_seconds, self._by_redis = lease_seconds, clock == "redis"
        self._worker = os.urandom(8).hex()
        self._connections = self._ends = 0
        self._life, self._answered_at = "", 0.0
        self._live: dict[str, _Live] = {}
        self._totals = TotalsLoader(rebuild, self._message, self._ask, self._send, self._beat)
        self._alone = MemoryLimiter(rebuild)
        self._beating: asyncio.Task[None] | None = None
        self._script = Script(files("gateway.limits").joinpath("script.lua").read_text(encoding="utf-8"))
        self._link = link
        self._breaker = CircuitBreaker(link, self._first_beat, on_close=self._reconnected, on_open=self._disconnected)
        self._ends_outbox = Outbox(link, self._script, self._keep_refused, self._totals.recount)

    def __repr__(self) -> str:
        return f"<RedisLimiter {self._worker}: {len(self._live)} running, {self._link!r}>"

    @property
    def is_degraded(self) -> bool:
        return not self._breaker.is_closed

    @property
    def is_behind(self) -> bool:
        return not self._breaker.is_closed or self._ends_outbox.is_behind or self._totals.is_recounting

    @property
    def round_trips(self) -> int:
        return self._link.round_trips

    async def start(self) -> None:
        """Connects. Redis being away is no error: see `is_degraded`."""
        await self._link.start()
        await self._breaker.start()
        self._beating = asyncio.create_task(self._beat_on())

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self._totals.close()
        await self._alone.close()
        await self._ends_outbox.emptied(_LAST_WORDS_SECONDS)
        self._ends_outbox.close()
        await self._breaker.stop()
        await self._link.stop()

    # -- the contract

    async def reserve(
        self,
        request_id: str,
        demands: Sequence[Demand],
        *,
        tokens: int,
        cost: float,
        now: float,
        place: Reservation | None = None,
        requests: int = 1,
    ) -> Reservation:
        wish = Wish(request_id, demands, tokens, cost, now, place, requests)
        if not demands:
            return wish.reservation()
        try:
            reservation, alone = await self._reserve(wish), None
        except RedisUnavailable as down:
            alone = self._alone
            reservation = await self._reserve_alone(wish, alone, withdraw=down.sent)
        except asyncio.CancelledError:  # the client has gone, and Redis may have admitted its request
            self._send_end("cancel", wish.reservation(), 0, 0.0, now)
            raise
        if place is not None:  # given up here, and in Redis where it is not yet
            self.cancel(place, now=now)
        self._live[request_id] = _Live(reservation, alone)
        return reservation

    def settle(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        live = self._live.pop(reservation.request_id, None)
        if live is None:
            return
        if live.alone is not None:
            live.alone.settle(live.reservation, tokens=tokens, cost=cost, now=now)
        self._send_end("settle", live.reservation, tokens, cost, now)
        if self.on_settled is not None:
            self.on_settled(live.reservation, tokens, nano(cost))

    def cancel(self, reservation: Reservation, *, now: float) -> None:
        live = self._live.pop(reservation.request_id, None)
        if live is None:
            return
        if live.alone is not None:
            live.alone.cancel(live.reservation, now=now)
        self._send_end("cancel", live.reservation, 0, 0.0, now)

    def detach(self, reservation: Reservation, *, now: float) -> None:
        live = self._live.pop(reservation.request_id, None)
        if live is not None and live.alone is not None:
            live.alone.detach(live.reservation, now=now)
        self._send(self._message("detach", now, reservation.request_id, counted(reservation)))

    async def hold(self, reservation: Reservation) -> None:
        self._enter(reservation, detached=True)
        if not self._breaker.is_closed:
            await self._alone.hold(reservation)

    def settle_held(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        self._alone.settle_held(reservation, tokens=tokens, cost=cost, now=now)
        self._send_end("settle", reservation, tokens, cost, now)
        if self.on_settled is not None:
            self.on_settled(reservation, tokens, nano(cost))

    async def used(self, scope: str, limits: Limits, now: float) -> Used:
        if totals_period(limits) is None:  # not counted here
            return await self._rebuild(scope, float(bounds(limits.period, now)[0]))
        return (await self.standing((Demand(scope, limits),), now))[0].used

    async def standing(self, demands: Sequence[Demand], now: float) -> list[Standing]:
        try:
            return (await self._ask_loaded(Wish("", demands, 0, 0.0, now))).standings
        except RedisUnavailable:
            return await self._alone.standing(demands, now)

    # -- reserving

    async def _reserve(self, wish: Wish) -> Reservation:
        answer = await self._ask_loaded(wish)
        if answer.code == REFUSED:
            raise refusal(wish.demands, answer.standings, answer.now, wish.asked(), wish.requests)
        return wish.reservation(answer.standings, answer.now)

    async def _reserve_alone(self, wish: Wish, alone: MemoryLimiter, *, withdraw: bool) -> Reservation:
        """Reserve in this worker's memory while Redis is away.

        `withdraw`: Redis may have admitted the request; if this worker does not, that has to be undone.
        """
        try:
            return await alone.reserve(
                wish.request_id,
                wish.demands,
                tokens=wish.tokens,
                cost=wish.cost,
                now=wish.now,
                place=wish.place,
                requests=wish.requests,
            )
        except BaseException:
            if withdraw:
                self._send_end("cancel", wish.reservation(), 0, 0.0, wish.now)
            raise

    async def _ask_loaded(self, wish: Wish) -> ScriptReply:
        """Reserve once all the totals that it needs are loaded.

        Without a request id it only looks.
        """
        demands, now, figures = wish.demands, wish.now, wish.figures()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _LOAD_SECONDS
        while True:
            reply = await self._ask(self._message("reserve", now, self._holder, *figures))
            if reply[0] in (ADMITTED, REFUSED):
                return ScriptReply.read(reply)
            if loop.time() > give_up_at:
                raise StoreUnavailable("What was used of this limit cannot be told at the moment.")
            demand = demands[reply[2]]
            await self._totals.load(demand, start=reply[3], end=reply[4], is_mine=reply[5] == 1, now=now)

    # -- leases

    @property
    def _holder(self) -> str:
        """Return a new holder id, one for each connection.

        What an old connection may still have on its way then lapses with it.
        """
        return f"{self._worker}.{self._connections}"

    async def _first_beat(self) -> None:
        """Write a first heartbeat, which proves that Redis takes writes.

        It may answer and be full, or a replica.
        """
        self._connections += 1
        await self._asked(self._beat_message())

    def _reconnected(self) -> None:
        self._alone = MemoryLimiter(self._rebuild)  # what the old one counted would be stale the next time
        self._ends_outbox.open()
        self._enter_running()

    def _disconnected(self, reason: str) -> None:
        self._ends_outbox.close()
        if self._link.is_up:  # else the link has said that Redis is away
            self._log(f"Redis does not answer ({reason}): limits are kept for each worker alone")

    def _enter_running(self) -> None:
        for live in self._live.values():
            self._enter(live.reservation, detached=False)

    def _enter(self, held: Reservation, *, detached: bool) -> None:
        self._send(self._message("rehome", held.now, self._holder, *entry_figures(held, detached=detached)))

    async def _beat_on(self) -> None:
        while True:
            try:
                has_more = await self._beat()
            except RedisUnavailable:
                has_more = False
            if not has_more:
                await asyncio.sleep(self._lease_seconds / 4)

    async def _beat(self) -> bool:
        """Renew this worker's lease; True where dead workers left more."""
        loop = asyncio.get_running_loop()
        life, more = await self._ask(self._beat_message())
        was_silent = loop.time() - self._answered_at > self._lease_seconds
        self._answered_at = loop.time()
        name = life.decode()
        if name != self._life or was_silent:
            self._life = name
            self._enter_running()
        return bool(more)

    def _beat_message(self) -> bytes:
        lease = round(self._lease_seconds * MICROSECONDS)
        return self._message("beat", 0, self._holder, lease, os.urandom(8).hex(), _MOST_LAPSED)

    # -- messages

    def _send_end(self, kind: str, held: Reservation, tokens: int, cost: float, now: float) -> None:
        self._ends += 1
        figures = end_figures(held, kind, tokens, cost)
        self._ends_outbox.put(self._message("end", now, self._worker, self._ends, self._life, *figures))

    def _send(self, packed: bytes) -> None:
        """Without waiting; lost where Redis is away."""
        if self._breaker.is_closed:
            self._link.issue(Call(packed, None, script=self._script))

    async def _ask(self, packed: bytes) -> list[Any]:
        """Run the script. Raises RedisUnavailable within 250 ms."""
        if not self._breaker.is_closed:
            raise RedisUnavailable(sent=False)
        return await self._asked(packed)

    async def _asked(self, packed: bytes) -> list[Any]:
        reply: Reply = await self._link.ask(packed, self._script)
        if is_refusal(reply):
            self._keep_refused(reply)
            raise RedisUnavailable(sent=True, reason=refusal_word(reply))
        answer: list[Any] = reply
        return answer

    def _keep_refused(self, refusal: Refusal) -> bool:
        """Whether Redis is unwell, so that messages are kept."""
        if is_unwell(refusal):
            self._breaker.trip(refusal_word(refusal))
            return True
        self._log(f"Redis refuses a command of the limiter: {refusal}")
        return False

    def _message(self, operation: str, now: float, *arguments: Any) -> bytes:
        time = 0 if self._by_redis else round(now * MICROSECONDS)
        return self._script.packed(self._keys, (_encode((self._prefix, operation, time, *arguments)),))
