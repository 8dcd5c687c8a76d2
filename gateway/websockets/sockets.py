"""All open sockets: their upkeep once a moment, and their end."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.api.runtime import Current

TICK_SECONDS = 0.25  # a revoked key's socket is closed within two of them, and a silent upstream's


class Ticking(Protocol):
    """A session, as the registry sees it."""

    def tick(self, now: float) -> None:
        """Look after key, pings and silence."""

    def end(self) -> None:
        """Close when nothing runs, or after what still does."""


class Sockets:
    """The open sockets of this process, looked after by one task."""

    def __init__(self, current: Current) -> None:
        self.current = current
        self.ending = False
        self._open: set[Ticking] = set()
        self._keeper: asyncio.Task[None] | None = None
        current.runtime.calls.on_ending.append(self._end)

    def add(self, session: Ticking) -> None:
        self._open.add(session)
        if self.ending:
            session.end()
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def discard(self, session: Ticking) -> None:
        self._open.discard(session)

    def _end(self) -> None:
        self.ending = True
        for session in list(self._open):
            session.end()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._open:
                await asyncio.sleep(TICK_SECONDS)
                for session in list(self._open):
                    session.tick(loop.time())
        finally:
            self._keeper = None

    def __repr__(self) -> str:
        return f"<Sockets: {len(self._open)} open{', ending' * self.ending}>"
