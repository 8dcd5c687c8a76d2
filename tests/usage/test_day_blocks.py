"""Blocks of days: which are due, and which make up a span."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.sql.sums.day_blocks import (
    DAY,
    LEVELS,
    RANKED,
    Made,
    around,
    cover,
    days_of,
    first_day,
    level_of,
    number_of,
)

days = st.sets(st.integers(20_000, 20_800), max_size=300)


def whole(of_days: Iterable[int], until: int = 21_000) -> Made:
    """All blocks that can be made, made."""
    listed = {number_of(day, DAY) for day in of_days}
    while due := list(Made.of(listed).due(until)):
        listed.update(due)
    return Made.of(listed)


def within(block: int) -> range:
    return range(first_day(block), first_day(block) + days_of(block))


@given(days, st.data())
def test_a_span_is_made_up_of_its_days_each_once(known: set[int], data: st.DataObject) -> None:
    """Whatever was struck out, and whichever days have none; a block that reaches out of it counts no other's day."""
    made = whole(known, data.draw(st.integers(20_000, 21_000)))
    gone = data.draw(st.sets(st.sampled_from(sorted(made.blocks)), max_size=9)) if made.blocks else set()
    made = Made(made.days, made.blocks - gone)
    first, last = sorted(data.draw(st.tuples(st.integers(19_900, 20_900), st.integers(19_900, 20_900))))
    found = cover(made, first, last, longest=data.draw(st.sampled_from([0, LEVELS[-1]])))
    counted = [day for block in found.blocks for day in within(block) if day in known] + found.days
    assert sorted(counted) == sorted(day for day in known if first <= day <= last)
    assert set(found.blocks) <= made.blocks


def test_a_year_is_a_few_blocks() -> None:
    made = whole(range(20_000, 20_800))
    for first in range(20_000, 20_400):
        assert len(cover(made, first, first + 364).blocks) <= 2 * len(LEVELS)
        assert cover(made, first, first + 364).days == []


@given(days)
def test_what_is_not_over_is_in_no_block(known: set[int]) -> None:
    made = whole(known, until=20_400)
    assert all(within(block).stop <= 20_400 for block in made.blocks)
    for level in (0, RANKED):
        assert {number_of(day, level) for day in known if day < 20_400} <= made.blocks


def test_every_block_around_a_day_has_it() -> None:
    for day in (0, 1, 20_000, 20_511):
        assert [level_of(block) for block in around(day)] == [*LEVELS, RANKED]
        assert all(day in within(block) for block in around(day))
