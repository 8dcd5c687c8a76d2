"""What a request costs in Redis: commands, round trips and bytes, counted by Redis itself.

A command of its own: `python -m bench.round_trips`. A gateway in this process with limits of each kind, a Redis of its
own; requests one after another, then many at once. Counts, so a busy machine plays no part.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from bench import targets
from bench.stalls import Outside, gateway
from bench.stalls import request as request_of

REQUESTS = 200
AT_ONCE = 32
_STATS = ("total_reads_processed", "total_net_input_bytes", "total_net_output_bytes")
_LIMITS = {
    "rpm": 10**8,
    "tpm": 10**11,
    "concurrency": 10**6,
    "requests": 10**9,
    "tokens": 10**12,
    "cost": 10**9,
    "period": "day",
}


class _Counts:
    """Redis' own counters, without what asking for them adds."""

    def __init__(self, client: redis.Redis[bytes]) -> None:
        self._client = client

    def now(self) -> Counter[str]:
        stats = self._client.info("stats")
        found = Counter({name: int(stats[name]) for name in _STATS})
        for name, each in self._client.info("commandstats").items():
            if not name.endswith(("info", "ping")):
                found[name.removeprefix("cmdstat_")] = int(each["calls"])
        return found


@contextmanager
def _redis(folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    process = subprocess.Popen(targets.redis(port, folder).command, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def _count(counts: _Counts, outside: Outside, port: int, at_once: int) -> Counter[str]:
    """Of `REQUESTS` requests, so many of them at a time."""
    body = request_of(b'{"model":"m"}')
    await asyncio.sleep(0.5)  # what is settled behind the answers
    before = counts.now()
    for _ in range(REQUESTS // at_once):
        statuses = await asyncio.gather(*[outside.ask(port, body) for _ in range(at_once)])
        assert set(statuses) == {200}, statuses
    await asyncio.sleep(0.5)
    return counts.now() - before


def _tell(name: str, found: Counter[str], at_once: int) -> None:
    asked = REQUESTS // at_once * at_once
    print(f"{name}: of each request")
    for what, number in found.most_common():
        print(f"  {what:28} {number / asked:10.2f}")


async def measure(folder: Path) -> None:
    outside = Outside()
    upstream_port = await outside.start()
    with _redis(folder) as redis_port:
        more = {
            "store": {"kind": "redis", "url": f"redis://127.0.0.1:{redis_port}/0"},
            "users": [{"id": "a", "grants": [{"model": "m", "limits": _LIMITS}]}],
        }
        async with gateway(folder, upstream_port, more) as port:
            with redis.Redis(port=redis_port) as client:
                counts = _Counts(client)
                await outside.ask(port, request_of(b'{"model":"m"}'))
                for at_once in (1, AT_ONCE):
                    _tell(f"{at_once} at a time", await _count(counts, outside, port, at_once), at_once)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory)))


if __name__ == "__main__":
    main()
