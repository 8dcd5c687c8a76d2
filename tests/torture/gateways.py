"""One gateway of those that are tortured: its process, its workers, when connections to it may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from kit import Reply, Wire, request_bytes
from kit.books import until

from bench.processes import free_port

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
START_SECONDS = 60.0  # on a machine that is busy elsewhere, a drain included


class Gateway:
    """`directory` has its gateway.yaml, its journal and its log. `deaths`: spans in which a process was killed."""

    def __init__(self, directory: Path, workers: int, dice: Random) -> None:
        self.directory = directory
        self.port = free_port()
        self.up = asyncio.Event()
        self.good_file = asyncio.Lock()  # held by who needs gateway.yaml to be valid, and by who breaks it
        self.deaths: list[tuple[float, float]] = []
        self.log_file = directory / "log"
        self._one_death = asyncio.Lock()
        self._count = workers
        self._dice = dice
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of those that serve; none of a gateway that was killed."""
        if self._count == 1:
            return [self.pid]
        try:
            return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

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

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def end(self) -> None:
        """Whatever it takes."""
        if self._process is not None and self._process.returncode is None:
            for pid in [*self.workers, self.pid]:
                _kill(pid)
            await self._process.wait()

    def hang_up(self) -> None:
        """SIGHUP: read the file again."""
        with contextlib.suppress(ProcessLookupError):  # killed, and not started again yet
            os.kill(self.pid, signal.SIGHUP)

    # -- kill -9; all is back when these return

    async def kill_worker(self) -> None:
        async with self._death():
            victim = self._dice.choice(self.workers)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: self._replaced(victim), START_SECONDS)

    async def kill(self) -> None:
        """The whole gateway: its supervisor and all workers at once, or the supervisor alone, whom workers follow."""
        assert self._process is not None
        async with self.good_file, self._death():
            self.up.clear()
            workers = self.workers
            self._process.kill()
            if self._count > 1 and self._dice.random() < 0.5:
                for pid in workers:
                    _kill(pid)
            await self._process.wait()
            await until(partial(_all_ended, workers), START_SECONDS)  # they drain, and hold the port meanwhile
            try:
                await self.start()
            finally:
                self.up.set()  # clients that wait for one that never came are to see it

    @asynccontextmanager
    async def _death(self) -> AsyncIterator[None]:
        async with self._one_death:
            began = asyncio.get_running_loop().time()
            self.deaths.append((began, math.inf))
            try:
                yield
            finally:
                self.deaths[-1] = (began, asyncio.get_running_loop().time())

    async def _replaced(self, victim: int) -> bool:
        workers = self.workers
        return victim not in workers and len(workers) == self._count

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log_file.read_text()[-3000:]
        try:
            return (await self.call("GET", "/healthz")).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    def may_be_lost(self, began: float, ended: float) -> bool:
        """Whether a process of it was killed while this request ran."""
        return any(start <= ended and began <= end for start, end in self.deaths)

    async def call(self, method: str, target: str, body: Any = None, *, key: str = ADMIN_KEY) -> Reply:
        async with Wire.open(self.port) as wire:
            await wire.send(request_bytes(method, target, body, key=key, headers=[("connection", "close")]))
            return await wire.reply()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _all_ended(pids: list[int]) -> bool:
    return all(_state(pid) == "Z" for pid in pids)


def _state(pid: int) -> str:
    """`Z`: it has ended, and nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"
