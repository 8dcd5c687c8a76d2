"""Aggregate the metrics of workers that share a listening socket.

A scrape reaches any one of them and must count all.

Each worker has a place in a private directory, held by a lock that ends with the process: a Unix socket on which it
tells its numbers, and a file with what it has told last. Who is scraped asks the others and adds up.

A worker that dies leaves its last told counts: they stay in the sum, and the worker that takes its place goes on from
them. So no sum that was ever shown shrinks by a death, which Prometheus would take for a restart of the whole; what
was counted between the last scrape and the death is not known. Gauges are those of the workers that answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec

from gateway.observability.metrics.families import Samples, joined, lasting

# A scrape has 10 s by default; a worker that says nothing for so long is stuck.
ANSWER_SECONDS = 2.0

ReadSamples = Callable[[], Awaitable[Samples]]

_decoder = msgspec.json.Decoder(Samples)


class MetricsAggregation:
    """One worker's place among the others.

    `tell` gives its own numbers as they are now.
    """

    def __init__(self, directory: Path, samples: ReadSamples) -> None:
        self._directory = directory
        self._samples = samples
        self._lock, self.place = _free_place(directory)
        self._answering = asyncio.Lock()
        self._before = _last_written(self._file("told"))  # of those who had this place

    @classmethod
    @asynccontextmanager
    async def join(cls, directory: Path, samples: ReadSamples) -> AsyncIterator[MetricsAggregation]:
        """Take a place and answer the others within the block.

        Raises OSError.
        """
        aggregation = cls(directory, samples)
        try:
            socket_file = aggregation._file("socket")
            socket_file.unlink(missing_ok=True)
            async with await asyncio.start_unix_server(aggregation._answer, socket_file):
                yield aggregation
        finally:
            os.close(aggregation._lock)

    async def samples(self) -> Samples:
        """Those of all workers together."""
        others = [int(file.stem) for file in self._directory.glob("*.lock") if file.stem != str(self.place)]
        return joined(await asyncio.gather(self._own(), *map(self._ask, others)))

    async def _own(self) -> Samples:
        async with self._answering:  # what is on file must be the newest
            own = joined([self._before, await self._samples()])
            await asyncio.to_thread(_write, self._file("told"), msgspec.json.encode(own))
            return own

    async def _ask(self, place: int) -> Samples:
        """Ask a worker for its samples.

        Of one that is dead or stuck, the last ones, as far as they still count.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._file("socket", place))
                try:
                    return _decoder.decode(await reader.read(-1))
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return await asyncio.to_thread(_last_written, self._file("told", place))

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(msgspec.json.encode(await self._own()))
                await writer.drain()
        finally:
            writer.close()

    def _file(self, kind: str, place: int | None = None) -> Path:
        return self._directory / f"{self.place if place is None else place}.{kind}"

    def __repr__(self) -> str:
        return f"<MetricsAggregation: place {self.place} in {self._directory}>"


def _free_place(directory: Path) -> tuple[int, int]:
    """Lock the first free place; return its descriptor and number.

    The descriptor is to be closed.
    """
    for place in count():
        lock = os.open(directory / f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return lock, place
    raise AssertionError("counting has no end")


def _last_written(file: Path) -> Samples:
    """Return the lasting part of a worker's last samples."""
    try:
        return lasting(_decoder.decode(file.read_bytes()))
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Where the disk refuses, only a death would show it.
    """
    with contextlib.suppress(OSError):
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(data)
        fresh.replace(file)
