"""Where conversations go when endpoints are chosen by them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench.affinity import ENDPOINTS, TURNS, WORKERS, Affinity
from bench.arena import Arena, output_of
from bench.samples import Column, Sample, Table

SECONDS = 300
ONE_AT_A_TIME = "one at a time"


def measure_affinity(arena: Arena) -> Iterator[Sample]:
    asked = ("--json", "--conversations", str(arena.plan.conversations))
    found = msgspec.json.decode(output_of("bench.affinity", None, SECONDS, *asked), type=list[Affinity])
    for each in found:
        values = {"together": each.together_percent, "skew": each.skew, "choice_us": each.choice_us}
        name = ONE_AT_A_TIME if each.at_once == 1 else f"{each.at_once} at a time"
        yield Sample(table="affinity", target=name, errors=each.wrong, values=values)


AFFINITY = Table(
    name="affinity",
    title=lambda plan: (
        f"`cache_affinity`: {plan.conversations:,} conversations of {TURNS} turns, {ENDPOINTS} endpoints, "
        f"{WORKERS} workers"
    ),
    about="Together: of all turns, those at the endpoint that had most of their conversation. An endpoint that has "
    "more than 1.25 of its share in flight is passed over, and the fewer are in flight, the sooner that is so. Skew: "
    "the busiest endpoint's turns to the mean. CPU of a choice: what it adds to a request.",
    columns=(
        Column("together", "together %", 1),
        Column("skew", "skew", 2),
        Column("choice_us", "CPU µs of a choice", 1),
    ),
    chart="together",
    run=measure_affinity,
    first_column="conversations",
)
