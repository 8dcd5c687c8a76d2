"""From measured rounds to tables in markdown and to JSON: medians, spreads, and ratios taken within a round."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path

import msgspec

from bench.measure import CORES, KINDS, REQUEST_CONNECTIONS, STREAM_CONNECTIONS, Bench, Kind, Measured, Plan
from bench.wire import ANSWER_BYTES, EVENTS_PER_STREAM, TICK_SECONDS

YARDSTICK = "caddy"
BASE_LINE = "direct"
HEADINGS: dict[Kind, str] = {
    "requests": f"Non-streamed chat completion, {REQUEST_CONNECTIONS} connections "
    f"(fixed {ANSWER_BYTES}-byte JSON answer)",
    "events": f"Streamed, {STREAM_CONNECTIONS} connections, {EVENTS_PER_STREAM} events each, "
    f"one every {TICK_SECONDS * 1000:.0f} ms",
    "latency": "Latency at one connection (one request to each in random order, round after round)",
}


class Spread(msgspec.Struct, frozen=True):
    """Over the rounds."""

    median: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True):
    """What all rounds of one kind say of one target. `added_*`: over the direct way in the same round."""

    target: str
    errors: int
    served: int
    p50_ms: Spread | None
    p99_ms: Spread | None
    per_second: Spread | None
    cpu_us: Spread | None
    cpu_to_caddy: Spread | None
    added_p50_ms: Spread | None
    added_p99_ms: Spread | None


class Machine(msgspec.Struct, frozen=True):
    processor: str
    cores: int
    kernel: str
    python: str
    uvloop: str


class Peer(msgspec.Struct, frozen=True):
    name: str
    version: str
    note: str


class Report(msgspec.Struct, frozen=True):
    machine: Machine
    plan: Plan
    targets: list[Peer]
    absent: list[str]
    rows: dict[Kind, list[Row]]
    measured: list[Measured]

    @property
    def errors(self) -> int:
        return sum(each.errors for each in self.measured)


Value = Callable[[Measured], float | None]
Cell = Callable[[Row], str]


def make_report(bench: Bench, plan: Plan, measured: Sequence[Measured]) -> Report:
    peers = [Peer(each.name, each.target.version, each.target.note) for each in bench.contenders]
    rows = {
        kind: [_row(peer.name, [each for each in measured if each.kind == kind]) for peer in peers]
        for kind in KINDS
        if any(each.kind == kind for each in measured)
    }
    return Report(machine_facts(), plan, peers, bench.absent, rows, list(measured))


def machine_facts() -> Machine:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    return Machine(processor, CORES, platform.release(), platform.python_version(), version("uvloop"))


def _row(target: str, measured: Sequence[Measured]) -> Row:
    own = [each for each in measured if each.target == target]

    def over_direct(value: Value) -> Spread | None:
        return _spread(_pairs(own, measured, BASE_LINE, value, lambda mine, theirs: mine - theirs))

    return Row(
        target,
        errors=sum(each.errors for each in own),
        served=sum(each.served for each in own),
        p50_ms=_spread(each.p50_ms for each in own),
        p99_ms=_spread(each.p99_ms for each in own),
        per_second=_spread(each.per_second for each in own),
        cpu_us=_spread(each.cpu_us for each in own),
        cpu_to_caddy=_spread(
            _pairs(own, measured, YARDSTICK, attrgetter("cpu_us"), lambda mine, theirs: mine / theirs)
        ),
        added_p50_ms=over_direct(attrgetter("p50_ms")),
        added_p99_ms=over_direct(attrgetter("p99_ms")),
    )


def _pairs(
    own: Iterable[Measured],
    everyone: Iterable[Measured],
    other: str,
    value: Value,
    compare: Callable[[float, float], float],
) -> list[float]:
    """Each round's value beside `other`'s of the same round: drift of the machine between rounds drops out."""
    others = {each.round: value(each) for each in everyone if each.target == other}
    both = [(value(each), others.get(each.round)) for each in own]
    return [compare(mine, theirs) for mine, theirs in both if mine is not None and theirs]


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def markdown(report: Report) -> str:
    """The tables, who was measured and how far to trust it."""
    parts = [_machine_line(report)]
    for kind in KINDS:
        if kind in report.rows:
            parts += [f"## {HEADINGS[kind]}", _table(kind, report.rows[kind])]
    parts += ["What each one does, and does not:", _notes(report), _noise_line(report)]
    return "\n\n".join(part for part in parts if part)


def _machine_line(report: Report) -> str:
    machine, plan = report.machine, report.plan
    return (
        f"{machine.cores} cores of {machine.processor}, Linux {machine.kernel}, Python {machine.python}, uvloop "
        f"{machine.uvloop}; upstream, load and proxies on loopback. Medians of {plan.rounds} interleaved rounds, "
        f"lowest and highest in brackets. CPU µs: user + system time of the proxy's whole process "
        f"tree for each one served."
    )


def _spread_cell(field: str, digits: int) -> Cell:
    return lambda row: _show(getattr(row, field), digits)


def _over_direct_cell(field: str) -> Cell:
    return lambda row: "" if row.target == BASE_LINE else _show(getattr(row, field), 3)


NAME: tuple[str, Cell] = ("proxy", lambda row: row.target)
ERRORS: tuple[str, Cell] = ("errors", lambda row: str(row.errors))
COLUMNS: dict[Kind, list[tuple[str, Cell]]] = {
    "requests": [
        NAME,
        ("CPU µs a request", _spread_cell("cpu_us", 1)),
        (f"× {YARDSTICK}", _spread_cell("cpu_to_caddy", 2)),
        ("requests/s", _spread_cell("per_second", 0)),
        ("p50 ms", _spread_cell("p50_ms", 2)),
        ("p99 ms", _spread_cell("p99_ms", 2)),
        ERRORS,
    ],
    "events": [
        NAME,
        ("CPU µs an event", _spread_cell("cpu_us", 1)),
        (f"× {YARDSTICK}", _spread_cell("cpu_to_caddy", 2)),
        ("events/s", _spread_cell("per_second", 0)),
        ("whole stream p50 ms", _spread_cell("p50_ms", 0)),
        ("p99 ms", _spread_cell("p99_ms", 0)),
        ERRORS,
    ],
    "latency": [
        NAME,
        ("p50 ms", _spread_cell("p50_ms", 3)),
        ("p99 ms", _spread_cell("p99_ms", 3)),
        ("added p50 ms", _over_direct_cell("added_p50_ms")),
        ("added p99 ms", _over_direct_cell("added_p99_ms")),
        ERRORS,
    ],
}


def _table(kind: Kind, rows: Iterable[Row]) -> str:
    titles = [title for title, _ in COLUMNS[kind]]
    body = [[cell(row) for _, cell in COLUMNS[kind]] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *body))


def _show(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}–{spread.high:,.{digits}f})"


def _notes(report: Report) -> str:
    present = [f"- {' '.join(f'{each.name} {each.version}'.split())}: {each.note}." for each in report.targets]
    return "\n".join(present + [f"- not measured: {reason}" for reason in report.absent])


def _noise_line(report: Report) -> str:
    others = _spread(each.others_share for each in report.measured)
    stolen = _spread(each.stolen_share for each in report.measured)
    if others is None or stolen is None:
        return ""
    return (
        f"Of the machine's CPU, processes that are no part of this took {others.median:.0%} "
        f"(at most {others.high:.0%}), the hypervisor {stolen.median:.0%} (at most {stolen.high:.0%}). "
        f"Above a few per cent the times say little, and CPU µs and ratios shift too: measure again when it is quiet."
    )
