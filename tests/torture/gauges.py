"""What a worker holds: read from /proc and from what it tells of itself."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from kit import Wire, request_bytes

from torture.book import Book
from torture.gateways import ADMIN_KEY, Gateway
from torture.house import House

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_SAMPLE_SECONDS = 1.0
_REST_SECONDS = 30.0


@dataclass(frozen=True)
class Holding:
    """One worker at rest or at work. `tasks` counts asyncio's, that of the reading request included."""

    pid: int
    in_flight: int
    tasks: int
    descriptors: int
    resident_mb: float


@dataclass
class Samples:
    """Resident memory over time, by process."""

    memory: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    most_descriptors: int = 0

    async def take(self, house: House, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not over.is_set():
            await house.up()
            for pid in house.workers:
                try:
                    self.memory.setdefault(pid, []).append((loop.time(), resident_mb(pid)))
                    self.most_descriptors = max(self.most_descriptors, descriptors(pid))
                except (FileNotFoundError, ProcessLookupError):
                    continue  # killed since
            await asyncio.sleep(_SAMPLE_SECONDS)

    def growth_mb(self, since: float) -> dict[int, tuple[float, float]]:
        """Memory in the first and in the last quarter of the time from `since` on, of those that lived through it."""
        grown = {}
        for pid, samples in self.memory.items():
            late = [each for at, each in samples if at >= since]
            if len(late) >= 4 and samples[-1][0] >= max(each[-1][0] for each in self.memory.values()) - 5:
                quarter = max(1, len(late) // 4)
                grown[pid] = (median(late[:quarter]), median(late[-quarter:]))
        return grown


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB / 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def holdings(house: House) -> list[Holding]:
    """Of each worker."""
    return [holding for gateway in house.gateways for holding in await _holdings_of(gateway)]


async def _holdings_of(gateway: Gateway) -> list[Holding]:
    """Connections are opened until the kernel has given us one to each worker; one to each is kept, and asked."""
    wires: dict[int, Wire] = {}
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        while set(wires) < set(gateway.workers):
            wire = await Wire.connected(gateway.port)
            pid = (await _detail(wire))["pid"]
            if pid in wires:
                await wire.close()
            else:
                stack.push_async_callback(wire.close)
                wires[pid] = wire
        return [_holding(await _detail(wire)) for wire in wires.values()]


async def _detail(wire: Wire) -> dict[str, Any]:
    await wire.send(request_bytes("GET", "/readyz", key=ADMIN_KEY))
    return dict((await wire.reply()).json()["detail"])


def _holding(detail: dict[str, Any]) -> Holding:
    pid = detail["pid"]
    return Holding(pid, detail["inFlight"], detail["tasks"], descriptors(pid), resident_mb(pid))


async def at_rest(house: House, book: Book) -> list[Holding]:
    """Waits until nothing is in flight and two readings in a row agree; says so in the book where that never comes."""
    for upstream in house.upstreams:
        await upstream.hang_up()
    before: list[Holding] = []
    try:
        async with asyncio.timeout(_REST_SECONDS):
            while True:
                now = await holdings(house)
                if _quiet(before) == _quiet(now) and not any(each.in_flight for each in now):
                    return now
                before = now
                await asyncio.sleep(0.5)
    except TimeoutError:
        book.wrong(f"no rest within {_REST_SECONDS:g} s: {before}")
        return before


def _quiet(held: list[Holding]) -> dict[int, tuple[int, int]]:
    return {each.pid: (each.tasks, each.descriptors) for each in held}


async def still_reserved(house: House) -> list[str]:
    """What is reserved although nothing runs: of limits, and of endpoints. Waits for the leases of killed workers."""
    found: list[str] = []
    try:
        async with asyncio.timeout(_REST_SECONDS):
            # It is another process that gives it back, and tells nobody.
            while found := [*await _running_by_limits(house), *await _running_by_endpoints(house)]:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
    except TimeoutError:
        pass
    return found


async def _running_by_limits(house: House) -> list[str]:
    told = []
    for name in house.models:
        reply = await house.call("GET", f"/api/admin/explain?user=42&model={name}")
        limits = reply.json()["limits"]
        told += [f"{name}: {each['used']} {each['limit']}" for each in limits if each["limit"] == "concurrency"]
    if house.redis is not None:
        with house.redis.client() as client:
            told += [f"held in Redis: {each!r}" for each in client.hkeys("gw:limit:held")]
    return [each for each in told if ": 0 " not in each and ": 0.0 " not in each]


async def _running_by_endpoints(house: House) -> list[str]:
    replies = [await gateway.call("GET", "/api/admin/ai/endpoints") for gateway in house.gateways]
    told = [each for reply in replies for each in reply.json()]
    return [f"{each['modelName']}/{each['endpointId']}: {each['inFlight']}" for each in told if each["inFlight"]]
