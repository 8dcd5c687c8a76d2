"""A time by which something has to come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# uvloop calls what is due before it looks at the sockets. In a process that stood still for a while (stopped, starved,
# its machine asleep) bytes may lie there that came in time: they are read before an upstream is said to be silent.
LOOK_AGAIN_SECONDS = 0.005


class Deadline:
    """One timer. Each `set` takes the place of the one before."""

    __slots__ = ("_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadline {'at ' + format(self._timer.when(), '.3f') if self._timer is not None else 'unset'}>"

    def set(self, when: float, on_over: Callable[[], None]) -> None:
        """Call `on_over` once `when` has passed on the loop's clock.

        What came until then has been read first.
        """
        self.stop()
        self._timer = self._loop.call_at(when, self._look_again, on_over)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, on_over: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(LOOK_AGAIN_SECONDS, self._over, on_over)

    def _over(self, on_over: Callable[[], None]) -> None:
        self._timer = None
        on_over()


class Bell:
    """Wake who waits for news, before or after the ring."""

    __slots__ = ("_has_rung", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._has_rung = False
        self._waiter: asyncio.Future[None] | None = None

    async def heard(self) -> None:
        """Wait for the next ring, or return at once after one."""
        if not self._has_rung:
            self._waiter = self._loop.create_future()
            await self._waiter
        self._has_rung = False

    def ring(self) -> None:
        self._has_rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<Bell{', rung' * self._has_rung}>"
