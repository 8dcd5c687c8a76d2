"""One load for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class Flights:
    """Loads under way, by what they load. One that its starter no longer waits for goes on for the others."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}

    async def join(self, key: Hashable, load: Callable[[], Awaitable[None]]) -> None:
        """Waits for the load of `key`, starting it where none is under way. Raises what the load raises."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(_as_coroutine(load))
            task.add_done_callback(lambda done: self._landed(key, done))
        await asyncio.shield(task)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._under_way

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: Hashable, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # looked at, lest asyncio complain where all who waited have gone


async def _as_coroutine(load: Callable[[], Awaitable[None]]) -> None:
    await load()
