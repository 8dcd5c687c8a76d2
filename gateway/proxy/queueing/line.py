"""Decide who is next, among those that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gateway.types import Caller

Rank = tuple[int, int]


class Order(NamedTuple):
    """A request's place; the lowest is next."""

    rank: Rank  # negated
    turn: int
    number: int  # as they came


class Line:
    """Keep the order: by rank, then users in turn, then by arrival.

    Of one rank everybody's first request goes before anybody's second: a user with many waits behind one with few.
    """

    def __init__(self) -> None:
        self._ranks: dict[Rank, _Turns] = {}
        self._by_user: Counter[str] = Counter()
        self._came = self._size = 0

    def __len__(self) -> int:
        return self._size

    def of_user(self, user: str) -> int:
        """Count what this user has waiting."""
        return self._by_user[user]

    def enter(self, user: str, rank: Rank) -> Order:
        self._came += 1
        self._size += 1
        self._by_user[user] += 1
        turns = self._ranks.setdefault(rank, _Turns())
        return Order((-rank[0], -rank[1]), turns.next_of(user), self._came)

    def leave(self, user: str, rank: Rank, order: Order, *, is_served: bool) -> None:
        """Take out one that `enter` took in."""
        self._size -= 1
        self._by_user[user] -= 1
        if not self._by_user[user]:
            del self._by_user[user]
        turns = self._ranks[rank]
        if is_served:
            turns.served = max(turns.served, order.turn)
        turns.leave(user)
        if not turns.waiting:
            del self._ranks[rank]

    def __repr__(self) -> str:
        return f"<Line of {len(self)}>"


class _Turns:
    """The turns of one rank's users."""

    __slots__ = ("last", "served", "waiting")

    def __init__(self) -> None:
        self.served = 0  # the latest turn of which one was served: who comes now is not before it
        self.last: dict[str, int] = {}
        self.waiting: Counter[str] = Counter()

    def next_of(self, user: str) -> int:
        self.waiting[user] += 1
        turn = self.last[user] = max(self.served, self.last.get(user, -1) + 1)
        return turn

    def leave(self, user: str) -> None:
        self.waiting[user] -= 1
        if not self.waiting[user]:
            del self.waiting[user], self.last[user]


def rank_of(caller: Caller, tiers: Sequence[str]) -> Rank:
    """Return the key's priority, else its tier's place.

    Of equals the tier decides.
    """
    tier = caller.user.tier
    place = tiers.index(tier) if tier in tiers else 0
    priority = caller.key.priority
    return (place if priority is None else priority), place
