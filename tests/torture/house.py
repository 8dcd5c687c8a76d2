"""What is tortured: a gateway that may be killed and started again, faulty upstreams, and a Redis of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kit import Reply, Wire, config, request_bytes
from kit.books import until
from kit.stage import Record, model
from store.grants_kit import RedisServer

from bench.processes import redis_program
from gateway.demo.answers import EVENTS, Asked, chunk, event, head
from gateway.demo.faults import Endless, Fault, Plan
from gateway.demo.faulty import REFUSE, FaultyUpstream
from torture.book import Book
from torture.options import Options

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
ADMIN_RECORD = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage", "usage:read"]}
TIMEOUTS = {"connect": 0.5, "first_byte": 0.5, "idle": 0.5, "total": 1.5}
UPSTREAMS = 3
# The upstreams live in the process of the test: on a busy machine it may stand still for longer than 0.5 s, and what is
# told of a stream without end is whether the gateway ends it.
ENDLESS_IDLE_SECONDS = 5.0
START_SECONDS = 20.0
# Bounds that nothing here comes near: what counts is that what they hold comes back.
LIMITS = {"concurrency": 5000, "requests": 10**9, "tokens": 10**12, "period": "month"}
TIGHT = {"rpm": 300}
FLOOD_PIECE_BYTES = 65_536
GRANTED, SAFE, ENDLESS, TIGHT_MODEL, EMBED = "granted", "safe", "endless", "tight", "embed"
# What only a store can tell is unknown for so long after Redis is back.
HEALED_SECONDS = 3.0


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
    """`deaths` and `redis_away`: spans of the loop's clock in which connections may be lost, the store be unknown."""

    def __init__(self, options: Options, directory: Path, book: Book) -> None:
        self.options = options
        self.directory = directory
        self.book = book
        self.dice = random.Random(f"{options.mode}:{options.seed}")
        self.port = _free_port()
        self.up = asyncio.Event()
        self.good_file = asyncio.Lock()  # held by who needs gateway.yaml to be valid, and by who breaks it
        self.deaths: list[tuple[float, float]] = []
        self.redis_away: list[tuple[float, float]] = []
        self.redis: RedisServer | None = None
        self.upstreams: list[FaultyUpstream] = []
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    @asynccontextmanager
    async def standing(cls, options: Options, directory: Path, book: Book) -> AsyncIterator[House]:
        """Everything runs, until the end of the block."""
        house = cls(options, directory, book)
        async with AsyncExitStack() as stack:
            if options.mode == "redis":
                house.redis = RedisServer(directory)
                stack.callback(house.redis.stop)
            for number in range(UPSTREAMS):
                running = FaultyUpstream.running(options.seed + number, book.met)
                house.upstreams.append(await stack.enter_async_context(running))
            flood = FaultyUpstream.running(options.seed, book.met, [FLOOD])
            house.upstreams.append(await stack.enter_async_context(flood))
            house.write_config()
            await house.start()
            try:
                yield house
            finally:
                if house._process is not None and house._process.returncode is None:
                    house._process.kill()
                    await house._process.wait()

    # -- the file

    def settings(self) -> dict[str, Any]:
        store = {"kind": "embedded"} if self.redis is None else {"kind": "redis", "url": self.redis.url}
        server = {"port": self.port, "workers": self.options.workers, "drain_seconds": 5}
        routing = {"unknown_model": "reject"}
        whole = config(list(models(self.upstreams)), server=server, store=store, routing=routing)
        whole["keys"].append(ADMIN_RECORD)
        return whole

    def write_config(self, text: str | None = None) -> None:
        """Replaces gateway.yaml as editors do; without `text`, by the good one with a new price in it."""
        whole = self.settings()
        whole["models"][0]["price"] = {"input": self.dice.randrange(1, 100) / 10, "output": 1}
        fresh = self.directory / "gateway.yaml.new"
        fresh.write_text(text if text is not None else json.dumps(whole, indent=1))
        fresh.replace(self.directory / "gateway.yaml")

    # -- the gateway's process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of those that serve."""
        if self.options.workers == 1:
            return [self.pid]
        return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def start(self) -> None:
        file = str(self.directory / "gateway.yaml")
        command = [sys.executable, "-m", "gateway", "serve", "-c", file, "--log-format", "json", "--log-level"]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, "warning", stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        await until(self._answers, START_SECONDS)
        self.up.set()

    async def kill(self) -> None:
        """`kill -9` of the gateway, or of one worker beside which another goes on. It is back when this returns."""
        began = asyncio.get_running_loop().time()
        self.deaths.append((began, math.inf))
        try:
            await (self._kill_worker() if self.options.workers > 1 else self._kill_gateway())
        finally:
            self.deaths[-1] = (began, asyncio.get_running_loop().time())

    async def _kill_worker(self) -> None:
        victim = self.dice.choice(self.workers)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: self._replaced(victim), START_SECONDS)

    async def _kill_gateway(self) -> None:
        assert self._process is not None
        async with self.good_file:
            self.up.clear()
            self._process.kill()
            await self._process.wait()
            try:
                await self.start()
            finally:
                self.up.set()  # clients that wait for one that never came are to see it

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(30):
            return await self._process.wait()

    def hang_up(self) -> None:
        """SIGHUP: read the file again."""
        os.kill(self.pid, signal.SIGHUP)

    async def _replaced(self, victim: int) -> bool:
        workers = self.workers
        return victim not in workers and len(workers) == self.options.workers

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log_file.read_text()[-3000:]
        try:
            return (await self.call("GET", "/healthz")).status == 200
        except ConnectionError:
            return False

    # -- what people ask it

    async def call(self, method: str, target: str, body: Any = None, *, key: str = ADMIN_KEY) -> Reply:
        async with Wire.open(self.port) as wire:
            await wire.send(request_bytes(method, target, body, key=key, headers=[("connection", "close")]))
            return await wire.reply()

    @property
    def log_file(self) -> Path:
        return self.directory / "log"

    # -- what may be excused

    def may_be_lost(self, began: float, ended: float) -> bool:
        """Whether a process was killed while this request ran."""
        return any(start <= ended and began <= end for start, end in self.deaths)

    def store_may_be_away(self, began: float, ended: float) -> bool:
        return any(start <= ended and began <= end + HEALED_SECONDS for start, end in self.redis_away)

    async def redis_leaves(self, seconds: float) -> None:
        """Redis is killed and started again, empty; or it hangs and goes on."""
        assert self.redis is not None
        began = asyncio.get_running_loop().time()
        self.redis_away.append((began, math.inf))
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
        self.redis_away[-1] = (began, asyncio.get_running_loop().time())


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def has_redis() -> bool:
    return redis_program() is not None
