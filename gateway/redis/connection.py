"""One connection that is opened again whenever it fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from gateway.redis.address import CONNECT_SECONDS, Address, Connection
from gateway.redis.outage import Outage
from gateway.redis.refusals import shown_error

START_SECONDS = 1.0  # so long a start waits for the first try
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0

AWAY = (RedisError, OSError, TimeoutError)
_NOT_YET = "not connected yet"


def _ignore() -> None:
    pass


class PersistentConnection:
    """Keep a connection open, with doubling pauses between tries.

    Opens it, hands it to `serve`, and begins anew when that fails.

    `serve` calls `mark_up` once the connection does its work; `on_down` is called when it no longer does.
    `outage`: of all connections to this server together; default: of this one alone.
    """

    def __init__(
        self,
        address: Address,
        log: FilteringBoundLogger,
        name: str,
        serve: Callable[[Connection], Coroutine[None, None, None]],
        on_down: Callable[[], None] = _ignore,
        outage: Outage | None = None,
    ) -> None:
        self._address = address
        self._log = log
        self._name = name
        self._serve = serve
        self._on_down = on_down
        self._outage = outage or Outage(address, log)
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self.is_up = False
        self.is_silent = False  # while it is down: it gave no answer, which has cost requests their patience
        self.fault: str | None = _NOT_YET

    async def start(self) -> None:
        """Wait for the first try, at most START_SECONDS."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._tried.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.is_up = False

    def mark_up(self) -> None:
        self._outage.ends(self._name)
        self.is_up, self.fault = True, None
        self._tried.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            was_up = await self._live()
            pause = FIRST_PAUSE_SECONDS if was_up else min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # many gateways do not come back in step

    async def _live(self) -> bool:
        """One connection's life. Whether it came up at all."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._address.connect()
            await self._served(connection)
        except AWAY as error:
            return self._mark_down(error)
        except Exception as error:  # a bug: it must not leave the gateway without its store for ever
            self._log.exception("redis connection given up", connection=self._name)
            return self._mark_down(error)
        finally:
            self.is_up = False
            if connection is not None:
                with suppress(*AWAY):
                    await connection.disconnect(nowait=True)
        return True

    async def _served(self, connection: Connection) -> None:
        """Serve until that fails, or another server is to be asked."""
        watching = asyncio.create_task(self._address.watch(connection))
        try:
            async with asyncio.timeout(None) as limit:
                end = partial(_end, limit)
                watching.add_done_callback(end)
                await self._serve(connection)
        except TimeoutError:
            if limit.expired():
                raise RedisError("another server has taken its place") from None
            raise
        finally:
            watching.remove_done_callback(end)
            watching.cancel()

    def _mark_down(self, error: BaseException) -> bool:
        """Whether the connection had come up."""
        known = self.fault
        self.is_up, self.fault = False, shown_error(error)
        self.is_silent = isinstance(error, TimeoutError)
        self._tried.set()
        if known is None or known == _NOT_YET:
            self._outage.begins(self._name, self.fault)
        self._on_down()
        return known is None


def _end(limit: asyncio.Timeout, watching: asyncio.Task[None]) -> None:
    if not watching.cancelled():
        limit.reschedule(asyncio.get_running_loop().time())
