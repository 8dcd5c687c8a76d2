"""Closed-loop load: each connection sends a request, waits for the whole answer, checks it to the byte, sends the next.

python -m bench.load      reads a `Load` as JSON from stdin; prints a `Tally` as JSON
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import sys
import time
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

from bench.wire import NUMBER, AnswerReader, BodyKind, Expected, body_bytes, count_events, make_request


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Bounded in time, and by `each` in count."""

    port: int
    key: str
    headers: dict[str, str] = {}
    body: BodyKind = "chat"
    megabytes: float = 0  # of a body with an image
    events: int = 100  # of a stream
    byte_exact: bool = True
    connections: int
    seconds: float  # no request begins after that
    each: int | None = None  # requests of one connection
    opened_per_second: int | None = None  # connections; None: as fast as may be
    straggler_seconds: float = 15  # what is unanswered so long after the last request may begin counts as an error
    keys_file: str | None = None  # a key a line, used in turn instead of `key`
    numbered: bool = False  # each request has its own number where `headers` have `wire.NUMBER`


class RequestCounts(msgspec.Struct, frozen=True):
    """What one load did. `served` counts answers, of streams their events; `right` the answers that were as expected.

    p50 and p99 are of whole answers, `first_*` of the time to an answer's first bytes.
    """

    served: int
    right: int
    errors: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    first_p50_ms: float | None
    first_p99_ms: float | None


def quantiles_ms(seconds: list[float]) -> tuple[float, float] | tuple[None, None]:
    """Median and 99th percentile in milliseconds; None where there are too few values to tell."""
    if len(seconds) < 2:
        return None, None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000


class Run:
    """The state that all connections of one load share."""

    def __init__(self, load: Load) -> None:
        self._request = make_request(load.port, body_bytes(load.body, load.megabytes), load.headers)
        keys = Path(load.keys_file).read_bytes().split() if load.keys_file else [load.key.encode()]
        self._keys = itertools.cycle(keys)
        self._whole = self._request.with_key(keys[0]) if len(keys) == 1 else None
        self._numbers = itertools.count(1) if load.numbered else None
        self._expected = Expected(load.body, load.events, byte_exact=load.byte_exact)
        self._is_stream = load.body == "stream"
        self.each = math.inf if load.each is None else load.each
        self.deadline = time.perf_counter() + load.seconds
        self.served = 0
        self.right = 0
        self.errors = 0
        self.durations: list[float] = []
        self.first_bytes: list[float] = []
        self.open_connections = load.connections
        self.finished = asyncio.Event()

    def next_request(self) -> bytes:
        request = self._whole if self._whole is not None else self._request.with_key(next(self._keys))
        if self._numbers is None:
            return request
        return request.replace(NUMBER.encode(), b"%0*d" % (len(NUMBER), next(self._numbers)))

    def answered(self, status: int, body: bytes, duration: float) -> None:
        self.durations.append(duration)
        self.served += count_events(body) if self._is_stream else 1
        is_right = self._expected.is_met_by(status, body)
        self.right += is_right
        self.errors += not is_right

    def broke(self, partial: bytes) -> None:
        self.errors += 1
        self.served += count_events(partial) if self._is_stream else 0

    def connection_ended(self) -> None:
        self.open_connections -= 1
        if self.open_connections == 0:
            self.finished.set()

    def tally(self, seconds: float) -> RequestCounts:
        times = *quantiles_ms(self.durations), *quantiles_ms(self.first_bytes)
        return RequestCounts(self.served, self.right, self.errors, seconds, *times)


class Client(asyncio.Protocol):
    """One connection. A connection that is lost is an error and is not replaced."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader = AnswerReader()
        self._waiting = False
        self._heard = False  # of the answer that is waited for
        self._asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        if not self._heard:
            self._heard = True
            self._run.first_bytes.append(time.perf_counter() - self._sent_at)
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
        if self._sent_at > self._run.deadline or self._asked >= self._run.each:
            self._transport.close()
            return
        self._asked += 1
        self._waiting = True
        self._heard = False
        self._transport.write(self._run.next_request())


async def run_load(load: Load) -> RequestCounts:
    run = Run(load)
    started = time.perf_counter()
    clients: list[asyncio.Transport] = []
    try:
        async with asyncio.timeout(load.seconds + load.straggler_seconds):
            await _connect(load, run, clients)
            await run.finished.wait()
    except TimeoutError:
        run.errors += run.open_connections
    seconds = time.perf_counter() - started
    for client in clients:
        client.abort()
    return run.tally(seconds)


async def _connect(load: Load, run: Run, clients: list[asyncio.Transport]) -> None:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for number in range(load.connections):
        if load.opened_per_second:
            early = began + number / load.opened_per_second - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
        clients.append((await loop.create_connection(lambda: Client(run), "127.0.0.1", load.port))[0])


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(run_load(load))
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
