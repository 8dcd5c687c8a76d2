"""From samples to rows: medians, spreads, what is added over direct, and ratios taken within a round."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.arena import CORES, GATEWAY, Arena
from bench.goals import GOALS, Verdict, judge
from bench.revisions import Change, changes
from bench.rows import Row, Spread
from bench.samples import Plan, Sample
from bench.tables import TABLES

BASE_LINE = "direct"
LIBRARIES = ("aiohttp", "httptools", "uvloop", "orjson", "msgspec")


class Machine(msgspec.Struct, frozen=True):
    processor: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    libraries: dict[str, str]


class About(msgspec.Struct, frozen=True):
    """One target: what it is, and what it does not do."""

    name: str
    version: str
    note: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    when: str  # a date, UTC
    command: str
    machine: Machine
    plan: Plan
    targets: list[About]
    absent: dict[str, str]
    verdicts: list[Verdict]
    changes: list[Change]  # from the older revision to this one, where both were measured
    rows: list[Row]
    samples: list[Sample]
    others_share: Spread | None
    stolen_share: Spread | None

    @property
    def errors(self) -> int:
        """Of the gateway and of the direct way: with any, the figures do not count. A peer's stand in its rows."""
        peers = {each.name for each in self.targets} - {GATEWAY, BASE_LINE}
        return sum(each.errors for each in self.samples if each.target not in peers)


def make_report(arena: Arena, samples: Sequence[Sample], command: str) -> Report:
    rows = make_rows(samples)
    return Report(
        when=f"{datetime.now(UTC):%Y-%m-%d}",
        command=command,
        machine=machine_facts(),
        plan=arena.plan,
        targets=[About(each.name, each.version, each.note) for each in arena.seen.values()],
        absent=arena.absent,
        verdicts=[judge(goal, rows) for goal in GOALS],
        changes=changes(rows),
        rows=rows,
        samples=list(samples),
        others_share=spread(each.noise.others for each in samples if each.noise),
        stolen_share=spread(each.noise.stolen for each in samples if each.noise),
    )


def machine_facts() -> Machine:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return Machine(
        processor=models[0].partition(":")[2].strip() if models else platform.machine(),
        cores=CORES,
        memory_gb=round(memory_kb / 2**20, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
    )


def make_rows(samples: Sequence[Sample]) -> list[Row]:
    """One for each target in each case of each table, in the order in which tables list and samples came."""
    places = list(dict.fromkeys((each.table, each.case) for each in samples))
    places.sort(key=lambda place: list(TABLES).index(place[0]))
    return [row for place in places for row in _rows_of([each for each in samples if (each.table, each.case) == place])]


def _rows_of(samples: Sequence[Sample]) -> Iterable[Row]:
    for target in dict.fromkeys(each.target for each in samples):
        own = [each for each in samples if each.target == target]
        fields = list(dict.fromkeys(name for each in own for name in each.values))
        yield Row(
            table=own[0].table,
            case=own[0].case,
            target=target,
            rounds=len(own),
            errors=sum(each.errors for each in own),
            values=_spreads(fields, lambda name, own=own: (each.values.get(name) for each in own)),  # type: ignore[misc]
            added=_compared(own, samples, fields, BASE_LINE, lambda mine, direct: mine - direct),
            ratios=_compared(own, samples, fields, GATEWAY, lambda mine, gateway: gateway / mine if mine else None),
        )


def _compared(
    own: Sequence[Sample],
    everyone: Sequence[Sample],
    fields: Sequence[str],
    other: str,
    compare: Callable[[float, float], float | None],
) -> dict[str, Spread]:
    """Each round's value beside `other`'s of the same round: drift of the machine between rounds drops out."""
    if own[0].target == other:
        return {}
    others = {each.round: each.values for each in everyone if each.target == other}
    both = [(each.values, others[each.round]) for each in own if each.round in others]
    return _spreads(
        fields,
        lambda name: (compare(mine[name], theirs[name]) for mine, theirs in both if name in mine and name in theirs),
    )


def _spreads(fields: Sequence[str], values: Callable[[str], Iterable[float | None]]) -> dict[str, Spread]:
    found = {name: spread(values(name)) for name in fields}
    return {name: each for name, each in found.items() if each is not None}


def spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None
