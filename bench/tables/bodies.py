"""Large bodies: an image in base64 in the JSON of a chat completion. What it costs in CPU and in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from bench.arena import Arena, Contender, run_loads, with_cost
from bench.samples import Column, Sample, Table
from bench.wire import body_bytes

PARSES = 10
PARSE = "orjson.loads alone"
YARDSTICK = "nginx + orjson.loads"


def measure_bodies(arena: Arena) -> Iterator[Sample]:
    body = body_bytes("image", arena.plan.body_megabytes)
    with arena.upstream() as upstream, arena.contenders("bodies", upstream) as contenders:
        for contender in contenders:
            arena.warm_up(contender)
        at_rest_mb = {each.name: each.process.resident_mb() if each.process else 0.0 for each in contenders}
        for number in range(1, arena.plan.side_rounds + 1):
            samples = [_sent(arena, contender, number, at_rest_mb[contender.name]) for contender in contenders]
            yield from samples
            yield from _parsed(samples, number, _parse_ms(body))


def _sent(arena: Arena, contender: Contender, number: int, at_rest_mb: float) -> Sample:
    plan, process = arena.plan, contender.process
    load = arena.load(contender, body="image", megabytes=plan.body_megabytes, connections=1, seconds=plan.body_seconds)
    if process:
        process.forget_peak()
    (tally,), cost = with_cost(process, lambda: run_loads([load]))
    values = {"per_second": tally.served / tally.seconds}
    if process and tally.served:
        added_mb = max(0.0, process.peak_mb() - at_rest_mb)
        copies = added_mb / plan.body_megabytes
        values |= {"cpu_ms": cost.cpu_seconds / tally.served * 1e3, "added_mb": added_mb, "copies": copies}
    return Sample(
        table="bodies",
        target=contender.name,
        round=number,
        errors=tally.errors,
        values=values,
        noise=cost.noise,
    )


def _parse_ms(body: bytes) -> float:
    started = time.process_time()
    for _ in range(PARSES):
        orjson.loads(body)
    return (time.process_time() - started) / PARSES * 1e3


def _parsed(samples: list[Sample], number: int, parse_ms: float) -> Iterator[Sample]:
    """The yardstick: what passing the body on costs nginx, and what looking into it costs orjson."""
    yield Sample(table="bodies", target=PARSE, round=number, values={"cpu_ms": parse_ms})
    for sample in samples:
        if sample.target == "nginx" and "cpu_ms" in sample.values:
            values = {"cpu_ms": sample.values["cpu_ms"] + parse_ms}
            yield Sample(table="bodies", target=YARDSTICK, round=number, values=values)


BODIES = Table(
    name="bodies",
    title=lambda plan: f"Bodies of {plan.body_megabytes:g} MB (an image in base64), one connection",
    about="Memory added: the peak of resident memory during the round less what was resident before the first large "
    "body; copies held: the same in bodies.",
    columns=(
        Column("cpu_ms", "CPU ms a body", 1),
        Column("cpu_ms", "gateway ÷ this", 2, "ratio"),
        Column("added_mb", "memory added MB", 1),
        Column("copies", "copies held", 1),
        Column("per_second", "bodies/s", 1),
    ),
    chart="cpu_ms",
    run=measure_bodies,
)
