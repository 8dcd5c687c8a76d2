"""Latency at one connection: in each round one request to each target, in random order, on blocking sockets.

python -m bench.latency JOB      JOB is a `Latency` as JSON; prints a `Delay` for each port as JSON
"""

from __future__ import annotations

import random
import socket
import sys
import time

import msgspec

from bench.load import quantiles_ms
from bench.wire import ANSWER, AnswerReader, request_bytes

WARM_UP_ROUNDS = 50


class Latency(msgspec.Struct, frozen=True):
    ports: list[int]
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

    def __init__(self, port: int, key: str) -> None:
        self._request = request_bytes(port, key, stream=False)
        self._reader = AnswerReader()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._durations: list[float] = []
        self._errors = 0

    def ask(self) -> None:
        started = time.perf_counter()
        self._socket.sendall(self._request)
        while (answer := self._reader.feed(self._receive())) is None:
            pass
        self._durations.append(time.perf_counter() - started)
        self._errors += answer != (200, ANSWER)

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the target closed the connection")
        return data

    def close(self) -> Delay:
        self._socket.close()
        measured = self._durations[WARM_UP_ROUNDS:]
        return Delay(len(measured), self._errors, *quantiles_ms(measured))


def run_latency(latency: Latency) -> list[Delay]:
    lines = [Line(port, latency.key) for port in latency.ports]
    deadline = time.perf_counter() + latency.seconds
    for _ in range(WARM_UP_ROUNDS + latency.rounds):
        for line in random.sample(lines, len(lines)):
            line.ask()
        if time.perf_counter() > deadline:
            break
    return [line.close() for line in lines]


def main() -> None:
    delays = run_latency(msgspec.json.decode(sys.argv[1], type=Latency))
    sys.stdout.buffer.write(msgspec.json.encode(delays))


if __name__ == "__main__":
    main()
