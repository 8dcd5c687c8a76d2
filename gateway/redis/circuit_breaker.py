"""Fail fast while Redis is away, until a probe succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.redis.connection import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from gateway.redis.link import RedisLink
from gateway.redis.refusals import RedisUnavailable


class CircuitBreaker:
    """Close when the link is up and `probe` has succeeded.

    Open at first and whenever the link goes down.

    `probe` raises RedisUnavailable where Redis is not well. `on_close` is called before anything is asked again;
    `on_open` with the reason, once each time.
    """

    def __init__(
        self,
        link: RedisLink,
        probe: Callable[[], Awaitable[object]],
        *,
        on_close: Callable[[], None],
        on_open: Callable[[str], None],
    ) -> None:
        self.is_closed = False
        self._link = link
        self._probe = probe
        self._on_close = on_close
        self._on_open = on_open
        self._has_opened = False
        self._tripped = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        link.on_down(self._trip_by_link)

    async def start(self) -> None:
        """Wait for the first probe, unless the link is down."""
        if not self._link.is_up:
            self._trip_by_link()
            self._tried.set()
        self._task = asyncio.create_task(self._run())
        await self._tried.wait()

    async def stop(self) -> None:
        self.is_closed = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def trip(self, reason: str) -> None:
        """Open, until the probe succeeds."""
        is_news = self.is_closed or not self._has_opened
        self.is_closed, self._has_opened = False, True
        self._tripped.set()
        if is_news:
            self._on_open(reason)

    def _trip_by_link(self) -> None:
        self.trip(self._link.fault or "away")

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._link.wait_up()
            if await self._try():
                pause = FIRST_PAUSE_SECONDS
                await self._tripped.wait()
            else:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause)

    async def _try(self) -> bool:
        self._tripped.clear()
        try:
            await self._probe()
        except RedisUnavailable as error:
            self.trip(error.reason or self._link.fault or "no answer")
        if not self._tripped.is_set():
            self.is_closed = True
            self._on_close()
        self._tried.set()
        return self.is_closed
