"""What the gateway is to reach with everything on, and whether the rows of a run say that it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.rows import Row, Spread


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """`target` None: the last row of the table, which is the largest case. Bounds include themselves."""

    what: str
    table: str
    field: str
    kind: Literal["values", "added", "ratios"] = "values"
    target: str | None = "gateway"
    most: float | None = None
    least: float | None = None
    unit: str = ""

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


GOALS = (
    _ratio("CPU a request, to Caddy", "requests", "cpu_us", "caddy", 1.0),
    _ratio("CPU a request, to sglang-router", "requests", "cpu_us", "sglang-router", 1.0),
    _ratio("CPU a request, to LiteLLM", "requests", "cpu_us", "litellm", 0.01),
    _ratio("CPU an event, to sglang-router", "events", "cpu_us", "sglang-router", 0.9),
    _ratio("CPU an event, to nginx", "events", "cpu_us", "nginx", 1.7),
    Goal(what="latency added, p50", table="latency", field="p50_ms", kind="added", most=0.4, unit=" ms"),
    Goal(what="latency added, p99", table="latency", field="p99_ms", kind="added", most=1.5, unit=" ms"),
    Goal(what="many streams: ended well", table="streams", field="ended_well", least=100, unit=" %"),
    _most("many streams: memory of each", "streams", "kb_a_stream", 30, " KB"),
    _ratio("many streams: first byte p99, to direct", "streams", "first_p99_ms", "direct", 2),
    _most("large bodies: copies held", "bodies", "copies", 3, ""),
    _ratio("large bodies: CPU, to nginx and one parse", "bodies", "cpu_ms", "nginx + orjson.loads", 2),
    _most("resolution among all keys", "keys", "first_us", 10, " µs", None),
    _most("start with all keys in YAML", "keys", "start_seconds", 2, " s", None),
    _most("Redis mode: memory growth once records are bounded", "redis-keys", "growth", 5, " %", None),
    Goal(what="two workers, to one", table="workers", field="speed_up", target="2 workers", least=1.8, unit=" ×"),
    _most("memory growth under load", "soak", "growth", 5, " %"),
    _most("start to first answer", "startup", "seconds", 0.7, " s"),
    _most("resident after the first answer", "startup", "resident_mb", 60, " MB"),
    _most("distributions installed", "install", "distributions", 25, ""),
    _most("time to install", "install", "seconds", 20, " s"),
)


def judge(goal: Goal, rows: Sequence[Row]) -> Verdict:
    candidates = [row for row in rows if row.table == goal.table and goal.target in (None, row.target)]
    spreads = [(row, getattr(row, goal.kind).get(goal.field)) for row in candidates]
    row, measured = spreads[-1] if spreads else (None, None)
    case = row.case or (row.target if goal.target is None else "") if row is not None else ""
    is_met = goal.is_met_by(measured.median) if measured is not None else None
    return Verdict(goal.what, goal.bound, goal.unit, case, measured, is_met)
