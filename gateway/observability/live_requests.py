"""Requests as they run, of this process and of others.

Nothing is looked at while nobody listens. While somebody does, the calls in flight are looked through a few times a
second; those that end are told by `Calls`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from gateway.observability.calls import Call, Calls
from gateway.types import Id, id_text

LOOK_SECONDS = 0.2
ASK_SECONDS = 2.0  # others are asked so often to go on telling
FOLLOWED_SECONDS = 3 * ASK_SECONDS  # who has not asked for so long has left
MOST_WAITING = 1000  # requests that wait for one reader
MOST_AT_ONCE = 5000  # that may end between two looks
LONGEST_NAME = 200  # of what a client called a model

LiveOutcome = Literal["running", "ok", "cancelled", "upstream_error", "interrupted", "refused"]


class LiveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it stands, without its content.

    `began`: seconds since 1970. `model` is None where none was found by the name.
    """

    id: str
    outcome: LiveOutcome
    began: float
    milliseconds: float
    first_byte_ms: float | None = msgspec.field(name="firstByteMs")
    user: Id | None
    key: Id | None
    model: str | None
    model_id: Id | None = msgspec.field(name="modelId")
    asked: str | None  # the model as the client named it
    endpoint: Id | None
    route: str
    streamed: bool
    queued: bool = False  # it waits for an endpoint at this moment
    attempts: int
    status: int
    code: str | None
    prompt_tokens: int | None = msgspec.field(name="promptTokens")
    completion_tokens: int | None = msgspec.field(name="completionTokens")


class Batch(msgspec.Struct, frozen=True):
    """What one process saw between two looks.

    `lost`: requests that were too many.
    """

    worker: str
    requests: list[LiveRequest]
    lost: int = 0


class Others(Protocol):
    """The other workers."""

    def ask(self, worker: str, *, anew: bool) -> None:
        """Ask them to publish. `anew`: also what they have published before."""

    def tell(self, batch: bytes) -> None: ...

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Subscribe to what they publish."""

    async def leave(self) -> None:
        """End what `listen` began."""

    @property
    def is_heard(self) -> bool:
        """Whether the subscription is up."""


class Wanted(NamedTuple):
    """What a listener wants to see; None is everything."""

    model: str | None = None
    user: str | None = None
    outcome: str | None = None

    def takes(self, request: LiveRequest) -> bool:
        if self.outcome is not None and request.outcome != self.outcome:
            return False
        if self.user is not None and (request.user is None or id_text(request.user) != self.user):
            return False
        names = (request.model, request.asked, None if request.model_id is None else id_text(request.model_id))
        return self.model is None or self.model in names


class Listener:
    """One reader.

    What it does not take in time is dropped, the oldest first, and counted.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.lost = 0
        self.over = asyncio.Event()
        self._waiting: deque[LiveRequest] = deque()
        self._something = asyncio.Event()

    def put(self, requests: Iterable[LiveRequest], lost: int) -> None:
        self.lost += lost
        for request in filter(self.wanted.takes, requests):
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(request)
        if self._waiting or self.lost:
            self._something.set()

    def end(self) -> None:
        """Let the reader stop."""
        self.over.set()
        self._something.set()

    async def take(self, seconds: float) -> tuple[list[LiveRequest], int]:
        """Wait for requests, at most so long.

        Returns them, and how many were lost before them.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._something.wait()
        except TimeoutError:
            return [], 0
        if not self.over.is_set():
            self._something.clear()
        taken, lost = list(self._waiting), self.lost
        self._waiting.clear()
        self.lost = 0
        return taken, lost

    def __repr__(self) -> str:
        return f"<Listener to {self.wanted}, {len(self._waiting)} waiting>"


class LiveRequests:
    """Publish requests to listeners.

    `others` None: this process is the only one.
    """

    def __init__(self, calls: Calls, others: Others | None = None) -> None:
        self.calls = calls
        self._others = others
        self._worker = os.urandom(8).hex()
        self._listeners: set[Listener] = set()
        self._told: dict[str, tuple[object, ...]] = {}  # running requests, as they were told last
        self._ended: list[LiveRequest] = []
        self._lost = 0
        self._followed_until = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Batch).decode
        calls.on_ending.append(self._end)

    @contextmanager
    def listening(self, wanted: Wanted) -> Iterator[Listener]:
        """Listen until the block's end."""
        listener = Listener(wanted)
        self._listeners.add(listener)
        if self.calls.draining:
            listener.end()
        self._told.clear()  # so that what runs is told anew
        if self._others is not None:
            self._others.ask(self._worker, anew=True)
        self._look()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    @property
    def is_partial(self) -> bool:
        """Whether other workers' requests are missing."""
        return self._others is not None and not self._others.is_heard

    def asked(self, worker: str, *, anew: bool) -> None:
        """Another worker has a listener."""
        if worker == self._worker:
            return
        self._followed_until = time.monotonic() + FOLLOWED_SECONDS
        if anew:
            self._told.clear()
        self._look()

    async def close(self) -> None:
        self._end()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def _end(self) -> None:
        for listener in self._listeners:
            listener.end()

    def _look(self) -> None:
        """Look from now on, if that is not done already."""
        if self._looking is None or self._looking.done():
            self.calls.listen(self._left)
            self._looking = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        others, hears, next_ask = self._others, False, 0.0
        try:
            while self._listeners or time.monotonic() < self._followed_until:
                if others is not None and self._listeners:
                    if not hears:
                        hears = True
                        await others.listen(self._heard)
                        others.ask(self._worker, anew=True)
                    if time.monotonic() >= next_ask:
                        next_ask = time.monotonic() + ASK_SECONDS
                        others.ask(self._worker, anew=False)
                self._tell()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.calls.leave_off(self._left)
            self._told.clear()
            self._ended.clear()
            if others is not None and hears:
                await others.leave()

    def _left(self, call: Call) -> None:
        if not _is_shown(call):
            return
        self._told.pop(call.request_id, None)
        if len(self._ended) >= MOST_AT_ONCE:
            self._lost += 1
            return
        self._ended.append(seen(call, has_ended=True))

    def _tell(self) -> None:
        """Publish what is new since the last look."""
        requests, lost = self._ended, self._lost
        self._ended, self._lost = [], 0
        running = []
        for call in self.calls.running():
            if _is_shown(call):
                state = (call.endpoint, call.attempts, call.first_byte is not None, call.is_queued)
                if self._told.get(call.request_id) != state:
                    self._told[call.request_id] = state
                    running.append(seen(call, has_ended=False))
        requests = [*requests, *running]
        if not requests and not lost:
            return
        for listener in self._listeners:
            listener.put(requests, lost)
        if self._others is not None and time.monotonic() < self._followed_until:
            self._others.tell(self._encode(Batch(self._worker, requests, lost)))

    def _heard(self, message: bytes) -> None:
        """Pass on what another worker publishes.

        Everyone may publish there: what is of no use is passed over.
        """
        try:
            batch = self._decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if batch.worker != self._worker:
            for listener in self._listeners:
                listener.put(batch.requests, batch.lost)

    def __repr__(self) -> str:
        return f"<LiveRequests: {len(self._listeners)} listeners>"


def _is_shown(call: Call) -> bool:
    """Whether the call is one for a model."""
    return call.access is not None or call.requested_model is not None or call.outcome is not None


def seen(call: Call, *, has_ended: bool) -> LiveRequest:
    """Return a call as it stands."""
    elapsed = perf_counter() - call.began
    model = call.served or _of(call.access, "model")
    return LiveRequest(
        id=call.request_id,
        outcome=(call.outcome or "refused") if has_ended else "running",
        began=round(time.time() - elapsed, 3),
        milliseconds=round(elapsed * 1000, 1),
        first_byte_ms=None if call.first_byte is None else round((call.first_byte - call.began) * 1000, 1),
        user=_of(call.caller, "user", "id"),
        key=_of(call.caller, "key", "id"),
        model=_of(model, "name"),
        model_id=_of(model, "id"),
        asked=None if call.requested_model is None else call.requested_model[:LONGEST_NAME],
        endpoint=_of(call.endpoint, "id"),
        route=call.route,
        streamed=call.streamed,
        queued=call.is_queued,
        attempts=call.attempts,
        status=call.status,
        code=call.code,
        prompt_tokens=_of(call.usage, "prompt_tokens"),
        completion_tokens=_of(call.usage, "completion_tokens"),
    )


def _of(record: Any, *names: str) -> Any:
    """Return what is below a record that may be missing."""
    for name in names:
        record = None if record is None else getattr(record, name)
    return record
