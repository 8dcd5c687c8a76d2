"""What is measured: the plan of a run, the samples that it yields, and how the tables made of them look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from bench.arena import Arena


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything, how long and how often."""

    size: str
    rounds: int  # of requests, events and latency
    side_rounds: int  # of TLS upstreams and of large bodies
    slow_rounds: int  # of targets that are slow
    warm_up_seconds: float  # of requests, before a target's first round
    request_seconds: float
    stream_seconds: float  # no stream begins after that
    events: int  # of a stream in the events table
    latency_samples: int  # each round
    streams: tuple[int, ...]  # at once
    stream_rounds: int
    stream_events: int  # of a stream in the table of many streams, one a second
    opened_per_second: int
    body_megabytes: float
    body_seconds: float
    keys: int  # with their users and grants, in YAML and in Redis
    key_rounds: int
    redis_steps: int
    keys_a_step: int
    starts: int
    worker_rounds: int
    ledger_rows: int
    report_rows: int | None  # None: what `bench/kept/` has of ten million
    reports_asked: str = ""  # words of the questions; "": all of them
    stall_kinds: tuple[str, ...] = ()  # words of them; (): all of them
    upload_megabytes: int
    conversations: int
    soak_seconds: float
    installs: bool = True  # the gateway into a fresh environment


FULL = Plan(
    size="full",
    rounds=5,
    side_rounds=3,
    slow_rounds=2,
    warm_up_seconds=0.5,
    request_seconds=5,
    stream_seconds=2.5,
    events=100,
    latency_samples=1000,
    streams=(4000, 8000),
    stream_rounds=1,
    stream_events=20,  # more seconds than it takes to open them all
    opened_per_second=500,
    body_megabytes=10,
    body_seconds=4,
    keys=100_000,
    key_rounds=3,
    redis_steps=6,
    keys_a_step=6000,
    starts=5,
    worker_rounds=3,
    ledger_rows=30_000,
    report_rows=None,
    upload_megabytes=1024,
    conversations=800,
    soak_seconds=240,
)
QUICK = msgspec.structs.replace(
    FULL,
    size="quick",
    rounds=2,
    side_rounds=1,
    slow_rounds=1,
    request_seconds=2,
    stream_seconds=0.5,
    latency_samples=200,
    streams=(1000,),
    stream_rounds=1,
    stream_events=8,
    opened_per_second=500,
    body_seconds=1.5,
    key_rounds=1,
    redis_steps=3,
    keys_a_step=4000,
    starts=2,
    worker_rounds=1,
    ledger_rows=6_000,
    report_rows=200_000,
    reports_asked="all, month, by",
    upload_megabytes=128,
    conversations=200,
    soak_seconds=15,
)
SMOKE = msgspec.structs.replace(
    QUICK,
    size="smoke",
    rounds=1,
    warm_up_seconds=0,
    request_seconds=0.3,
    stream_seconds=0,
    events=10,
    latency_samples=20,
    streams=(100,),
    stream_events=2,
    body_megabytes=1,
    body_seconds=0.3,
    keys=480,
    redis_steps=3,
    keys_a_step=160,
    starts=1,
    ledger_rows=300,
    report_rows=8_000,
    reports_asked="a user, month, by day",
    stall_kinds=("tiny events", "fields in the head"),
    upload_megabytes=8,
    conversations=20,
    soak_seconds=1.5,
    installs=False,
)
PLANS = {plan.size: plan for plan in (FULL, QUICK, SMOKE)}


class Noise(msgspec.Struct, frozen=True):
    """Shares of all cores together while something was measured."""

    others: float  # taken by processes that are no part of the benchmark
    stolen: float  # taken by the hypervisor


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One target in one round of one case of one table."""

    table: str
    case: str = ""  # where a table has several, such as so many streams
    target: str
    round: int = 1
    errors: int = 0
    values: dict[str, float]
    noise: Noise | None = None


@dataclass(frozen=True)
class Column:
    """`value`: as measured; `added`: over the direct way; `ratio`: the gateway's to this one's, round by round."""

    field: str
    title: str
    digits: int = 1
    kind: Literal["value", "added", "ratio"] = "value"


@dataclass(frozen=True)
class Table:
    """`run` yields the samples as they come. `title` and `about` tell people what the plan makes of it."""

    name: str
    title: Callable[[Plan], str]
    about: str
    columns: tuple[Column, ...]
    chart: str  # the field that is drawn
    run: Callable[[Arena], Iterator[Sample]]
    first_column: str = "proxy"
