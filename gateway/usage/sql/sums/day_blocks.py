"""Blocks of days: which are due, which make up a span.

A block is 1, 2, 4 … 512 days from a multiple of its length on, counted from 1970, and has one number: its first day
times 16, and its level. A year is some eight of them, whichever days it begins and ends with. `made` lists those that
hold; what changes a day takes those around it off the list, and they are made again. The same list has each day of
which there are sums (level `DAY`), and those whose ranks hold (`RANKED`, see `ranks`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

LEVELS = range(10)
LONGEST_DAYS = 1 << LEVELS[-1]
DAY = 15  # no block: that there are sums of the day
RANKED = 14  # no block: that the day's ranks hold, which are made of its block
_BITS = 4

# What a block is by; more than these at once (or by the hour) is asked of the days themselves.
KINDS: dict[str, tuple[str, ...]] = {
    "t": (),
    "m": ("model",),
    "e": ("model", "endpoint_id"),
    "o": ("organisation_id",),
    "u": ("user_id", "key_id", "organisation_id"),
}


def number_of(day: int, level: int) -> int:
    """The block of this level that has the day (since 1970)."""
    return (day >> level << level) << _BITS | level if level in LEVELS else day << _BITS | level


def around(day: int) -> list[int]:
    """Every block that has the day, and its ranks."""
    return [number_of(day, level) for level in (*LEVELS, RANKED)]


def first_day(block: int) -> int:
    return block >> _BITS


def level_of(block: int) -> int:
    return block & (1 << _BITS) - 1


def days_of(block: int) -> int:
    """How many it is of."""
    return 1 << level_of(block) if level_of(block) in LEVELS else 1


def halves(block: int) -> tuple[int, int]:
    """The blocks that a longer one is made of."""
    level, day = level_of(block) - 1, first_day(block)
    return number_of(day, level), number_of(day + (1 << level), level)


class Made(NamedTuple):
    """The list: days with sums, in order, and blocks that hold."""

    days: list[int]
    blocks: frozenset[int]

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Made:
        days: list[int] = []
        found: set[int] = set()
        for number in numbers:
            if level_of(number) == DAY:
                days.append(first_day(number))
            else:
                found.add(number)
        return cls(sorted(days), frozenset(found))

    def days_between(self, first: int, last: int) -> list[int]:
        """Both count."""
        return self.days[bisect_left(self.days, first) : bisect_right(self.days, last)]

    def within(self, days: Collection[int]) -> Made:
        """Return the list for these days alone: without blocks that have others."""
        wanted = {*days}
        blocks = (each for each in self.blocks if wanted.issuperset(self.days_in(each)))
        return Made(sorted(wanted), frozenset(blocks))

    def is_due(self, block: int) -> bool:
        """Whether it can be made.

        It is not there, and what it is made of is.
        """
        level, day = level_of(block), first_day(block)
        if level == RANKED:
            return block not in self.blocks and number_of(day, 0) in self.blocks
        if block in self.blocks or not self.days_in(block):
            return False
        return level == 0 or all(self._is_whole(half) for half in halves(block))

    def _is_whole(self, block: int) -> bool:
        return block in self.blocks or not self.days_in(block)

    def days_in(self, block: int) -> list[int]:
        """Those with sums."""
        first = first_day(block)
        return self.days_between(first, first + days_of(block) - 1)

    def due(self, until: int) -> Iterator[int]:
        """Yield blocks that can be made now, the shortest first, then ranks.

        Of days before this one.
        """
        for level in LEVELS:
            for block in sorted({number_of(day, level) for day in self.days_between(0, until - 1)}):
                if first_day(block) + days_of(block) <= until and self.is_due(block):
                    yield block
        yield from filter(self.is_due, (number_of(day, RANKED) for day in self.days_between(0, until - 1)))


class Cover(NamedTuple):
    """A span: blocks, and days that are in none of them."""

    blocks: list[int]
    days: list[int]


def cover(made: Made, first: int, last: int, *, longest: int = LEVELS[-1]) -> Cover:
    """Take the longest blocks, of levels up to this, that fit.

    One fits where it has no day with sums outside of the span.
    """
    days, found = made.days_between(first, last), Cover([], [])
    place = 0
    while place < len(days):
        block = _longest(made, days, place, longest)
        if block is None:
            found.days.append(days[place])
            place += 1
        else:
            found.blocks.append(block)
            place = bisect_left(days, first_day(block) + days_of(block))
    return found


def _longest(made: Made, days: list[int], place: int, longest: int) -> int | None:
    day, last = days[place], days[-1]
    for level in range(longest, -1, -1):
        block = number_of(day, level)
        if block in made.blocks:
            within = made.days_in(block)
            if within[0] == day and within[-1] <= last:
                return block
    return None
