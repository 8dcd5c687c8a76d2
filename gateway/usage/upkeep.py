"""Look after the database, a little in each round of the writer.

Rows that are not in the sums yet, steps of a migration that could wait, blocks of days, what is old. Each piece is a
transaction of its own: whoever is killed leaves whole ones, and the next goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.usage.sql.rows_store import Store

SUMS_SECONDS = 5.0  # between looks for rows that are not in the sums; reports count them meanwhile
BLOCKS_SECONDS = 60.0  # between looks for days that have ended
EXPIRE_SECONDS = 600
STEP_AGAIN_SECONDS = 15.0  # after a step that failed, or that others are taking or in the way of
PING_SECONDS = 5.0  # between looks at a database for which there is nothing to store
_SLICES = 5  # of rows for the sums, before our own rows have their turn again
_REST_SECONDS = 0.0005
_DAY_MS = 86_400_000


class Upkeep:
    """For the writer's thread."""

    def __init__(self, retention_days: int | None, sums_retention_days: int | None) -> None:
        self._retention_days, self._sums_retention_days = retention_days, sums_retention_days
        self._sums_at = self._blocks_at = self._expire_at = self._ping_at = self._step_at = 0.0
        self._steps_left: int | None = None  # of a migration, as far as is known
        self._is_recounted = False
        self._sums_from_ms = 0  # what is older has expired

    def has_answered(self) -> None:
        """The database has: it need not be asked for now."""
        self._ping_at = time.monotonic() + PING_SECONDS

    def go_on(self, store: Store, is_awaited: Callable[[], bool]) -> bool:
        """Do a little; True where there is more to do at once.

        `is_awaited`: whether somebody waits for the round to end.
        """
        is_behind = self._add_to_sums(store, is_awaited)
        is_behind |= not is_behind and self._recount(store, is_awaited)
        is_behind |= not is_behind and (self._take_step(store) | self._make_blocks(store))
        self._expire(store)
        self._ping(store)
        return is_behind

    def _add_to_sums(self, store: Store, is_awaited: Callable[[], bool]) -> bool:
        """Add some rows to the sums that a release without them wrote.

        Before or beside us.
        """
        if time.monotonic() < self._sums_at:
            return False
        for _ in range(_SLICES):
            if store.add_some() == 0:
                self._sums_at = time.monotonic() + SUMS_SECONDS
                return False
            if is_awaited():
                break
            time.sleep(_REST_SECONDS)
        return True

    def _recount(self, store: Store, is_awaited: Callable[[], bool]) -> bool:
        """Add what older sums lack, of rows that are still there."""
        for _ in range(0 if self._is_recounted else _SLICES):
            if not store.recount_some():
                self._is_recounted = True
                return False
            if is_awaited():
                break
            time.sleep(_REST_SECONDS)
        return not self._is_recounted

    def _take_step(self, store: Store) -> bool:
        """Take a step of the tables' migration that could wait.

        Once every row is in the sums: until then limits are rebuilt by indexes that a step drops.
        """
        if self._steps_left == 0 or time.monotonic() < self._step_at or not store.is_summed():
            return False
        try:
            before, self._steps_left = self._steps_left, store.take_step()
        finally:  # where it fails, the rest of a round must not wait for it each time
            self._step_at = time.monotonic() + STEP_AGAIN_SECONDS
        if self._steps_left in (0, before):  # as many as before: another process is taking one
            return False
        self._step_at = 0.0
        return True

    def _make_blocks(self, store: Store) -> bool:
        """Make blocks of days that have ended, of whole sums."""
        if time.monotonic() < self._blocks_at:
            return False
        due = store.due_blocks(round(time.time() * 1000))
        if due:
            store.make_blocks(due)
        else:
            self._blocks_at = time.monotonic() + BLOCKS_SECONDS
        return bool(due)

    def _expire(self, store: Store) -> None:
        """Expire a few old rows a round, and old sums."""
        if time.monotonic() < self._expire_at:
            return
        now_ms = round(time.time() * 1000)
        if self._retention_days is None or store.expire(now_ms - self._retention_days * _DAY_MS) == 0:
            self._expire_at = time.monotonic() + EXPIRE_SECONDS
            self._expire_sums(store, now_ms)

    def _expire_sums(self, store: Store, now_ms: int) -> None:
        """Expire old sums once a day: it looks at all of them."""
        if self._sums_retention_days is None:
            return
        before_ms = (now_ms // _DAY_MS - self._sums_retention_days) * _DAY_MS
        if before_ms != self._sums_from_ms:
            store.expire_sums(before_ms)
            self._sums_from_ms = before_ms

    def _ping(self, store: Store) -> None:
        """Check that the database is reachable while idle."""
        if time.monotonic() >= self._ping_at:
            store.ping()
            self._ping_at = time.monotonic() + PING_SECONDS
