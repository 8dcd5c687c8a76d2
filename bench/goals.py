"""What the gateway is to reach with everything on, and whether the rows of a run say that it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.rows import Row, Spread


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """`target` None: the last row of the table, which is the largest case. Bounds include themselves.

    `is_of_all`: the worst of several cases counts, not the last.
    """

    what: str
    table: str
    field: str
    kind: Literal["values", "added", "ratios"] = "values"
    target: str | None = "gateway"
    most: float | None = None
    least: float | None = None
    unit: str = ""
    is_of_all: bool = False

    @property
    def bound(self) -> str:
        sign, limit = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {limit:g}{self.unit}"

    def is_met_by(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


class Verdict(msgspec.Struct, frozen=True):
    """`measured` and `is_met` are None where the run did not measure it; `case` says what the row was of."""

    what: str
    bound: str
    unit: str
    case: str
    measured: Spread | None
    is_met: bool | None


def _ratio(what: str, table: str, field: str, target: str, most: float) -> Goal:
    return Goal(what=what, table=table, field=field, kind="ratios", target=target, most=most, unit=" ×")


def _most(what: str, table: str, field: str, most: float, unit: str, target: str | None = "gateway") -> Goal:
    return Goal(what=what, table=table, field=field, target=target, most=most, unit=unit)


def _share(what: str, table: str, field: str, least: float, target: str) -> Goal:
    return Goal(what=what, table=table, field=field, target=target, least=least, unit=" %")


_STREAMED = "a streamed chat, an event"
_BODY = "a body of 10 MB"
_KEYS = "100,000 keys, users and grants"
_AFFINE = "cache_affinity: turns at one endpoint"

GOALS = (
    _ratio(f"{_STREAMED}: CPU, to Caddy", "events", "cpu_us", "caddy", 0.7),
    _ratio(f"{_STREAMED}: CPU, to sglang-router", "events", "cpu_us", "sglang-router", 0.9),
    _ratio(f"{_STREAMED}: CPU, to nginx", "events", "cpu_us", "nginx", 2.0),
    _ratio("CPU a request, to Caddy", "requests", "cpu_us", "caddy", 1.0),
    _ratio("CPU a request, to sglang-router", "requests", "cpu_us", "sglang-router", 1.0),
    _most("CPU a request, limits in Redis and its share, to embedded", "redis", "to_embedded", 1.5, " ×", "redis"),
    _most("CPU a request, heads that differ, to repeated ones", "heads", "to_repeated", 1.05, " ×", "differing heads"),
    _most("the ledger's threads, a row", "ledger", "threads_us", 8, " µs", "SQLite"),
    Goal(what="latency added, p50", table="latency", field="p50_ms", kind="added", most=0.3, unit=" ms"),
    Goal(what="latency added, p99", table="latency", field="p99_ms", kind="added", most=1.0, unit=" ms"),
    Goal(what="many streams: ended well", table="streams", field="ended_well", least=100, unit=" %"),
    _most("many streams: memory of each", "streams", "kb_a_stream", 25, " KB"),
    _ratio("many streams: first byte p99, to direct", "streams", "first_p99_ms", "direct", 2),
    _most(f"{_BODY}: copies held", "bodies", "copies", 2.2, ""),
    _ratio(f"{_BODY}: CPU, to nginx and one parse", "bodies", "cpu_ms", "nginx + orjson.loads", 1.3),
    _most(f"{_BODY}: stall of others", "stalls", "longest_ms", 50, " ms", "a long text"),
    _most("an upload of 1 GB: memory added", "uploads", "grown_mb", 20, " MB"),
    _most("hostile input: stall of others for each MiB", "stalls", "ms_a_mib", 20, " ms", "the longest of all"),
    _most(f"{_KEYS}: resolution", "keys", "first_us", 8, " µs", None),
    _most(f"{_KEYS}: start", "keys", "start_seconds", 1.5, " s", None),
    _most("Redis mode: memory growth once records are bounded", "redis-keys", "growth", 5, " %", None),
    Goal(
        what="any usage report, p95",
        table="reports",
        field="p95_ms",
        target="all of them",
        most=100,
        unit=" ms",
        is_of_all=True,
    ),
    _share(f"{_AFFINE}, one conversation at a time", "affinity", "together", 99, "one at a time"),
    _share(f"{_AFFINE}, 64 at a time", "affinity", "together", 99, "64 at a time"),
    _most("cache_affinity: load skew", "affinity", "skew", 1.3, "", None),
    _most("cache_affinity: CPU of a choice", "affinity", "choice_us", 5, " µs", None),
    Goal(what="two workers, to one", table="workers", field="speed_up", target="2 workers", least=1.8, unit=" ×"),
    _most("memory growth under load", "soak", "growth", 5, " %"),
    _most("start to first answer", "startup", "seconds", 0.5, " s"),
    _most("resident after the first answer", "startup", "resident_mb", 55, " MB"),
    _most("distributions installed", "install", "distributions", 25, ""),
    _most("time to install", "install", "seconds", 20, " s"),
)


def judge(goal: Goal, rows: Sequence[Row]) -> Verdict:
    candidates = [row for row in rows if row.table == goal.table and goal.target in (None, row.target)]
    spreads = [(row, getattr(row, goal.kind).get(goal.field)) for row in candidates]
    if goal.is_of_all:
        spreads.sort(key=lambda each: each[1].median if each[1] else 0.0, reverse=goal.most is None)
    row, measured = spreads[-1] if spreads else (None, None)
    case = row.case or (row.target if goal.target is None else "") if row is not None else ""
    is_met = goal.is_met_by(measured.median) if measured is not None else None
    return Verdict(goal.what, goal.bound, goal.unit, case, measured, is_met)
