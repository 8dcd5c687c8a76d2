"""Rotate among the free endpoints of one priority.

Every rotation gets them in the file's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gateway.pool.state import Slot
from gateway.types import Rotation

_64_BITS = (1 << 64) - 1


class RoundRobin:
    """Rotate strictly in turn.

    The place of the last one taken is kept, not an index into those that happened to be free, so that none is
    passed over or served twice when endpoints come and go.
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = -1

    def choose(self, free: Sequence[Slot], conversation: int | None = None) -> Slot:
        """Choose one of `free`, and move the rotation on.

        At least one is given, by ascending position. `conversation`: for those who go by it.
        """
        for slot in free:
            if slot.position > self.last:
                break
        else:
            slot = free[0]
        self.last = slot.position
        return slot


class Weighted(RoundRobin):
    """Rotate by smooth weighted round robin.

    Everyone earns their weight each round, and the richest pays for the round.

    Weights 3 and 1 give A A B A rather than A A A B: shares are exact over a cycle and even within it.
    """

    __slots__ = ()

    def choose(self, free: Sequence[Slot], conversation: int | None = None) -> Slot:
        richest = free[0]
        stake = 0
        for slot in free:
            slot.credit += slot.weight
            stake += slot.weight
            if slot.credit > richest.credit:
                richest = slot
        richest.credit -= stake
        return richest


class LeastBusy(RoundRobin):
    """Choose the fewest requests in flight by weight.

    In turn among equals.
    """

    __slots__ = ()

    def choose(self, free: Sequence[Slot], conversation: int | None = None) -> Slot:
        least = inf
        equals: list[Slot] = []
        for slot in free:
            load = slot.health.in_flight / slot.weight
            if load < least:
                least = load
                equals = [slot]
            elif load == least:
                equals.append(slot)
        return RoundRobin.choose(self, equals)


class CacheAffinity(RoundRobin):
    """Send a conversation to the same endpoint while that is free.

    By rendezvous hashing: an endpoint that comes or goes moves no conversation but its own. One that has more than 1.25
    of its share of what is in flight is passed over for the next.
    """

    __slots__ = ()

    def choose(self, free: Sequence[Slot], conversation: int | None = None) -> Slot:
        if conversation is None:
            return RoundRobin.choose(self, free)
        in_flight = sum([slot.health.in_flight for slot in free])
        most = -(-5 * (in_flight + 1) // (4 * len(free)))
        best, best_score = free[0], -1
        for slot in free:
            score = mixed(conversation ^ slot.salt)
            if score > best_score and slot.health.in_flight < most:
                best, best_score = slot, score
        return best


def mixed(number: int) -> int:
    """Return a number whose bits all hang on all of the other's."""
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & _64_BITS
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & _64_BITS
    return number ^ number >> 32


ROTATIONS: dict[Rotation, type[RoundRobin]] = {
    "round_robin": RoundRobin,
    "weighted": Weighted,
    "least_busy": LeastBusy,
    "cache_affinity": CacheAffinity,
}


class Tier:
    """The endpoints of one priority with their rotation."""

    __slots__ = ("rotation", "slots")

    def __init__(self, slots: Sequence[Slot], rotation: Rotation) -> None:
        self.slots = tuple(slots)
        self.rotation = ROTATIONS[rotation]()

    def go_on_from(self, other: Tier) -> None:
        """Take over the turn of a tier with the same endpoints.

        In the same places.
        """
        self.rotation.last = other.rotation.last
        for mine, theirs in zip(self.slots, other.slots, strict=True):
            mine.credit = theirs.credit
