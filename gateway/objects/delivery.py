"""Hand over to the store what the journal holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from gateway.errors import StoreUnavailable
from gateway.objects.backend import Backend
from gateway.objects.changes import Operation
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.pending import Pending
from gateway.objects.record import ObjectRecord

MOST_AT_ONCE = 500
LINGER_SECONDS = 0.01  # so that a burst of changes is one commit
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0


class Delivery:
    """Journal changes, and apply them in order, whenever the store takes them."""

    def __init__(
        self,
        backend: Backend,
        journal: ObjectJournal,
        log: FilteringBoundLogger,
        on_taken: Callable[[Iterable[ObjectRecord]], None],
    ) -> None:
        self.pending = Pending()
        self._backend = backend
        self._journal = journal
        self._log = log
        self._on_taken = on_taken
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self._is_closed = False
        self._retry = asyncio.Event()
        backend.on_back(self._retry.set)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # by the number of the change that they wait for

    async def start(self) -> None:
        """Hand over what dead processes left; where the store is away, later."""
        if self._journal.adopt():
            try:
                await self._hand_over_adopted()
            except StoreUnavailable:
                self._run()

    def add(self, operations: Sequence[Operation]) -> None:
        """Journal changes. Raises LedgerUnavailable."""
        self._journal.append(operations)
        self.pending.add(operations)
        self._run()

    def may_lack_some(self) -> bool:
        """Whether the store may lack what was remembered somewhere.

        Here in the journal alone, or by another process that has not handed over yet.
        """
        if self.pending.overflowed or self._journal.has_adopted:
            return True
        if not self._backend.is_shared:
            return False
        if self._journal.others_hold_any():
            if self._journal.adopt():  # of one that has died meanwhile
                self._run()
            return True
        return self._backend.is_settling

    async def caught_up(self) -> None:
        """Wait until the store has what was added so far. Raises StoreUnavailable."""
        if self._journal.has_adopted or self.pending.overflowed:
            self._run()
            raise StoreUnavailable("The index of objects is being brought up to date; ask again.")
        if self.pending.is_empty:
            return
        if self._is_failing:
            raise StoreUnavailable("The index of objects cannot be asked at the moment; ask again.")
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.pending.added, reached))
        self._run()
        try:
            async with asyncio.timeout(self._backend.patience_seconds):
                await reached
        except TimeoutError:
            raise StoreUnavailable("The index of objects cannot be asked at the moment; ask again.") from None

    async def close(self, seconds: float) -> None:
        """Hand over within the time; the rest stays in the journal."""
        if self._is_behind():
            self._run()
        self._is_closed = True
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=0 if self._is_failing else seconds)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _is_behind(self) -> bool:
        return not self.pending.is_empty or self._journal.has_adopted

    def _run(self) -> None:
        if (self._task is None or self._task.done()) and not self._is_closed:
            self._task = asyncio.create_task(self._hand_over_all())

    async def _hand_over_all(self) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while self._is_behind():
            try:
                await self._hand_over()
                self._is_failing, pause = False, FIRST_PAUSE_SECONDS
            except StoreUnavailable as error:
                self._fail_waiting(error)
                await self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except Exception:  # a bug: what is in the journal must not stay there for ever
                self._log.exception("objects are not handed over to the store")
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the store is back."""
        self._retry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._retry.wait()

    async def _hand_over(self) -> None:
        """Take one step: the dead's, then ours, then what overflowed."""
        if self._journal.has_adopted:
            await self._hand_over_adopted()
        elif batch := self.pending.next(MOST_AT_ONCE):
            self._on_taken(await self._backend.apply(batch))
            self.pending.remove(batch)
            self._notify_waiting()
        else:
            await self._apply_all(self._journal.operations())
            self.pending.overflowed = False
        if self.pending.is_empty:
            self._journal.clear()

    async def _hand_over_adopted(self) -> None:
        await self._apply_all(self._journal.adopted_operations())
        self._journal.delete_adopted()

    async def _apply_all(self, parts: Iterator[list[Operation]]) -> None:
        for part in parts:
            for start in range(0, len(part), MOST_AT_ONCE):
                self._on_taken(await self._backend.apply(part[start : start + MOST_AT_ONCE]))

    def _notify_waiting(self) -> None:
        taken = self.pending.taken
        for number, reached in self._waiting:
            if number <= taken and not reached.done():
                reached.set_result(None)
        self._waiting = [each for each in self._waiting if not each[1].done()]

    def _fail_waiting(self, error: StoreUnavailable) -> None:
        self._is_failing = True
        for _, reached in self._waiting:
            if not reached.done():
                reached.set_exception(error)
        self._waiting.clear()

    def __repr__(self) -> str:
        return f"<Delivery: {self.pending!r}{', failing' if self._is_failing else ''}>"
