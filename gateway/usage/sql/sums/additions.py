"""Compute what some rows add to the sums, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from gateway.usage.sql.rows import NONE
from gateway.usage.sql.sums.sum_tables import EVERYBODY
from gateway.usage.sql.table import FURTHER_REQUESTS

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
_KIND = (
    "organisation_id",
    "user_id",
    "key_id",
    "model",
    "endpoint_id",
    "counted_on",
    "answered",
    FURTHER_REQUESTS,
    "route",
)
_USED = ("total_tokens", "prompt_tokens", "completion_tokens", "cost_nano", "cached_tokens")
READ = ("request_id", "time_ms", *_KIND, *_USED)  # the columns that are looked at
_kind_of, _used_by = itemgetter(*_KIND), itemgetter(*_USED)

Key = tuple[Any, ...]
Values = tuple[int, ...]  # in the order of `sum_tables.VALUES`, an hour's of `HOURLY_VALUES`


class Additions(NamedTuple):
    """Sorted by key, against deadlocks; `days` since 1970."""

    daily: list[tuple[Key, Values]]
    hours: list[tuple[Key, Values]]
    days: list[int]


def additions_of(rows: Iterable[Mapping[str, Any]]) -> Additions:
    daily: dict[Key, Values] = {}
    hours: dict[Key, Values] = {}
    for (hour_ms, kind), values in _of_a_kind(rows).items():
        organisation, user, key, model, endpoint, counted_on, answered, further, _ = kind
        of_day = (
            hour_ms - hour_ms % DAY_MS,
            NONE if organisation is None else organisation,
            user,
            key,
            model,
            NONE if endpoint is None else endpoint,
        )
        is_answered = 1 if answered else 0
        of_hour = (*values, (further or 0) * (values[0] + values[1]))
        _add(daily, of_day, values)
        _add(hours, (hour_ms, EVERYBODY, is_answered), of_hour)
        _add(hours, (hour_ms, "k:" + key, is_answered), of_hour)
        if counted_on is not None:
            _add(hours, (hour_ms, "c:" + counted_on, is_answered), of_hour)
    return Additions(sorted(daily.items()), sorted(hours.items()), sorted({key[0] // DAY_MS for key in daily}))


def _of_a_kind(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[int, Key], Values]:
    """Sum rows that differ in nothing but their values.

    Most of a busy second's rows are of few kinds: only these are taken apart into keys.
    """
    found: dict[tuple[int, Key], Values] = {}
    for row in rows:
        time_ms = row["time_ms"]
        tokens, prompt, completion, cost, cached = _used_by(row)
        of = (time_ms - time_ms % HOUR_MS, _kind_of(row))
        before = found.get(of)
        if before is None:
            found[of] = (1, 0, tokens, prompt, completion, cost, cached)
        else:
            found[of] = (
                before[0] + 1,
                0,
                before[2] + tokens,
                before[3] + prompt,
                before[4] + completion,
                before[5] + cost,
                before[6] + cached,
            )
    return {of: _as_calls(values) if " " in of[1][-1] else values for of, values in found.items()}


def _as_calls(values: Values) -> Values:
    """Count what ran no model as calls."""
    return (0, values[0], *values[2:])


def _add(sums: dict[Key, Values], key: Key, values: Values) -> None:
    before = sums.get(key)
    sums[key] = values if before is None else tuple(map(int.__add__, before, values))
