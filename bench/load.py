"""Closed-loop load: each connection sends a request, waits for the whole answer, checks it to the byte, sends the next.

python -m bench.load JOB      JOB is a `Load` as JSON; prints a `Tally` as JSON
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop

from bench.wire import ANSWER, STREAM, AnswerReader, count_events, request_bytes

STRAGGLER_SECONDS = 15  # what is still unanswered so long after the last request began counts as an error


class Load(msgspec.Struct, frozen=True):
    port: int
    key: str
    stream: bool
    connections: int
    seconds: float  # no request begins after that


class Tally(msgspec.Struct, frozen=True):
    """What one load did. `served` counts answers, of streams their events; times are those of whole answers."""

    served: int
    errors: int
    seconds: float
    cpu_seconds: float  # of the load generator itself
    p50_ms: float | None
    p99_ms: float | None


def quantiles_ms(seconds: list[float]) -> tuple[float, float] | tuple[None, None]:
    """Median and 99th percentile in milliseconds; None where there are too few values to tell."""
    if len(seconds) < 2:
        return None, None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000


class Run:
    """The state that all connections of one load share."""

    def __init__(self, load: Load) -> None:
        self.request = request_bytes(load.port, load.key, stream=load.stream)
        self.expected = STREAM if load.stream else ANSWER
        self.stream = load.stream
        self.deadline = time.perf_counter() + load.seconds
        self.served = 0
        self.errors = 0
        self.durations: list[float] = []
        self.open_connections = load.connections
        self.finished = asyncio.Event()

    def answered(self, status: int, body: bytes, duration: float) -> None:
        self.durations.append(duration)
        self.served += count_events(body) if self.stream else 1
        self.errors += status != 200 or body != self.expected

    def broke(self, partial: bytes) -> None:
        self.errors += 1
        self.served += count_events(partial) if self.stream else 0

    def connection_ended(self) -> None:
        self.open_connections -= 1
        if self.open_connections == 0:
            self.finished.set()


class Client(asyncio.Protocol):
    """One connection. A connection that is lost is an error and is not replaced."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader = AnswerReader()
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._reader.feed(data)
        except httptools.HttpParserError:
            self._transport.abort()
            return
        if answer is not None:
            self._waiting = False
            self._run.answered(*answer, time.perf_counter() - self._sent_at)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._run.broke(self._reader.partial)
        self._run.connection_ended()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._sent_at > self._run.deadline:
            self._transport.close()
            return
        self._waiting = True
        self._transport.write(self._run.request)


async def run_load(load: Load) -> Tally:
    loop = asyncio.get_running_loop()
    run = Run(load)
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(run), "127.0.0.1", load.port))[0] for _ in range(load.connections)
    ]
    try:
        async with asyncio.timeout(load.seconds + STRAGGLER_SECONDS):
            await run.finished.wait()
    except TimeoutError:
        run.errors += run.open_connections
    seconds = time.perf_counter() - started
    for client in clients:
        client.abort()
    p50_ms, p99_ms = quantiles_ms(run.durations)
    return Tally(run.served, run.errors, seconds, time.process_time(), p50_ms, p99_ms)


def main() -> None:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(run_load(load))
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
