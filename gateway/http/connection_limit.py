"""Bound the number of clients connected at a time.

Each connection costs a descriptor and some memory, whether anybody says anything on it or not; without a bound, idle
ones would sooner or later leave no descriptor for a new upstream connection, a log or a journal.
"""

from __future__ import annotations

import asyncio
import resource
from typing import cast

from structlog.typing import FilteringBoundLogger

# One that is turned away may say what it wanted before it is answered: an answer to nothing is often not read.
PATIENCE_SECONDS = 1.0
# Those who wait to be turned away are bounded too; beyond this they are cut off without a word.
MOST_WAITING = 256
# Descriptors for everything that is neither a client nor an upstream: files, databases, listeners, the event loop.
OTHER_DESCRIPTORS = 128
REPORT_EACH_SECONDS = 10.0


def room_for(connections: int, in_flight: int) -> int:
    """Return how many of `connections` clients have descriptors.

    Once requests have theirs (to upstreams).

    Raises this process' soft limit of open files as far as is needed and allowed. `in_flight` requests get up to half.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + in_flight + OTHER_DESCRIPTORS
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    return max(1, min(connections, soft - OTHER_DESCRIPTORS - min(in_flight, soft // 2)))


class ConnectionLimit:
    """Count connections; refuse those beyond the bound.

    `answer` is the refusal, as bytes.
    """

    def __init__(self, answer: bytes, log: FilteringBoundLogger) -> None:
        self.answer = answer
        self.waiting: set[TurnedAway] = set()
        self._log = log
        self._refused = 0
        self._report_at = 0.0

    def turned_away(self, most: int) -> TurnedAway:
        """Return the protocol for a connection beyond `most`.

        Reported now and then, with how many there were.
        """
        loop = asyncio.get_running_loop()
        self._refused += 1
        if loop.time() >= self._report_at:
            self._report_at = loop.time() + REPORT_EACH_SECONDS
            self._log.warning("too many connections", most=most, refused=self._refused)
            self._refused = 0
        return TurnedAway(self, loop)

    def close(self) -> None:
        """Close all refused connections."""
        for each in list(self.waiting):
            each.end()

    def __repr__(self) -> str:
        return f"<ConnectionLimit: {len(self.waiting)} being turned away>"


class TurnedAway(asyncio.Protocol):
    """Answer the first bytes with a refusal, and close.

    Without one where none come.
    """

    def __init__(self, limit: ConnectionLimit, loop: asyncio.AbstractEventLoop) -> None:
        self._limit = limit
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if len(self._limit.waiting) >= MOST_WAITING:
            self._transport.abort()
            return
        self._limit.waiting.add(self)
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self.end)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._limit.answer)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    def end(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()
