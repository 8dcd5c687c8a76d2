"""Bounded caches in front of the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Cache(Generic[_Value]):
    """The values used last, each with its age.

    `fresh_seconds`: how long one holds without asking again; older ones are for when the store is away.
    """

    def __init__(self, most: int, fresh_seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._values: OrderedDict[str, tuple[_Value, float]] = OrderedDict()

    def fresh(self, key: str) -> _Value | None:
        found = self._values.get(key)
        if found is None or self._clock() - found[1] > self._fresh_seconds:
            return None
        self._values.move_to_end(key)
        return found[0]

    def last_known(self, key: str) -> _Value | None:
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: str, value: _Value) -> None:
        self._values[key] = value, self._clock()
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Cache of {len(self)}>"
