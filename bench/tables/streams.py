"""Many streams at once: what each costs in memory, whether all end well, how long the first byte takes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from bench.arena import Arena, Contender, UpstreamAt, run_loads, with_cost
from bench.load import Load, RequestCounts
from bench.processes import Process, most_connections
from bench.samples import Column, Sample, Table
from bench.targets import LoopLag

TICK_SECONDS = 1.0
SLOTS = 50
FIRST_SECONDS = 0.1  # a model takes its time; the ratio to a direct answer in no time would say nothing
STRAGGLER_SECONDS = 30


def measure_streams(arena: Arena) -> Iterator[Sample]:
    """Each run has an upstream and a proxy of its own: memory grown before, and ports not yet free, play no part."""
    for count in arena.plan.streams:
        if count > most_connections():
            arena.leave_out(
                f"{count:,} streams", f"a process may open no more than {2 * most_connections():,} files here"
            )
            continue
        for number in range(1, arena.plan.stream_rounds + 1):
            for name in ("direct", *arena.builders("streams")):
                loop_lag = LoopLag(arena.plan.stream_events, TICK_SECONDS, SLOTS, FIRST_SECONDS)
                with arena.upstream(loop_lag) as upstream:
                    yield from _measure(arena, upstream, name, count, number)


def _measure(arena: Arena, upstream: UpstreamAt, name: str, count: int, number: int) -> Iterator[Sample]:
    with arena.contenders("streams", upstream, only=name) as contenders:
        for contender in contenders:
            yield _streamed(arena, contender, count, number)


def _streamed(arena: Arena, contender: Contender, count: int, number: int) -> Sample:
    process = contender.process
    arena.warm_up(contender)
    before_mb = _at_rest(process)
    load = _load(arena, contender, count)
    (tally,), cost = with_cost(process, lambda: run_loads([load]))
    values = _values(tally, count)
    if process:
        values["cpu_seconds"] = cost.cpu_seconds
        values["kb_a_stream"] = (process.peak_mb() - before_mb) * 1024 / count
    return Sample(
        table="streams",
        case=f"{count:,} at once",
        target=contender.name,
        round=number,
        errors=tally.errors,
        values=values,
        noise=cost.noise,
    )


def _at_rest(process: Process | None) -> float:
    """MB resident before the load; the peak is counted from here."""
    if process is None:
        return 0.0
    process.forget_peak()
    return process.resident_mb()


def _load(arena: Arena, contender: Contender, count: int) -> Load:
    opening = count / arena.plan.opened_per_second
    return arena.load(
        contender,
        body="stream",
        events=arena.plan.stream_events,
        connections=count,
        seconds=opening + arena.plan.stream_events * TICK_SECONDS,
        each=1,
        opened_per_second=arena.plan.opened_per_second,
        straggler_seconds=STRAGGLER_SECONDS,
    )


def _values(tally: RequestCounts, count: int) -> dict[str, float]:
    values = {"ended_well": tally.right / count * 100}
    if tally.first_p50_ms is not None and tally.first_p99_ms is not None:
        values |= {"first_p50_ms": tally.first_p50_ms, "first_p99_ms": tally.first_p99_ms}
    return values


STREAMS = Table(
    name="streams",
    title=lambda plan: (
        f"Many streams at once: {plan.stream_events} events each, the first after "
        f"{FIRST_SECONDS * 1000:.0f} ms, then one a second, "
        f"{plan.opened_per_second:,} opened a second"
    ),
    about="KB a stream: the peak of resident memory during the run less what was resident before it. Each run has a "
    "fresh process.",
    columns=(
        Column("kb_a_stream", "KB a stream", 1),
        Column("kb_a_stream", "gateway ÷ this", 2, "ratio"),
        Column("cpu_seconds", "CPU s in all", 2),
        Column("cpu_seconds", "gateway ÷ this", 2, "ratio"),
        Column("ended_well", "ended well %", 1),
        Column("first_p50_ms", "first byte p50 ms", 2),
        Column("first_p99_ms", "p99 ms", 2),
        Column("first_p99_ms", "added p99 ms", 2, "added"),
        Column("first_p99_ms", "p99, gateway ÷ this", 2, "ratio"),
    ),
    chart="kb_a_stream",
    run=measure_streams,
)
