"""What one client costs the others: the longest step that hostile input makes, and the memory of a large upload."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from bench.arena import GATEWAY, Arena, output_of
from bench.samples import Column, Sample, Table
from bench.stalls import GOAL_AT_ONCE_MS, GOAL_MS_PER_MIB, LEAST_MIB, Stall
from bench.uploads import upload

STALLS_SECONDS = 600
ALL = "the longest of all"
LONG_TEXT = "a long text"


def measure_stalls(arena: Arena) -> Iterator[Sample]:
    output = output_of("bench.stalls", None, STALLS_SECONDS, "--json", *arena.plan.stall_kinds)
    stalls = msgspec.json.decode(output, type=list[Stall])
    for each in stalls:
        values = {"mib": each.mebibytes, "loop_ms": each.loop_ms, "thread_ms": each.thread_ms}
        values["ms_a_mib"] = each.ms_per_mib
        values["longest_ms"] = each.longest_ms
        yield Sample(table="stalls", target=each.kind, values=values)
    longest = {
        "longest_ms": max(each.longest_ms for each in stalls),
        "ms_a_mib": max(each.ms_per_mib for each in stalls),
    }
    yield Sample(table="stalls", target=ALL, values=longest)


def measure_uploads(arena: Arena) -> Iterator[Sample]:
    size = arena.plan.upload_megabytes
    outcome = asyncio.run(upload(size, arena.new_folder()))
    is_wrong = outcome.status != 200 or not outcome.is_equal
    values = {"grown_mb": max(0.0, outcome.grown_mb), "mb_per_second": size / outcome.seconds}
    yield Sample(table="uploads", target=GATEWAY, errors=int(is_wrong), values=values)


STALLS = Table(
    name="stalls",
    title=lambda _: "What one hostile client costs the others: the longest single step, in CPU time",
    about="In one process, with a client and an upstream in a thread that is not measured: the longest callback of the "
    "event loop, and the longest call into C of another thread, which may hold the interpreter's lock. A MiB: of what "
    f"the hostile side sends; to be reached are {GOAL_MS_PER_MIB:g} ms for each, or {GOAL_AT_ONCE_MS:g} ms at once, so "
    f"less than {LEAST_MIB:g} MiB count as {LEAST_MIB:g}.",
    columns=(
        Column("mib", "MiB", 2),
        Column("loop_ms", "loop ms", 1),
        Column("thread_ms", "thread ms", 1),
        Column("longest_ms", "longest ms", 1),
        Column("ms_a_mib", "ms a MiB", 1),
    ),
    chart="ms_a_mib",
    run=measure_stalls,
    first_column="sent or answered",
)
UPLOADS = Table(
    name="uploads",
    title=lambda plan: f"An upload of {plan.upload_megabytes:,} MB (multipart)",
    about="Memory added: the peak of resident memory during the upload less what was resident before. The upstream "
    "hashes what it gets; it must be the client's bytes.",
    columns=(
        Column("grown_mb", "memory added MB", 1),
        Column("mb_per_second", "MB/s", 0),
    ),
    chart="grown_mb",
    run=measure_uploads,
)
