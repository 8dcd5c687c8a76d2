"""The contract of a queue of alerts.

The same tests run against each.

It holds which events there are, to whom each is still to be sent, and which episodes run. Every method is one atomic
step and durable when it returns; each may raise StoreUnavailable, and may then have been done or not: all may be
repeated. `receiver` is a short hash of a URL. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.alerts.event import Event

MOST_WAITING = 10_000  # for each receiver; beyond it the oldest are given up
LEASE_SECONDS = 15.0  # a try takes no longer
EPISODE_SECONDS = 3_600.0  # between the beginnings of two of one name that are told of


class Due(NamedTuple):
    """An event to be tried now. `tries`: this one included."""

    name: str
    id: str
    body: bytes
    made: float
    tries: int


class Episode(NamedTuple):
    """Something that began and has not ended.

    `until`: when it ends by itself; of the others, how long the worker that began it is believed to see it still.
    """

    name: str
    began: float
    until: float
    worker: str


class AlertQueue(Protocol):
    """See the module."""

    async def add(self, event: Event, receivers: Sequence[str], now: float) -> bool:
        """Queue an event for these; False where its name is known.

        Receivers that want no more are left out.
        """

    async def begin(self, episode: Episode, event: Event, receivers: Sequence[str]) -> bool:
        """Begin an episode and queue its event.

        One that runs already is prolonged; one whose like began within the hour is left out. False for both.
        """

    async def end(self, name: str, began: float, event: Event, receivers: Sequence[str], now: float) -> bool:
        """End the episode that began then, and queue the event.

        False where another has ended it.
        """

    async def episodes(self) -> list[Episode]:
        """List what runs."""

    async def claim(self, receiver: str, now: float, most: int) -> list[Due]:
        """Take events that are due, for LEASE_SECONDS."""

    async def done(self, receiver: str, name: str) -> None:
        """Put on record that this needs no further try."""

    async def retry(self, receiver: str, name: str, now: float, seconds: float) -> None:
        """Have it due again in so many seconds."""

    async def hurry(self, receivers: Sequence[str], now: float) -> None:
        """Make due at once all that waits.

        But for what is under way.
        """

    async def waiting(self, receivers: Sequence[str]) -> int:
        """Count what is still to be sent to these."""

    async def stop(self, receiver: str, fingerprint: str) -> None:
        """Put on record that a receiver wants no more.

        What waits for it is dropped.

        `fingerprint`: of its entry in the file, whose change makes a new beginning.
        """

    async def stopped(self, receivers: Sequence[str]) -> dict[str, str]:
        """Return the fingerprints of those of these that want no more."""

    async def resume(self, receiver: str) -> None:
        """Forget that a receiver wanted no more."""

    async def close(self) -> None: ...
