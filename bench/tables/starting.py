"""From nothing to the first answer, and what has to be installed before."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import peers, targets
from bench.arena import GATEWAY, Arena, Builder, UpstreamAt
from bench.peers import Installed, UnavailableError
from bench.processes import StartError
from bench.samples import Column, Sample, Table

PAUSE_SECONDS = 0.005  # between two looks at whether it answers


def measure_startup(arena: Arena) -> Iterator[Sample]:
    with arena.upstream() as upstream:
        slow: set[str] = set()
        for number in range(1, arena.plan.starts + 1):
            for name, build in arena.builders("startup").items():
                if name in slow:
                    continue
                sample = _started(arena, upstream, name, build, number)
                if sample is not None:
                    yield sample
                    if arena.seen[name].slow:
                        slow.add(name)


def _started(arena: Arena, upstream: UpstreamAt, name: str, build: Builder, number: int) -> Sample | None:
    began = time.perf_counter()
    try:
        with arena.started(build, upstream, pause_seconds=PAUSE_SECONDS) as contender:
            seconds = time.perf_counter() - began
            assert contender.process is not None
            process = contender.process
            values = {
                "seconds": seconds,
                "cpu_seconds": process.cpu_seconds(),
                "resident_mb": process.resident_mb(),
            }
            return Sample(table="startup", target=name, round=number, values=values)
    except StartError as error:
        if name == GATEWAY:
            raise
        arena.leave_out(f"{name} (startup)", error)
        return None


def measure_install(arena: Arena) -> Iterator[Sample]:
    if arena.with_gateway and arena.plan.installs:
        try:
            yield _weighed(GATEWAY, peers.gateway(targets.REPOSITORY))
        except UnavailableError as reason:
            arena.leave_out("gateway (install)", reason)
    for name, installed in arena.peers.items():
        yield _weighed(name, installed)


def _weighed(name: str, installed: Installed) -> Sample:
    values = {"distributions": float(installed.distributions), "megabytes": installed.megabytes}
    if installed.seconds is not None:
        values["seconds"] = installed.seconds
    return Sample(table="install", target=name, values=values)


STARTUP = Table(
    name="startup",
    title=lambda _: "Start: from nothing to the first answer",
    about="The files are in the page cache. Resident: of the whole process tree, after its first answer. Targets that "
    "are slow are started once.",
    columns=(
        Column("seconds", "seconds", 2),
        Column("seconds", "gateway ÷ this", 2, "ratio"),
        Column("cpu_seconds", "CPU s", 2),
        Column("resident_mb", "resident MB", 1),
        Column("resident_mb", "gateway ÷ this", 2, "ratio"),
    ),
    chart="seconds",
    run=measure_startup,
)
INSTALL = Table(
    name="install",
    title=lambda _: "Installation into a fresh environment",
    about="Distributions and MB as installed, without interpreter and installer: pip's for gateway, caddy, "
    "sglang-router and litellm, npm's packages for portkey (Node not counted), Debian's for nginx. Seconds are those "
    "of the network and of the installer's cache as well; a peer's are of the day on which it was installed.",
    columns=(
        Column("distributions", "distributions", 0),
        Column("megabytes", "MB", 1),
        Column("megabytes", "gateway ÷ this", 3, "ratio"),
        Column("seconds", "seconds", 1),
    ),
    chart="megabytes",
    run=measure_install,
)
