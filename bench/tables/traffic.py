"""CPU a request and an event, with the traffic that most proxies see most of the time; latency added; TLS upstreams."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench import latency
from bench.arena import Arena, Contender, Cost, output_of, run_loads, with_cost
from bench.latency import Delay, Latency
from bench.load import Load, RequestCounts
from bench.samples import Column, Sample, Table
from bench.targets import LoopLag
from bench.wire import ANSWER_BYTES

REQUEST_CONNECTIONS = 16
STREAM_CONNECTIONS = 100
TICK_SECONDS = 0.02
LATENCY_SECONDS = 60  # no round of the latency measurement begins after that
SLOW_STREAM_SECONDS = 60  # for slow targets: a hundred streams at once keep LiteLLM busy for some twenty seconds
ASKED_SELDOM = 10  # slow targets in the latency table: in each so many-th round

CPU = Column("cpu_us", "CPU µs each", 1)
RATIO = Column("cpu_us", "gateway ÷ this", 2, "ratio")


def measure_requests(arena: Arena) -> Iterator[Sample]:
    with arena.upstream() as upstream, arena.contenders("requests", upstream) as contenders:
        yield from _request_rounds(arena, "requests", contenders, arena.plan.rounds)


def measure_tls(arena: Arena) -> Iterator[Sample]:
    with (
        arena.upstream(tls=True) as upstream,
        arena.contenders("tls", upstream, with_direct=False) as contenders,
    ):
        yield from _request_rounds(arena, "tls", contenders, arena.plan.side_rounds)


def _request_rounds(arena: Arena, table: str, contenders: list[Contender], rounds: int) -> Iterator[Sample]:
    """A B C, A B C, …: drift of the machine between rounds drops out of the ratios."""
    for contender in contenders:
        arena.warm_up(contender)
    for number in range(1, rounds + 1):
        for contender in contenders:
            if number <= arena.plan.slow_rounds or not contender.target.slow:
                load = arena.load(contender, connections=REQUEST_CONNECTIONS, seconds=arena.plan.request_seconds)
                yield loaded(table, contender, number, load)


def measure_events(arena: Arena) -> Iterator[Sample]:
    events = arena.plan.events
    with (
        arena.upstream(LoopLag(events, TICK_SECONDS)) as upstream,
        arena.contenders("events", upstream, kind="stream", events=events) as contenders,
    ):
        for contender in contenders:
            arena.warm_up(contender)
        for number in range(1, arena.plan.rounds + 1):
            for contender in contenders:
                if number == 1 or not contender.target.slow:
                    yield loaded("events", contender, number, _stream_load(arena, contender))


def _stream_load(arena: Arena, contender: Contender) -> Load:
    load = arena.load(
        contender,
        body="stream",
        events=arena.plan.events,
        connections=STREAM_CONNECTIONS,
        seconds=max(arena.plan.stream_seconds, 1),
        each=1 if contender.target.slow or not arena.plan.stream_seconds else None,
    )
    seconds = SLOW_STREAM_SECONDS if contender.target.slow else load.straggler_seconds
    return msgspec.structs.replace(load, straggler_seconds=seconds)


def loaded(table: str, contender: Contender, number: int, load: Load, *, target: str = "") -> Sample:
    """One load on one target, and what it cost the target; `target`: another name for it."""
    (tally,), cost = with_cost(contender.process, lambda: run_loads([load]))
    return Sample(
        table=table,
        target=target or contender.name,
        round=number,
        errors=tally.errors,
        values=traffic_values(tally, cost, is_proxy=contender.process is not None),
        noise=cost.noise,
    )


def traffic_values(tally: RequestCounts, cost: Cost, *, is_proxy: bool) -> dict[str, float]:
    values = {"served": float(tally.served), "per_second": tally.served / tally.seconds}
    if is_proxy and tally.served:
        values["cpu_us"] = cost.cpu_seconds / tally.served * 1e6
    times = {name: getattr(tally, name) for name in ("p50_ms", "p99_ms", "first_p50_ms", "first_p99_ms")}
    return values | {name: value for name, value in times.items() if value is not None}


def measure_latency(arena: Arena) -> Iterator[Sample]:
    with arena.upstream() as upstream, arena.contenders("latency", upstream) as contenders:
        lines = [
            latency.Target(
                each.port, each.target.headers, each.target.byte_exact, ASKED_SELDOM if each.target.slow else 1
            )
            for each in contenders
        ]
        job = Latency(lines, arena.key, arena.plan.latency_samples, LATENCY_SECONDS)
        for number in range(1, arena.plan.rounds + 1):
            delays = msgspec.json.decode(output_of("bench.latency", job, LATENCY_SECONDS), type=list[Delay])
            for contender, delay in zip(contenders, delays, strict=True):
                yield _delayed(contender, number, delay)


def _delayed(contender: Contender, number: int, delay: Delay) -> Sample:
    times = {"p50_ms": delay.p50_ms, "p99_ms": delay.p99_ms}
    values = {"served": float(delay.served)} | {name: value for name, value in times.items() if value is not None}
    return Sample(table="latency", target=contender.name, round=number, errors=delay.errors, values=values)


REQUEST_COLUMNS = (
    CPU,
    RATIO,
    Column("per_second", "requests/s", 0),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
)

REQUESTS = Table(
    name="requests",
    title=lambda _: (
        f"CPU a request: chat completions, {REQUEST_CONNECTIONS} connections, {ANSWER_BYTES}-byte JSON answer"
    ),
    about="Each connection sends its next request when the last answer is whole.",
    columns=REQUEST_COLUMNS,
    chart="cpu_us",
    run=measure_requests,
)
TLS = Table(
    name="tls",
    title=lambda _: f"CPU a request with a TLS upstream, {REQUEST_CONNECTIONS} connections",
    about="The upstream has a certificate for loopback whose authority each proxy is told to trust; clients speak "
    "plain HTTP.",
    columns=REQUEST_COLUMNS,
    chart="cpu_us",
    run=measure_tls,
)
EVENTS = Table(
    name="events",
    title=lambda plan: (
        f"A streamed chat: CPU an event, its request included; {STREAM_CONNECTIONS} connections, streams of "
        f"{plan.events} events, one every {TICK_SECONDS * 1000:.0f} ms"
    ),
    about="All streams share the upstream's clock, so events come in bursts. Targets that are slow stream once on each "
    "connection.",
    columns=(
        CPU,
        RATIO,
        Column("per_second", "events/s", 0),
        Column("p50_ms", "whole stream p50 ms", 0),
        Column("p99_ms", "p99 ms", 0),
    ),
    chart="cpu_us",
    run=measure_events,
)
LATENCY = Table(
    name="latency",
    title=lambda _: "Latency added at one connection",
    about="One request to each target in random order, round after round; *added* is the target's quantile less the "
    f"direct one of the same round. Targets that are slow are asked in each {ASKED_SELDOM}th round.",
    columns=(
        Column("p50_ms", "p50 ms", 3),
        Column("p99_ms", "p99 ms", 3),
        Column("p50_ms", "added p50 ms", 3, "added"),
        Column("p99_ms", "added p99 ms", 3, "added"),
        Column("p50_ms", "gateway ÷ this, p50", 2, "ratio"),
    ),
    chart="p50_ms",
    run=measure_latency,
)
