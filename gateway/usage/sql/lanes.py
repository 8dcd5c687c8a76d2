"""Run each kind of query on threads of its own.

So none waits behind another kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from gateway.errors import QueryFailed, TooManyQueries
from gateway.usage.sql.deadline import Deadline

T = TypeVar("T")

Work = Callable[[Deadline, float], T]  # given its deadline, and since when it has waited (`time.monotonic`)


class Lane:
    """`threads` threads that work on what is asked, in turn.

    They are daemons: a database that never answers does not keep a process from its end. `most`: how many may ask at
    once, `most_of_one`: how many of these for one caller.
    """

    def __init__(self, name: str, threads: int, *, most: int = 10_000, most_of_one: int = 10_000) -> None:
        self._name = name
        self._most, self._most_of_one = most, most_of_one
        self._asking: Counter[str] = Counter()
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._unstarted = threads
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    @contextlib.contextmanager
    def place(self, whose: str) -> Iterator[None]:
        """One of the places of those who ask. Raises TooManyQueries."""
        if self._asking.total() >= self._most or self._asking[whose] >= self._most_of_one:
            raise TooManyQueries(f"so many {self._name} are being made already")
        self._asking[whose] += 1
        try:
            yield
        finally:
            self._asking[whose] -= 1
            if not self._asking[whose]:
                del self._asking[whose]

    async def run(
        self, work: Work[T], deadline: Callable[[], Deadline], *, waiting_seconds: float, seconds: float
    ) -> T:
        """Run the work on one of the threads.

        Raises TooManyQueries where it was not begun within `waiting_seconds`, QueryFailed where it takes longer than
        `seconds` in spite of its deadline. Who leaves ends the work.
        """
        if self._is_closed:
            raise QueryFailed("the ledger is closed")
        loop = asyncio.get_running_loop()
        job = _Job(work, deadline, loop)
        self._grow()
        self._jobs.put(job)
        impatience = loop.call_later(waiting_seconds, job.refuse)
        try:
            async with asyncio.timeout(waiting_seconds + seconds):
                return await job.answer
        except TimeoutError:
            raise QueryFailed(f"the database gave no answer within {seconds:g} s") from None
        finally:
            impatience.cancel()
            job.leave()

    def close(self, seconds: float) -> None:
        """End the threads, and wait for them so long.

        What runs is cut by the database's owner.
        """
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _grow(self) -> None:
        while self._unstarted:
            self._unstarted -= 1
            thread = threading.Thread(target=self._work, name=f"ledger-{self._name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


class _Job(Generic[T]):
    def __init__(self, work: Work[T], deadline: Callable[[], Deadline], loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[T] = loop.create_future()
        self._work = work
        self._make_deadline = deadline
        self._loop = loop
        self._asked_at = time.monotonic()
        self._lock = threading.Lock()
        self._deadline: Deadline | None = None  # once it has begun
        self._is_over = False

    # -- on the event loop

    def refuse(self) -> None:
        """Refuse a query that was not begun in time."""
        with self._lock:
            has_begun = self._deadline is not None
            self._is_over = self._is_over or not has_begun
        if not has_begun and not self.answer.done():
            self.answer.set_exception(TooManyQueries("no thread was free for it in time"))

    def leave(self) -> None:
        with self._lock:
            self._is_over = True
        if self._deadline is not None:
            self._deadline.cut()

    # -- on a thread

    def run(self) -> None:
        with self._lock:
            if self._is_over:
                return
            deadline = self._deadline = self._make_deadline()
        try:
            found = self._work(deadline, self._asked_at)
        except BaseException as error:
            self._resolve(self.answer.set_exception, error)
        else:
            self._resolve(self.answer.set_result, found)

    def _resolve(self, put: Callable[[Any], None], value: object) -> None:
        def resolve() -> None:
            if not self.answer.done():
                put(value)

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(resolve)
