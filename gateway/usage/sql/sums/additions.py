"""Compute what some rows add to the sums, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from gateway.usage.sql.sums.sum_tables import EVERYBODY, NONE

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
_KIND = ("user_id", "organisation_id", "key_id", "model", "endpoint_id", "counted_on", "answered", "route")
_USED = ("total_tokens", "prompt_tokens", "completion_tokens", "cost_nano")
READ = ("request_id", "time_ms", *_KIND, *_USED)  # the columns that are looked at
_kind_of, _used_by = itemgetter(*_KIND), itemgetter(*_USED)

Key = tuple[Any, ...]
Values = tuple[int, ...]  # in the order of `sum_tables.VALUES`


class Additions(NamedTuple):
    """Sorted by key, against deadlocks."""

    days: list[tuple[Key, Values]]
    hours: list[tuple[Key, Values]]


def additions_of(rows: Iterable[Mapping[str, Any]]) -> Additions:
    days: dict[Key, Values] = {}
    hours: dict[Key, Values] = {}
    for (hour_ms, kind), values in _of_a_kind(rows).items():
        user, organisation, key, model, endpoint, counted_on, answered, _ = kind
        endpoint = NONE if endpoint is None else endpoint
        day_ms = hour_ms - hour_ms % DAY_MS
        _add(days, (EVERYBODY, day_ms, NONE, model, endpoint), values)
        _add(days, ("u:" + user, day_ms, key, model, endpoint), values)
        _add(days, ("*u", day_ms, user, NONE, NONE), values)
        _add(days, ("*k", day_ms, key, NONE, NONE), values)
        _add(days, ("*o", day_ms, NONE if organisation is None else organisation, NONE, NONE), values)
        if organisation is not None:
            _add(days, ("o:" + organisation, day_ms, user, model, endpoint), values)
        is_answered = int(answered)
        _add(hours, (EVERYBODY, hour_ms, is_answered), values)
        _add(hours, ("k:" + key, hour_ms, is_answered), values)
        if counted_on is not None:
            _add(hours, ("c:" + counted_on, hour_ms, is_answered), values)
    return Additions(sorted(days.items()), sorted(hours.items()))


def _of_a_kind(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[int, Key], Values]:
    """Sum rows that differ in nothing but their values.

    Most of a busy second's rows are of few kinds: only these are taken apart into keys.
    """
    found: dict[tuple[int, Key], Values] = {}
    for row in rows:
        time_ms = row["time_ms"]
        tokens, prompt, completion, cost = _used_by(row)
        of = (time_ms - time_ms % HOUR_MS, _kind_of(row))
        before = found.get(of)
        if before is None:
            found[of] = (1, 0, tokens, prompt, completion, cost)
        else:
            found[of] = (
                before[0] + 1,
                0,
                before[2] + tokens,
                before[3] + prompt,
                before[4] + completion,
                before[5] + cost,
            )
    return {of: _as_calls(values) if " " in of[1][-1] else values for of, values in found.items()}


def _as_calls(values: Values) -> Values:
    """Count what ran no model as calls."""
    return (0, values[0], *values[2:])


def _add(sums: dict[Key, Values], key: Key, values: Values) -> None:
    before = sums.get(key)
    sums[key] = values if before is None else tuple(map(int.__add__, before, values))
