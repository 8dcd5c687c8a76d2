"""Bound how long a look-up stays fresh, and how many run.

"Why does my change not hold yet?" is answered here, and by the ages that `explain` gives. A record is asked for again
once a change of it is heard of, or when it has been held for too long. What follows from records (callers, what they
may use, on which terms: `access.lookup_cache`) belongs to a generation: one number, raised by each change that is heard
of or found, and every FOLLOWS_SECONDS. Each request compares it (`LookUps.begin`), and calls nothing here for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from gateway.store.base import RecordStore

# What follows from records is looked up anew after so long, though nothing was heard.
FOLLOWS_SECONDS = 0.25
# A change that nobody published holds within 5 s: this, the time to ask again, and FOLLOWS_SECONDS.
FRESH_SECONDS = 4.5
# While changes cannot be heard of, a published one must be found within 1 s all the same.
FRESH_WHILE_DEAF_SECONDS = 0.5
# Where the store cannot answer, what was known last holds for 10 min.
LAST_KNOWN_SECONDS = 600.0 - FOLLOWS_SECONDS
# In the last part of its time, what is in use goes on being used while it is asked for again, and nobody waits.
AGEING_SHARE = 0.35


class Asked(NamedTuple):
    """When a look-up began, and the doubts by then.

    Before the answer came; how often everything had been in doubt.
    """

    at: float
    doubts: int


class Freshness:
    """Decides by the clock. `doubt_everything` after changes may have been missed.

    `generation` numbers the records' state: a new number invalidates look-ups. From `renew_at` on `renew` is due.
    """

    __slots__ = ("_doubts", "_source", "clock", "generation", "renew_at")

    def __init__(self, source: RecordStore, clock: Callable[[], float]) -> None:
        self._source = source
        self._doubts = 0
        self.generation = 0
        self.renew_at = 0.0
        self.clock = clock

    def renew(self) -> None:
        """Begin a new generation: the present one's time is over."""
        self.renew_at = self.clock() + FOLLOWS_SECONDS
        self.generation += 1

    def changed(self) -> None:
        """Begin a new generation: something is not what it was."""
        self.generation += 1

    def now(self) -> Asked:
        return Asked(self.clock(), self._doubts)

    def share_left(self, asked: Asked) -> float:
        """Return the share of its time that a look-up has left.

        1 for an answer that has just come, 0 or less for one that must not be used, unless the store cannot be asked.
        """
        if asked[1] != self._doubts:
            return 0.0
        seconds = FRESH_SECONDS if self._source.receives_changes else FRESH_WHILE_DEAF_SECONDS
        return 1.0 - (self.clock() - asked[0]) / seconds

    def may_stand_in(self, asked: Asked) -> bool:
        """Whether it may be used where asking is not possible."""
        return self.clock() - asked.at < LAST_KNOWN_SECONDS

    def age(self, asked: Asked) -> float:
        """Seconds since it was asked for."""
        return self.clock() - asked.at

    def doubt_everything(self) -> None:
        self._doubts += 1
        self.generation += 1


class Allowance:
    """Allow `per_second` in the long run, `burst` at once."""

    def __init__(self, clock: Callable[[], float], *, per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._counted_at = clock()

    def is_used_up(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        return self._left < 1

    def use(self) -> None:
        self._left -= 1


_MOST_COMPLAINTS = 1000
_SHOWN_ID_CHARACTERS = 16


class Complaints:
    """Log documents that cannot be used, once for each reason."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._logged: dict[tuple[str, str], str] = {}

    def invalid(self, kind: str, record_id: str, reasons: tuple[str, ...]) -> None:
        """The document counts as absent."""
        self._log_once(kind, record_id, "record cannot be used", reasons)

    def ignored(self, kind: str, record_id: str, fields: tuple[str, ...]) -> None:
        """The rest of the document is used."""
        self._log_once(kind, record_id, "fields passed over", fields)

    def not_understood(self, kind: str, record_id: str) -> None:
        """The switch counts as off."""
        self._log_once(kind, record_id, "switch counts as off", ("neither 1 nor 0",))

    def _log_once(self, kind: str, record_id: str, event: str, details: tuple[str, ...]) -> None:
        text = f"{event}: {'; '.join(details)}"
        if self._logged.get((kind, record_id)) == text:
            return
        if len(self._logged) >= _MOST_COMPLAINTS:
            self._logged.clear()
        self._logged[kind, record_id] = text
        shown = record_id if len(record_id) <= _SHOWN_ID_CHARACTERS else f"{record_id[:_SHOWN_ID_CHARACTERS]}…"
        self._log.warning(event, record=f"{kind}:{shown}", because="; ".join(details)[:1000])
