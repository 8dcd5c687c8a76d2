"""Latency at one connection: in each round one request to each target, in random order, on blocking sockets.

python -m bench.latency      reads a `Latency` as JSON from stdin; prints a `Delay` for each line as JSON
"""

from __future__ import annotations

import random
import socket
import sys
import time

import msgspec

from bench.load import quantiles_ms
from bench.wire import AnswerReader, Expected, body_bytes, make_request

WARM_UP_ASKS = 50


class Target(msgspec.Struct, frozen=True):
    port: int
    headers: dict[str, str]
    byte_exact: bool
    every: int = 1  # asked in each so many-th round: slow ones would make the rest wait


class Latency(msgspec.Struct, frozen=True):
    targets: list[Target]
    key: str
    rounds: int
    seconds: float  # no round begins after that


class Delay(msgspec.Struct, frozen=True):
    """Quantiles of one target's answer times."""

    served: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None


class Line:
    """A keep-alive connection to one target, and what it measured."""

    def __init__(self, target: Target, key: str) -> None:
        request = make_request(target.port, body_bytes("chat"), target.headers)
        self.every = target.every
        self._request = request.with_key(key.encode())
        self._expected = Expected("chat", 0, byte_exact=target.byte_exact)
        self._reader = AnswerReader()
        self._socket = socket.create_connection(("127.0.0.1", target.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._durations: list[float] = []
        self._errors = 0

    def ask(self) -> None:
        started = time.perf_counter()
        self._socket.sendall(self._request)
        while (answer := self._reader.feed(self._receive())) is None:
            pass
        self._durations.append(time.perf_counter() - started)
        self._errors += not self._expected.is_met_by(*answer)

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the target closed the connection")
        return data

    def close(self) -> Delay:
        self._socket.close()
        measured = self._durations[WARM_UP_ASKS // self.every :]
        return Delay(len(measured), self._errors, *quantiles_ms(measured))


def run_latency(latency: Latency) -> list[Delay]:
    lines = [Line(target, latency.key) for target in latency.targets]
    deadline = time.perf_counter() + latency.seconds
    for number in range(WARM_UP_ASKS + latency.rounds):
        for line in random.sample(lines, len(lines)):
            if number % line.every == 0:
                line.ask()
        if time.perf_counter() > deadline:
            break
    return [line.close() for line in lines]


def main() -> None:
    delays = run_latency(msgspec.json.decode(sys.stdin.buffer.read(), type=Latency))
    sys.stdout.buffer.write(msgspec.json.encode(delays))


if __name__ == "__main__":
    main()
