"""Two workers beside one, and what memory does under load that goes on."""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from bench import targets
from bench.arena import CORES, Arena, Contender, RedisAt, UpstreamAt, run_loads, with_cost
from bench.processes import Process, on_cores
from bench.samples import Column, Sample, Table
from bench.targets import LoopLag, Place, Target

CORES_TO_PART = 4  # from here on the workers have two to themselves
LOADS = 2  # processes, so that it is not the load that sets the pace
CONNECTIONS = 32  # of each of them
SOAK_CONNECTIONS = 16
SOAK_STREAMS = 50
WARM_UP_SECONDS = 90.0  # at most half of the time: the counts of a sliding minute take as long to be full
WINDOW_SECONDS = 60.0  # at most; a fifth of the time where that is shorter


class _Cores(NamedTuple):
    """Which are the workers', and which everybody else's."""

    workers: list[int]
    others: list[int]

    @classmethod
    def parted(cls) -> _Cores:
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[:2], cores[2:]) if len(cores) >= CORES_TO_PART else cls(cores, cores)


def measure_workers(arena: Arena) -> Iterator[Sample]:
    cores = _Cores.parted()
    with on_cores(cores.others), arena.redis() as redis, arena.upstream() as upstream:
        for number in range(1, arena.plan.worker_rounds + 1):
            one = _with_workers(arena, upstream, redis, cores, 1, number)
            yield one
            two = _with_workers(arena, upstream, redis, cores, 2, number)
            two.values["speed_up"] = two.values["per_second"] / max(1.0, one.values["per_second"])
            two.values["cpu_ratio"] = two.values["cpu_us"] / one.values["cpu_us"]
            yield two


def _with_workers(
    arena: Arena, upstream: UpstreamAt, redis: RedisAt, cores: _Cores, workers: int, number: int
) -> Sample:
    with ExitStack() as stack:
        with on_cores(cores.workers):
            gateway = stack.enter_context(arena.started(partial(_gateway, workers, redis), upstream))
        arena.warm_up(gateway)
        loads = [arena.load(gateway, connections=CONNECTIONS, seconds=arena.plan.request_seconds)] * LOADS
        counters, cost = with_cost(gateway.process, lambda: run_loads(loads))
    served = sum(each.served for each in counters)
    return Sample(
        table="workers",
        target=f"{workers} worker{'s' if workers > 1 else ''}",
        round=number,
        errors=sum(each.errors for each in counters),
        values={
            "per_second": served / max(each.seconds for each in counters),
            "cpu_us": cost.cpu_seconds / max(1, served) * 1e6,
            "cores_used": cost.cpu_seconds / cost.wall_seconds,
        },
        noise=cost.noise,
    )


def _gateway(workers: int, redis: RedisAt, place: Place) -> Target:
    server = f"server: {{host: 127.0.0.1, port: {place.port}, workers: {workers}}}\n"
    return targets.gateway(place, sections=server + redis.section)


def measure_soak(arena: Arena) -> Iterator[Sample]:
    loop_lag = LoopLag(arena.plan.events)
    with arena.upstream(loop_lag) as upstream, arena.started(targets.gateway, upstream) as gateway:
        yield _soaked(arena, gateway)


def _soaked(arena: Arena, gateway: Contender) -> Sample:
    assert gateway.process is not None
    seconds = arena.plan.soak_seconds
    loads = [
        arena.load(gateway, connections=SOAK_CONNECTIONS, seconds=seconds),
        arena.load(gateway, connections=SOAK_STREAMS, body="stream", events=arena.plan.events, seconds=seconds),
    ]
    with _Watch(gateway.process) as watch:
        counters, cost = with_cost(gateway.process, lambda: run_loads(loads))
    first, last = watch.first_and_last_mb(seconds)
    return Sample(
        table="soak",
        target=gateway.name,
        errors=sum(each.errors for each in counters),
        values={
            "first_mb": first,
            "last_mb": last,
            "growth": (last - first) / first * 100,
            "requests": float(counters[0].served),
            "events": float(counters[1].served),
        },
        noise=cost.noise,
    )


class _Watch:
    """Looks at a process's resident memory every second, in a thread."""

    def __init__(self, process: Process, *, every_seconds: float = 1.0) -> None:
        self._process = process
        self._every_seconds = every_seconds
        self._series: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self._every_seconds):
            self._series.append(self._process.resident_mb())

    def first_and_last_mb(self, seconds: float) -> tuple[float, float]:
        """Means of the first window after the warm-up and of the last one under load."""
        under_load = self._series[: int(seconds / self._every_seconds)] or [self._process.resident_mb()]
        warm = under_load[int(min(WARM_UP_SECONDS, seconds / 2) / self._every_seconds) :] or under_load
        size = max(1, int(min(WINDOW_SECONDS, seconds / 5) / self._every_seconds))
        return statistics.fmean(warm[:size]), statistics.fmean(warm[-size:])


WORKERS = Table(
    name="workers",
    title=lambda _: f"Two workers beside one, with Redis, {LOADS * CONNECTIONS} connections",
    about=(
        f"Of this machine's {CORES} cores the workers have two to themselves; load, upstream and Redis have the others."
        if CORES >= CORES_TO_PART
        else f"Load, upstream and Redis share this machine's {CORES} cores with the workers: where all are busy, "
        "requests/s cannot double, and the CPU of one request is what tells whether a second worker costs more than "
        "itself."
    ),
    columns=(
        Column("per_second", "requests/s", 0),
        Column("speed_up", "to one worker", 2),
        Column("cpu_us", "CPU µs a request", 1),
        Column("cpu_ratio", "to one worker", 2),
        Column("cores_used", "cores used", 2),
    ),
    chart="per_second",
    run=measure_workers,
    first_column="gateway with",
)
SOAK = Table(
    name="soak",
    title=lambda plan: (
        f"Memory under {plan.soak_seconds:,.0f} s of load: {SOAK_CONNECTIONS} connections of requests, "
        f"{SOAK_STREAMS} of streams"
    ),
    about="Resident MB of the process, looked at every second: mean of the first window after the warm-up (a minute "
    "and a half, in which the counts of a sliding minute fill), and of the last. A window is a fifth of "
    "the time, at most a minute.",
    columns=(
        Column("first_mb", "first MB", 1),
        Column("last_mb", "last MB", 1),
        Column("growth", "growth %", 1),
        Column("requests", "requests", 0),
        Column("events", "events", 0),
    ),
    chart="last_mb",
    run=measure_soak,
)
