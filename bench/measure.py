"""Who stands ready, which load runs against whom in which round, and what it cost whom."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench import targets
from bench.latency import Delay, Latency
from bench.load import Load, Tally
from bench.peers import UnavailableError
from bench.processes import Census, Process, free_port, running
from bench.targets import Target

LoadKind = Literal["requests", "events"]
Kind = LoadKind | Literal["latency"]
KINDS: tuple[Kind, ...] = ("requests", "events", "latency")
REQUEST_CONNECTIONS = 16
STREAM_CONNECTIONS = 100
WARM_UP_SECONDS = 0.5  # of requests, before a target's first round
LATENCY_SECONDS = 60  # no round of the latency measurement begins after that
SETTLE_SECONDS = 0.3  # what a proxy puts off until the load is over is its work all the same
LOAD_TIMEOUT_SECONDS = 90
CORES = len(os.sched_getaffinity(0))


class Plan(msgspec.Struct, frozen=True):
    """How long and how often."""

    rounds: int
    request_seconds: float
    stream_seconds: float  # no stream begins after that; each lasts two seconds
    latency_samples: int  # each round


FULL = Plan(rounds=5, request_seconds=6, stream_seconds=5, latency_samples=1000)
QUICK = Plan(rounds=2, request_seconds=2, stream_seconds=1, latency_samples=300)


class Measured(msgspec.Struct, frozen=True):
    """One round of one kind with one target. Shares are of all cores together; None: not applicable."""

    kind: Kind
    target: str
    round: int
    served: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    per_second: float | None = None
    cpu_us: float | None = None  # user and system time of the target's process tree for each one served
    others_share: float | None = None  # taken by processes that are no part of the benchmark
    stolen_share: float | None = None  # taken by the hypervisor


@dataclass(frozen=True)
class Contender:
    """A target that stands ready."""

    target: Target
    port: int
    process: Process | None  # None: the upstream itself, with no proxy before it

    @property
    def name(self) -> str:
        return self.target.name


@dataclass(frozen=True)
class Bench:
    """Everyone that stands ready before the upstream, and who could not come."""

    key: str
    contenders: list[Contender]
    absent: list[str]


@contextmanager
def started(peers: Iterable[str], *, with_gateway: bool) -> Iterator[Bench]:
    """Everything up and answering; ended by process id on the way out. Raises `StartError`."""
    key = "sk-bench-" + secrets.token_urlsafe(24)
    builders = ({"gateway": targets.gateway} if with_gateway else {}) | {name: targets.PEERS[name] for name in peers}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        port = free_port()
        _start(stack, targets.upstream(port), folder, port, key)
        bench = Bench(key, [Contender(targets.DIRECT, port, None)], [])
        for name, build in builders.items():
            ports = targets.Ports(own=free_port(), upstream=port)
            try:
                target = build(_made(folder / name), ports, key)
            except UnavailableError as reason:
                bench.absent.append(f"{name}: {reason}")
                continue
            process = _start(stack, target, folder / name, ports.own, key)
            bench.contenders.append(Contender(target, ports.own, process))
        yield bench


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _start(stack: ExitStack, target: Target, folder: Path, port: int, key: str) -> Process:
    log = folder / "output.log"
    process = Process(target.name, target.command, log, cwd=targets.REPOSITORY, environment=target.environment)
    stack.enter_context(running(process))
    process.wait_until_it_answers(port, key)
    return process


def measure(bench: Bench, plan: Plan, kinds: Iterable[Kind]) -> Iterator[Measured]:
    """All kinds in turn, each in rounds that take the targets one after another: A B C, A B C, …"""
    for kind in kinds:
        for number in range(1, plan.rounds + 1):
            if kind == "latency":
                yield from _measure_latency(bench, plan, number)
            else:
                for contender in bench.contenders:
                    yield _measure_load(bench, plan, kind, contender, number)


class Snapshot(NamedTuple):
    """CPU seconds used so far, and when that was."""

    clock: float
    everyone: float
    ours: float  # this process with all below it: load, upstream and every target
    target: float
    stolen: float

    @classmethod
    def take(cls, contender: Contender) -> Snapshot:
        census = Census()
        target = census.cpu_seconds_of_tree(contender.process.pid) if contender.process else 0.0
        ours = census.cpu_seconds_of_tree(os.getpid())
        return cls(time.monotonic(), census.cpu_seconds, ours, target, census.stolen_seconds)

    def since(self, before: Snapshot) -> Snapshot:
        return Snapshot(*(now - then for now, then in zip(self, before, strict=True)))


def _measure_load(bench: Bench, plan: Plan, kind: LoadKind, contender: Contender, number: int) -> Measured:
    load = _load(bench, plan, kind, contender.port)
    if number == 1:
        _run_load(msgspec.structs.replace(load, stream=False, seconds=WARM_UP_SECONDS))
    before = Snapshot.take(contender)
    tally = _run_load(load)
    time.sleep(SETTLE_SECONDS)
    used = Snapshot.take(contender).since(before)
    return Measured(
        kind,
        contender.name,
        number,
        tally.served,
        tally.errors,
        tally.p50_ms,
        tally.p99_ms,
        per_second=tally.served / tally.seconds,
        cpu_us=used.target / tally.served * 1e6 if contender.process and tally.served else None,
        others_share=(used.everyone - used.ours) / (used.clock * CORES),
        stolen_share=used.stolen / (used.clock * CORES),
    )


def _load(bench: Bench, plan: Plan, kind: LoadKind, port: int) -> Load:
    if kind == "requests":
        return Load(port, bench.key, False, REQUEST_CONNECTIONS, plan.request_seconds)
    return Load(port, bench.key, True, STREAM_CONNECTIONS, plan.stream_seconds)


def _measure_latency(bench: Bench, plan: Plan, number: int) -> list[Measured]:
    ports = [contender.port for contender in bench.contenders]
    job = Latency(ports, bench.key, plan.latency_samples, LATENCY_SECONDS)
    delays = msgspec.json.decode(_output_of("bench.latency", job), type=list[Delay])
    return [
        Measured("latency", contender.name, number, delay.served, delay.errors, delay.p50_ms, delay.p99_ms)
        for contender, delay in zip(bench.contenders, delays, strict=True)
    ]


def _run_load(load: Load) -> Tally:
    return msgspec.json.decode(_output_of("bench.load", load), type=Tally)


def _output_of(module: str, job: msgspec.Struct) -> bytes:
    """What a load process prints; raises `subprocess.SubprocessError` where it fails or hangs."""
    command = [sys.executable, "-m", module, msgspec.json.encode(job).decode()]
    return subprocess.run(
        command, stdout=subprocess.PIPE, cwd=targets.REPOSITORY, timeout=LOAD_TIMEOUT_SECONDS, check=True
    ).stdout
