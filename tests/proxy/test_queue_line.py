"""Who is next among those that wait: by rank, users in turn, then as they came."""

from __future__ import annotations

import random

from gateway.proxy.queueing.line import Line, Order, Rank, rank_of
from gateway.types import ApiKey, Caller, User

TIERS = ("free", "paid", "enterprise")
LOW, HIGH = (0, 0), (5, 0)


def served(line: Line, entered: list[tuple[str, str, Rank, Order]]) -> list[str]:
    """The names of all, as they are served."""
    names = []
    for name, user, rank, order in sorted(entered, key=lambda each: each[3]):
        line.leave(user, rank, order, is_served=True)
        names.append(name)
    return names


def enter(line: Line, *who: tuple[str, str, Rank]) -> list[tuple[str, str, Rank, Order]]:
    return [(name, user, rank, line.enter(user, rank)) for name, user, rank in who]


def caller(tier: str, priority: int | None = None) -> Caller:
    return Caller(User("u", tier), ApiKey("k", "u", "", priority=priority))


def test_one_users_requests_go_as_they_came() -> None:
    line = Line()
    assert served(line, enter(line, *[(f"{n}", "a", LOW) for n in range(5)])) == ["0", "1", "2", "3", "4"]
    assert len(line) == 0


def test_a_higher_rank_goes_first() -> None:
    line = Line()
    assert served(line, enter(line, ("low", "a", LOW), ("high", "b", HIGH))) == ["high", "low"]


def test_users_take_turns_however_many_one_of_them_has() -> None:
    line = Line()
    flood, others = [(f"a{n}", "a", LOW) for n in range(3)], [("b0", "b", LOW), ("b1", "b", LOW), ("c0", "c", LOW)]
    entered = enter(line, *flood, *others)
    assert served(line, entered) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_who_comes_later_is_not_before_turns_that_are_over() -> None:
    """A user that was away has no credit for it."""
    line = Line()
    first = enter(line, *[(f"a{n}", "a", LOW) for n in range(4)])
    assert served(line, first[:3]) == ["a0", "a1", "a2"]
    later = enter(line, ("b0", "b", LOW), ("a4", "a", LOW))
    assert served(line, [first[3], *later]) == ["b0", "a3", "a4"]


def test_leaving_counts_for_nobody() -> None:
    line = Line()
    (_, user, rank, order), *rest = enter(line, ("a0", "a", LOW), ("a1", "a", LOW))
    assert line.of_user("a") == 2
    line.leave(user, rank, order, is_served=False)
    assert line.of_user("a") == 1
    assert served(line, rest) == ["a1"]
    assert line.of_user("a") == 0


def test_any_number_of_comings_and_goings_leaves_nothing_behind() -> None:
    chance, line = random.Random(7), Line()
    inside: list[tuple[str, Rank, Order]] = []
    for _ in range(2_000):
        if inside and chance.random() < 0.5:
            user, rank, order = inside.pop(chance.randrange(len(inside)))
            line.leave(user, rank, order, is_served=chance.random() < 0.7)
        else:
            user, rank = chance.choice("abc"), (chance.randrange(3), 0)
            inside.append((user, rank, line.enter(user, rank)))
    assert len(line) == len(inside)
    assert len({order for _, _, order in inside}) == len(inside)
    for user, rank, order in inside:
        line.leave(user, rank, order, is_served=True)
    assert (len(line), line._ranks) == (0, {})


def test_a_rank_is_the_keys_priority_else_the_tiers_place() -> None:
    ranked = [
        caller("free", 10),
        caller("enterprise"),
        caller("paid"),
        caller("free", 1),
        caller("free"),
        caller("paid", -1),
    ]
    ranks = [rank_of(each, TIERS) for each in ranked]
    assert ranks == sorted(ranks, reverse=True)
    assert rank_of(caller("gone"), TIERS) == (0, 0)
