"""Calls: one for each request, and the register of those in flight."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import perf_counter, time_ns
from typing import NamedTuple

import msgspec

from gateway.dialects.openai import Usage
from gateway.errors import Overloaded, ShuttingDown
from gateway.observability.tracing import Trace
from gateway.types import Access, Caller, Endpoint, Id, Model, Outcome

NO_ROUTE = "(none)"  # nothing is at the call's path, or not by its method
CLIENT_GONE = 499  # the status in log and ledger of a call whose client has left, as nginx has it


def new_request_id() -> str:
    """Return a new request id, which begins with the time.

    Neighbours in time are neighbours in the ledger's index.
    """
    return f"{time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class FailedTry(NamedTuple):
    """An attempt that had no answer. `status`: 0 where none came."""

    model: str
    endpoint: Id
    cause: str
    reason: str
    status: int
    milliseconds: float
    ended: float  # as `Call.began`
    asked: tuple[Model, Endpoint]


class Call(msgspec.Struct, eq=False):
    """One request's record, filled in on its way.

    Times are those of `time.perf_counter`: the event loop's own clock may tick in whole milliseconds.
    """

    method: str
    path: str
    peer: str
    client_request_id: str | None
    request_id: str = msgspec.field(default_factory=new_request_id)
    began: float = msgspec.field(default_factory=perf_counter)
    task: asyncio.Task[object] | None = None
    interrupted: bool = False
    route: str = NO_ROUTE  # the template of its path
    caller: Caller | None = None
    access: Access | None = None
    requested_model: str | None = None  # as the client named it
    served: Model | None = None  # the model that answers, or was asked last
    endpoint: Endpoint | None = None
    attempts: int = 0
    failures: list[FailedTry] | None = None
    attempt_began: float = 0.0
    streamed: bool = False
    status: int = 0
    code: str | None = None  # of the error that it was told
    outcome: Outcome | None = None  # None for calls that went to no upstream
    first_byte: float | None = None
    upstream_seconds: float = 0.0
    is_queued: bool = False  # it waits for an endpoint at this moment
    queued_seconds: float = 0.0  # for which it waited so, before it was admitted
    usage: Usage | None = None
    is_unpriced: bool = False  # its service tier has no price
    trace: Trace | None = None
    conversation: str | None = None  # as the client names it
    via: tuple[str, ...] = ()  # gateways of this kind that it came through
    on_interrupt: Callable[[], None] | None = None  # where no task is this call's alone
    on_leaving: Callable[[], None] | None = None  # what is to be given back when it has ended, however it does

    @property
    def granted_model(self) -> Model | None:
        """The model that the caller was granted, whichever answers."""
        return None if self.access is None else self.access.model

    def attempt_failed(self, cause: str, reason: str = "", status: int = 0) -> None:
        """The attempt under way had no answer for this call."""
        served, endpoint, now = self.served, self.endpoint, perf_counter()
        if served is not None and endpoint is not None:
            milliseconds = round((now - (self.attempt_began or self.began)) * 1000, 3)
            about = (served, endpoint)
            failed = FailedTry(served.name, endpoint.id, cause, reason or cause, status, milliseconds, now, about)
            self.failures = [*(self.failures or ()), failed]

    def interrupt(self) -> None:
        """Interrupt the call for a reason of our own.

        Its task sees a cancellation and asks why.
        """
        if self.on_interrupt is not None:
            self.on_interrupt()
            return
        if self.task is not None and not self.task.done():
            self.interrupted = True
            self.task.cancel()

    def was_interrupted(self) -> bool:
        """Whether `interrupt` caused the CancelledError at hand.

        The cancellation is over with then.
        """
        if not self.interrupted or self.task is None:
            return False
        self.task.uncancel()
        self.interrupted = False
        return True

    def __repr__(self) -> str:
        end = self.outcome or "under way"
        return f"<Call {self.request_id} {self.method} {self.path}, {self.attempts} attempts, {end}>"


class Calls:
    """The calls in flight: bounded, refused while draining, drained to none."""

    def __init__(self) -> None:
        self.draining = False
        self.on_ending: list[Callable[[], None]] = []  # connections that outlive their calls
        self.listeners: tuple[Callable[[Call], None], ...] = ()  # are told of each call that has ended
        self._running: set[Call] = set()
        self._idle = asyncio.Event()  # set where, while draining, the last call has ended

    def __len__(self) -> int:
        return len(self._running)

    def enter(self, call: Call, most: int) -> None:
        """Take the call in, as one of `most`. Raises ShuttingDown or Overloaded."""
        if self.draining:
            raise ShuttingDown
        if len(self._running) >= most:
            raise Overloaded("The gateway has too many requests in flight; ask again in a moment.")
        call.task = asyncio.current_task()
        self._running.add(call)

    def leave(self, call: Call) -> None:
        self._running.discard(call)
        call.task = None
        if call.on_leaving is not None:
            call.on_leaving()
            call.on_leaving = None
        for tell in self.listeners:
            tell(call)
        if self.draining and not self._running:
            self._idle.set()

    def listen(self, listener: Callable[[Call], None]) -> None:
        """Call `listener` for each call that ends from now on."""
        if listener not in self.listeners:
            self.listeners = (*self.listeners, listener)

    def leave_off(self, listener: Callable[[Call], None]) -> None:
        self.listeners = tuple([each for each in self.listeners if each != listener])

    def running(self) -> tuple[Call, ...]:
        return tuple(self._running)

    def begin_to_end(self) -> None:
        """Ask connections that outlive their calls to end."""
        for ask in self.on_ending:
            ask()

    async def drain(self, seconds: float) -> int:
        """Refuse new calls, wait `seconds`, interrupt the rest.

        Returns how many those were.
        """
        self.draining = True
        self.begin_to_end()
        if not self._running:
            return 0
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            left = self.interrupt_all()
            await self._idle.wait()
            return left
        return 0

    def interrupt_all(self) -> int:
        """Interrupt every call in flight. Returns how many there were."""
        left = list(self._running)
        for call in left:
            call.interrupt()
        return len(left)

    def __repr__(self) -> str:
        return f"<Calls: {len(self._running)} in flight{', draining' if self.draining else ''}>"
