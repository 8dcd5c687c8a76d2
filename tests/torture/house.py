"""What is tortured: gateways that may be killed and started again, faulty upstreams, stores of their own."""

from __future__ import annotations

import asyncio
import json
import math
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kit import Reply, config
from kit.books import stored
from kit.stage import Record, model
from store.grants_kit import RedisServer

from bench.processes import redis_program
from gateway.demo.answers import EVENTS, Asked, chunk, event, head
from gateway.demo.faults import Endless, Fault, Plan
from gateway.demo.faulty import REFUSE, FaultyUpstream
from torture.book import Book
from torture.databases import Database
from torture.gateways import ADMIN_KEY, Gateway
from torture.options import Options

ADMIN_RECORD = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage", "usage:read"]}
TIMEOUTS = {"connect": 0.5, "first_byte": 0.5, "idle": 0.5, "total": 1.5}
UPSTREAMS = 3
# The upstreams live in the process of the test: on a busy machine it may stand still for longer than 0.5 s, and what is
# told of a stream without end is whether the gateway ends it.
ENDLESS_IDLE_SECONDS = 5.0
# Bounds that nothing here comes near: what counts is that what they hold comes back.
LIMITS = {"concurrency": 5000, "requests": 10**9, "tokens": 10**12, "period": "month"}
TIGHT = {"rpm": 300}
FLOOD_PIECE_BYTES = 65_536
GRANTED, SAFE, ENDLESS, TIGHT_MODEL, EMBED = "granted", "safe", "endless", "tight", "embed"
# What only a store can tell is unknown for so long after Redis is back.
HEALED_SECONDS = 3.0
# A writer looks for a database that was away so often, at the least.
CAUGHT_UP_SECONDS = 6.0


def _flood(asked: Asked, _: random.Random) -> Plan:
    data = event({"id": asked.id, "choices": [], "padding": " " * FLOOD_PIECE_BYTES})
    return [head(200, EVENTS, ("transfer-encoding", "chunked")), Endless(chunk(data), pause_seconds=0)]


# So fast that a reader who stops is felt by the gateway within milliseconds, and not by the kernel's buffers alone.
FLOOD = Fault("flood", "a stream without end, as fast as it is taken", _flood)


def models(upstreams: list[FaultyUpstream]) -> Iterator[Record]:
    """Lone endpoints, which are never spared a fault, and pools of every rotation. The last upstream is the flood."""

    def leads_to(number: int, what: str, **more: Any) -> Record:
        return {"id": f"{what}-{number}", "url": upstreams[number].url(what), "timeouts": TIMEOUTS} | more

    for number in range(UPSTREAMS):
        yield model(f"lone-{number}", [leads_to(number, "often")], limits=LIMITS)
    for rotation in ("round_robin", "weighted", "least_busy"):
        ring = [leads_to(0, "often", weight=3), leads_to(1, "any", weight=2), leads_to(2, "good")]
        yield model(rotation, ring, rotation=rotation, limits=LIMITS)
    ranked = [leads_to(0, "any"), leads_to(1, REFUSE, priority=1), leads_to(2, "good", priority=2)]
    yield model("ranked", ranked, limits=LIMITS)
    yield model("falls-back", [leads_to(1, "any")], fallbacks=[f"id-{SAFE}"], limits=LIMITS)
    yield model(SAFE, [leads_to(0, "good")], limits=LIMITS)
    yield model(EMBED, [leads_to(1, "often"), leads_to(2, "good")], limits=LIMITS)
    patient = TIMEOUTS | {"idle": ENDLESS_IDLE_SECONDS}
    yield model(ENDLESS, [leads_to(UPSTREAMS, "any", timeouts=patient)], limits=LIMITS)
    yield model(TIGHT_MODEL, [leads_to(0, "good")], limits=TIGHT)
    yield model(GRANTED, [leads_to(0, "good")]) | {"global": False}


class House:
    """`redis_away`, `database_away`: spans of the loop's clock in which the store may be unknown."""

    def __init__(self, options: Options, directory: Path, book: Book) -> None:
        self.options = options
        self.directory = directory
        self.book = book
        self.dice = random.Random(f"{options.mode}:{options.seed}")
        self.gateways = [
            Gateway(directory / name, options.workers, self.dice) for name in ("", "second")[: options.gateways]
        ]
        self.redis_away: list[tuple[float, float]] = []
        self.database_away: list[tuple[float, float]] = []
        self.redis: RedisServer | None = None
        self.database: Database | None = None
        self.upstreams: list[FaultyUpstream] = []
        # What comes back empty is counted anew from the ledger, which must be there and have everything by then.
        self._one_store_away = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def standing(cls, options: Options, directory: Path, book: Book) -> AsyncIterator[House]:
        """Everything runs, until the end of the block."""
        house = cls(options, directory, book)
        async with AsyncExitStack() as stack:
            if options.has_redis:
                house.redis = RedisServer(directory)
                stack.callback(house.redis.stop)
            if options.database is not None:
                house.database = stack.enter_context(Database.running(options.database))
            for number in range(UPSTREAMS):
                running = FaultyUpstream.running(options.seed + number, book.met)
                house.upstreams.append(await stack.enter_async_context(running))
            flood = FaultyUpstream.running(options.seed, book.met, [FLOOD])
            house.upstreams.append(await stack.enter_async_context(flood))
            for gateway in house.gateways:
                gateway.directory.mkdir(exist_ok=True)
                stack.push_async_callback(gateway.end)
                house.write_config(gateway)
                await gateway.start()
            yield house

    # -- the file

    def settings(self, gateway: Gateway) -> dict[str, Any]:
        store = {"kind": "embedded"} if self.redis is None else {"kind": "redis", "url": self.redis.url}
        server = {"port": gateway.port, "workers": self.options.workers, "drain_seconds": 5}
        routing = {"unknown_model": "reject"}
        usage = {} if self.database is None else {"url": self.database.url}
        whole = config(list(models(self.upstreams)), server=server, store=store, routing=routing, usage=usage)
        whole["keys"].append(ADMIN_RECORD)
        return whole

    def write_config(self, gateway: Gateway, text: str | None = None) -> None:
        """Replaces gateway.yaml as editors do; without `text`, by the good one with a new price in it."""
        whole = self.settings(gateway)
        whole["models"][0]["price"] = {"input": self.dice.randrange(1, 100) / 10, "output": 1}
        fresh = gateway.directory / "gateway.yaml.new"
        fresh.write_text(text if text is not None else json.dumps(whole, indent=1))
        fresh.replace(gateway.directory / "gateway.yaml")

    @property
    def models(self) -> list[str]:
        return [record["name"] for record in models(self.upstreams)]

    # -- gateways

    def any_gateway(self, dice: random.Random) -> Gateway:
        """One that is up, if one is."""
        up = [each for each in self.gateways if each.up.is_set()] or self.gateways
        return up[0] if len(up) == 1 else dice.choice(up)

    async def up(self) -> None:
        """Waits until a gateway serves: one at a time is killed."""
        if not any(each.up.is_set() for each in self.gateways):
            await self.gateways[0].up.wait()

    async def all_up(self) -> None:
        for gateway in self.gateways:
            await gateway.up.wait()

    @property
    def workers(self) -> list[int]:
        """Process ids of those that serve."""
        return [pid for gateway in self.gateways for pid in gateway.workers]

    async def call(self, method: str, target: str, body: Any = None) -> Reply:
        return await self.any_gateway(self.dice).call(method, target, body)

    async def stop(self) -> int:
        """SIGTERM to all; the worst exit code."""
        return max(await asyncio.gather(*(each.stop() for each in self.gateways)))

    def rows(self) -> list[dict[str, Any]]:
        """The whole ledger."""
        return stored(self.directory) if self.database is None else self.database.rows()

    # -- what may be excused

    @property
    def deaths(self) -> int:
        return sum(len(each.deaths) for each in self.gateways)

    def store_may_be_away(self, began: float, ended: float) -> bool:
        """Redis, or the database that a total must be read from."""
        spans = [*self.redis_away, *self.database_away]
        return any(start <= ended and began <= end + HEALED_SECONDS for start, end in spans)

    async def redis_leaves(self, seconds: float) -> None:
        """Redis is killed and started again, empty; or it hangs and goes on."""
        assert self.redis is not None
        async with self._one_store_away, _away(self.redis_away):
            hangs = self.dice.random() < 0.5
            if hangs:
                self.redis.tell(signal.SIGSTOP)
            else:
                await asyncio.to_thread(self.redis.stop)
            await asyncio.sleep(seconds)
            if hangs:
                self.redis.tell(signal.SIGCONT)
            else:
                await asyncio.to_thread(self.redis.start)

    async def database_leaves(self, seconds: float) -> None:
        """The database's server is killed and started again, or it hangs and goes on."""
        assert self.database is not None
        server = self.database.server
        async with self._one_store_away:
            async with _away(self.database_away):
                leave, come = (server.freeze, server.thaw) if self.dice.random() < 0.5 else (server.kill, server.start)
                await asyncio.to_thread(leave)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(come)
            await asyncio.sleep(CAUGHT_UP_SECONDS)


@asynccontextmanager
async def _away(spans: list[tuple[float, float]]) -> AsyncIterator[None]:
    began = asyncio.get_running_loop().time()
    spans.append((began, math.inf))
    try:
        yield
    finally:
        spans[-1] = (began, asyncio.get_running_loop().time())


def has_redis() -> bool:
    return redis_program() is not None
