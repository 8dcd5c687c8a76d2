"""Compute what some rows add to the sums, key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add, itemgetter
from typing import Any, NamedTuple, TypeVar

from gateway.usage.sql.rows import KIND_COLUMNS, PLACE, Kind, Row, stored_kind
from gateway.usage.sql.sums.sum_tables import EVERYBODY, HOURLY_VALUES, VALUES

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
_USED = ("total_tokens", "prompt_tokens", "completion_tokens", "cost_nano", "cached_tokens")
READ = ("request_id", "time_ms", *KIND_COLUMNS, *_USED)  # the columns that are looked at
_kind_of, _used_by = itemgetter(*KIND_COLUMNS), itemgetter(*_USED)
_read = itemgetter(*map(Row._fields.index, ("time_ms", "kind", *_USED)))
_COUNTS = 2  # of requests and of calls: what `VALUES` begins with
T = TypeVar("T")
_HELPING = 400  # rows, or kinds of them: some hundred microseconds of the interpreter's time


class Additions(NamedTuple):
    """What goes into the tables of sums.

    Row behind row in one list, sorted; `days` since 1970.
    """

    daily: list[Any]
    hours: list[Any]
    days: list[int]


def additions_of(rows: Iterable[Mapping[str, Any]]) -> Additions:
    """What these rows add, by the names of `READ`."""
    kinds: dict[tuple[Any, ...], Kind] = {}
    summing = Summing()
    for row in rows:
        of = _kind_of(row)
        kind = kinds.get(of) or kinds.setdefault(of, stored_kind(*of))
        summing.take([(row["time_ms"], kind, *_used_by(row))])
    return summing.additions(_go_on)


def additions_of_rows(rows: Sequence[Row], rest: Callable[[], None]) -> Additions:
    """The same of finished rows; `rest` is called between helpings."""
    summing = Summing()
    for start in range(0, len(rows), _HELPING):
        summing.take(map(_read, rows[start : start + _HELPING]))
        rest()
    return summing.additions(rest)


def _go_on() -> None:
    """Take no rest: the transaction is open."""


class Summing:
    """Rows of a kind are summed first.

    Most of a busy second's rows are of few kinds: only these go to the sums one by one. All numbers are in a few long
    lists: at thousands of short ones, or tuples, the garbage collector would look again and again.
    """

    def __init__(self) -> None:
        self._used: list[int] = []
        self._hours: dict[int, dict[Kind, int]] = {}  # by their beginning: where a kind's numbers begin

    def take(self, rows: Iterable[tuple[int, Kind, int, int, int, int, int]]) -> None:
        """Each row's time, kind and what it used."""
        used, kinds = self._used, dict[Kind, int]()
        begins_ms = ends_ms = 0
        for time_ms, kind, tokens, prompt, completion, cost, cached in rows:
            if not begins_ms <= time_ms < ends_ms:
                begins_ms = time_ms - time_ms % HOUR_MS
                ends_ms = begins_ms + HOUR_MS
                kinds = self._hours.setdefault(begins_ms, {})
            at = kinds.get(kind)
            if at is None:
                kinds[kind] = len(used)
                used += (1 - kind.is_call, kind.is_call, tokens, prompt, completion, cost, cached)
            else:
                used[at + kind.is_call] += 1
                first, end = at + _COUNTS, at + len(VALUES)
                t, p, c, nano, hit = used[first:end]
                used[first:end] = (t + tokens, p + prompt, c + completion, nano + cost, hit + cached)

    def additions(self, rest: Callable[[], None]) -> Additions:
        daily, hours = list[Any](), list[Any]()
        days: dict[int, _Sums] = {}
        for hour_ms, kinds in sorted(self._hours.items()):
            of_day = days.setdefault(hour_ms - hour_ms % DAY_MS, _Sums(len(VALUES)))
            for answered in (0, 1):
                some = [each for each in kinds.items() if each[0].answered == answered]
                hours += self._of_hour((hour_ms, answered), some, of_day, rest) if some else ()
        for day_ms, sums in days.items():
            for place, values in sums.in_order(rest):
                daily.append(day_ms)
                daily += place.split(PLACE)
                daily += values
        return Additions(daily, hours, [day_ms // DAY_MS for day_ms in days])

    def _of_hour(
        self, of: tuple[int, int], kinds: Sequence[tuple[Kind, int]], of_day: _Sums, rest: Callable[[], None]
    ) -> list[Any]:
        """Add kinds to their day; return what their hour gets."""
        keys, scopes = _Sums(len(HOURLY_VALUES)), _Sums(len(HOURLY_VALUES))
        for kind, at in _resting(kinds, rest):
            values = self._used[at : at + len(VALUES)]
            of_day.add(kind.day, values)
            values.append(kind.further_requests * (values[0] + values[1]) if kind.further_requests else 0)
            keys.add(kind.key, values)
            if kind.scope is not None:
                scopes.add(kind.scope, values)
        hour_ms, answered = of
        found = [hour_ms, EVERYBODY, answered, *keys.total()]
        for sums in (scopes, keys):
            for owner, values in sums.in_order(rest):
                found += (hour_ms, owner, answered)
                found += values
        return found


class _Sums:
    """Numbers by their place (see `rows.Kind`), so many each."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._begin: dict[str, int] = {}
        self._values: list[int] = []

    def add(self, place: str, values: list[int]) -> None:
        found, at = self._values, self._begin.get(place)
        if at is None:
            self._begin[place] = len(found)
            found += values
        else:
            end = at + self._width
            found[at:end] = map(add, found[at:end], values)

    def total(self) -> list[int]:
        return [sum(self._values[place :: self._width]) for place in range(self._width)]

    def in_order(self, rest: Callable[[], None]) -> Iterator[tuple[str, list[int]]]:
        for place, at in _resting(sorted(self._begin.items()), rest):
            yield place, self._values[at : at + self._width]


def _resting(each: Sequence[T], rest: Callable[[], None]) -> Iterator[T]:
    """Go through all of them, with a rest now and then."""
    for begun in range(0, len(each), _HELPING):
        yield from each[begun : begun + _HELPING]
        if begun + _HELPING <= len(each):
            rest()
