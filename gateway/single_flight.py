"""Asking for a thing once, however many want it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Run one call at a time for each key.

    All who want the same wait for the same answer.

    A waiter that is cancelled takes nothing from the others, nor does the one whose wish began the call.
    """

    def __init__(self) -> None:
        self._flying: dict[Hashable, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flying

    async def join(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Wait for the call of `key`, begun if need be.

        Raises what it raises.
        """
        return await asyncio.shield(self.begin(key, call))

    def begin(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, Result]]) -> asyncio.Task[Result]:
        """Begin the call of `key`, unless it is under way."""
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = asyncio.create_task(call())
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def is_current(self, key: Hashable) -> bool:
        """Whether the running call's answer may be kept.

        To be asked within a call: it has not been disowned meanwhile.
        """
        return self._flying.get(key) is asyncio.current_task()

    def disown(self, key: Hashable) -> None:
        """Let later callers begin anew.

        What is under way may be outdated when it comes.
        """
        self._flying.pop(key, None)

    def disown_all(self) -> None:
        self._flying.clear()

    async def close(self) -> None:
        """Cancel what is under way."""
        flights = list(self._flying.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: Hashable, flight: asyncio.Task[Result]) -> None:
        if self._flying.get(key) is flight:
            del self._flying[key]
        if not flight.cancelled():
            flight.exception()  # the waiters that are left have seen it; with none left it is of no interest

    def __repr__(self) -> str:
        return f"<SingleFlight: {len(self._flying)} under way>"
