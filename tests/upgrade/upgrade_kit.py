"""What the tests of upgrades share: a gateway with its successors, and clients that never stop asking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agree.agree_kit import gateway, running_upstream, settings
from kit import KEYS, FakeUpstream, GatewayProcess, Wire, ask, request_bytes
from kit.books import until
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

GENEROUS = 90  # drain_seconds that no test waits for


def models(upstream: FakeUpstream) -> Iterator[Record]:
    for name in ("quick", "streamed", "held"):
        yield model(name, [endpoint(upstream, name)])


class Dynasty:
    """A gateway and those that took over from it, one after another; their log lines come together."""

    def __init__(self, founder: GatewayProcess, upstream: FakeUpstream) -> None:
        self.founder = founder
        self.upstream = upstream
        self.pids = [founder.process.pid]
        self._known: set[int] = set()  # those too that never served

    @classmethod
    @asynccontextmanager
    async def found(cls, directory: Path, redis: RedisServer | None = None, **server: Any) -> AsyncIterator[Dynasty]:
        """Runs until the end of the block; every process ends then, if it has not before."""
        async with running_upstream() as upstream:
            whole = settings(
                list(models(upstream)), redis.url if redis else None, server={"drain_seconds": GENEROUS, **server}
            )
            async with gateway(directory, whole) as founder:
                dynasty = cls(founder, upstream)
                try:
                    yield dynasty
                finally:
                    dynasty.signal(signal.SIGTERM)

    @property
    def port(self) -> int:
        return self.founder.port

    def signal(self, number: signal.Signals) -> None:
        """To the one that serves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[-1], number)

    async def begin_upgrade(self) -> int:
        """Sends SIGUSR2. Returns the process id of the successor, which starts."""
        self.signal(signal.SIGUSR2)
        event = "successor started"
        line = await self.founder.log(lambda line: line["event"] == event and line["successor"] not in self._known)
        self.pids.append(line["successor"])
        self._known.add(line["successor"])
        return self.pids[-1]

    async def count(self, event: str, wanted: int) -> None:
        """Waits until the processes together have logged so many of these."""

        async def logged() -> bool:
            return sum(line["event"] == event for line in self.founder.logs) >= wanted

        await until(logged)

    async def founder_ended(self) -> int | None:
        """Waits for the end of the first one alone: its output is that of its successors as well. Its exit code."""

        async def gone() -> bool:
            return not self.founder.is_running

        await until(gone)
        return self.founder.process.returncode

    async def ended(self, pid: int) -> None:
        """Waits for the end of one that is no child of the tests."""

        async def gone() -> bool:
            return not is_alive(pid)

        await until(gone)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has buried yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Crowd:
    """Clients that ask again as soon as they have an answer. Everything that came of it is counted."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.moves = 0  # connections on which an answer said that it was the last
        self._stop = False

    @classmethod
    @asynccontextmanager
    async def around(cls, dynasty: Dynasty, *, staying: int, fleeting: int) -> AsyncIterator[Crowd]:
        """`staying` clients keep a connection for as long as they may, `fleeting` ones make one for each request."""
        crowd = cls(dynasty.port)
        async with asyncio.TaskGroup() as clients:
            for _ in range(staying):
                clients.create_task(crowd._client(stays=True))
            for _ in range(fleeting):
                clients.create_task(crowd._client(stays=False))
            try:
                await crowd.more(20)
                yield crowd
            finally:
                crowd._stop = True

    async def more(self, count: int) -> None:
        """Waits for so many more outcomes."""
        wanted = self.outcomes.total() + count

        async def enough() -> bool:
            return self.outcomes.total() >= wanted

        await until(enough)

    async def _client(self, *, stays: bool) -> None:
        while not self._stop:
            async with Wire.open(self.port) as wire:
                goes_on = True
                # As connection pools do: one that the server has closed in the meantime is not used again.
                while goes_on and not self._stop and not wire.reader.at_eof():
                    goes_on = await self._ask(wire) and stays

    async def _ask(self, wire: Wire) -> bool:
        """Whether the connection is good for another."""
        try:
            await wire.send(request_bytes("POST", "/v1/chat/completions", ask("quick"), key=KEYS["user"]))
            reply = await wire.reply()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.outcomes[repr(error)] += 1
            return False
        self.outcomes[str(reply.status)] += 1
        is_last = reply.header("connection") == "close"
        self.moves += is_last
        return not is_last
