"""Compute what some rows add to the sums, key by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from gateway.usage.sql.rows import NONE, Row
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
_time_in = itemgetter(Row._fields.index("time_ms"))
_kind_in, _used_in = (itemgetter(*map(Row._fields.index, names)) for names in (_KIND, _USED))
_HELPING = 200  # rows, or kinds of them: some hundred microseconds of the interpreter's time

Key = tuple[Any, ...]
Values = tuple[int, ...]  # in the order of `sum_tables.VALUES`, an hour's of `HOURLY_VALUES`


class Additions(NamedTuple):
    """Sorted by key, against deadlocks; `days` since 1970."""

    daily: list[tuple[Key, Values]]
    hours: list[tuple[Key, Values]]
    days: list[int]


def additions_of(rows: Iterable[Mapping[str, Any]]) -> Additions:
    """What these rows add, by the names of `READ`."""
    summing = Summing()
    summing.take((row["time_ms"], _kind_of(row), _used_by(row)) for row in rows)
    return summing.additions()


def additions_of_rows(rows: Sequence[Row], rest: Callable[[], None]) -> Additions:
    """The same of finished rows; `rest` is called between helpings."""
    summing = Summing()
    for start in range(0, len(rows), _HELPING):
        some = rows[start : start + _HELPING]
        summing.take(zip(map(_time_in, some), map(_kind_in, some), map(_used_in, some), strict=True))
        rest()
    return summing.additions(rest)


class Summing:
    """Rows that differ in nothing but their values are summed first.

    Most of a busy second's rows are of few kinds: only these are taken apart into keys.
    """

    def __init__(self) -> None:
        self._of_a_kind: defaultdict[tuple[int, Key], list[Values]] = defaultdict(list)

    def take(self, rows: Iterable[tuple[int, Key, Values]]) -> None:
        """Each row's time, kind and what it used."""
        found = self._of_a_kind
        for time_ms, kind, used in rows:
            found[time_ms - time_ms % HOUR_MS, kind].append(used)

    def additions(self, rest: Callable[[], None] | None = None) -> Additions:
        daily, everybodys, of_keys, of_scopes = (dict[Key, Values]() for _ in range(4))
        for number, ((hour_ms, kind), used) in enumerate(self._of_a_kind.items()):
            organisation, user, key, model, endpoint, counted_on, answered, further, route = kind
            count = len(used)
            values = (0, count, *_together(used)) if " " in route else (count, 0, *_together(used))
            of_hour = (*values, further * count if further else 0)
            organisation = NONE if organisation is None else organisation
            endpoint = NONE if endpoint is None else endpoint
            _add(daily, (hour_ms - hour_ms % DAY_MS, organisation, user, key, model, endpoint), values)
            _add(everybodys, (hour_ms, "", answered), of_hour)
            _add(of_keys, (hour_ms, key, answered), of_hour)
            if counted_on is not None:
                _add(of_scopes, (hour_ms, counted_on, answered), of_hour)
            if rest is not None and number % _HELPING == _HELPING - 1:
                rest()
        days = sorted({key[0] // DAY_MS for key in daily})
        hours = [*_of_owners(everybodys, EVERYBODY), *_of_owners(of_keys, "k:"), *_of_owners(of_scopes, "c:")]
        return Additions(sorted(daily.items()), sorted(hours), days)


def _of_owners(found: Mapping[Key, Values], kind: str) -> list[tuple[Key, Values]]:
    return [
        ((hour_ms, kind + owner, 1 if answered else 0), values) for (hour_ms, owner, answered), values in found.items()
    ]


def _together(values: Sequence[Values]) -> Values:
    return values[0] if len(values) == 1 else tuple(map(sum, zip(*values, strict=True)))


def _add(sums: dict[Key, Values], key: Key, values: Values) -> None:
    """Add to a key, without a list that the collector would look at."""
    before = sums.get(key)
    sums[key] = values if before is None else tuple(map(int.__add__, before, values))
