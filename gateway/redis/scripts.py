"""One connection to Redis and one script: what is asked in the same turn of the loop travels together.

redis-py's client retries, pools and waits by defaults of its own; of it only the connection is used (address, TLS,
authentication, parsing). One task sends one batch after the other; what arrives meanwhile makes the next batch, so that
commands stay in order. A failure of any kind closes the connection and opens a breaker: everything asked fails at once
until a new connection has proved itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from gateway.redis.timeout import Patience
from gateway.types import Secret

_MOST_IN_BATCH = 256
_MOST_KEPT = 50_000  # messages that wait for a Redis that is away
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 1.0
_LAST_WORDS_SECONDS = 1.0
# Error answers that say something about the server, not about the command. Where a script met one, older servers
# give it in the text only.
_UNWELL = (AuthenticationError, BusyLoadingError, NoPermissionError, OutOfMemoryError, ReadOnlyError)
_UNWELL_TEXT = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|LOADING|BUSY|NOPERM|NOAUTH)\b")


class LinkDown(Exception):
    """Redis gave no answer. `sent`: it may have carried the command out all the same."""

    def __init__(self, sent: bool) -> None:
        super().__init__("Redis gave no answer")
        self.sent = sent


class _Command(NamedTuple):
    message: bytes
    answer: asyncio.Future[list[Any]] | None  # None: nobody waits
    kept: bool  # told again, in order, until it has arrived


class Link:
    """See the module. Each new connection says `greeting()` first and is used where that is answered without an error.

    Then `on_up` is called, before anything new is asked. `log` gets a sentence when Redis goes and when it comes back.
    """

    def __init__(
        self,
        url: Secret,
        script: str,
        *,
        timeout_seconds: float,
        greeting: Callable[[], bytes],
        on_up: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self.is_up = False
        self.batches = 0  # round trips made
        self.lost = 0  # kept messages that were given up, since Redis was away for too long
        # Makes connections, with all that the URL says of them; it pools none. Raises ValueError for a bad URL.
        self._dialler = ConnectionPool.from_url(
            url.reveal(),
            socket_timeout=None,  # time-outs are ours, a whole batch at a time
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._script = script
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._command_head = f"*4\r\n$7\r\nEVALSHA\r\n${len(sha)}\r\n{sha}\r\n$1\r\n0\r\n$".encode()
        self._timeout_seconds = timeout_seconds
        self._greeting = greeting
        self._on_up = on_up
        self._log = log
        self._queue: deque[_Command] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<Link: {'up' if self.is_up else 'down'}, {len(self._queue)} waiting>"

    async def open(self) -> None:
        """Connects; where that fails, goes on trying in the background."""
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried))
        await tried.wait()

    async def close(self) -> None:
        """Delivers what is kept, within a second, and closes the connection."""
        if self._task is None:
            return
        if self.is_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._went_down(None)

    async def ask(self, message: bytes, patience: Patience) -> list[Any]:
        """The script's answer. Raises LinkDown, at the latest when `patience` is at its end."""
        if not self.is_up:
            raise LinkDown(sent=False)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._enqueue(_Command(message, answer, kept=False))
        try:
            async with patience:
                return await answer
        except TimeoutError:
            raise LinkDown(sent=True) from None

    def tell(self, message: bytes, *, kept: bool = True) -> None:
        """Sends without waiting. `kept`: until it has arrived, be it after minutes; perhaps twice."""
        if not self.is_up:
            if not kept:
                return
            if len(self._queue) >= _MOST_KEPT:
                self._queue.popleft()
                self.lost += 1
        self._enqueue(_Command(message, None, kept))

    def _enqueue(self, command: _Command) -> None:
        self._queue.append(command)
        self._idle.clear()
        self._wake.set()

    # -- the task

    async def _run(self, tried: asyncio.Event) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            connection: AbstractConnection = self._dialler.make_connection()  # type: ignore[no-untyped-call]  # theirs
            try:
                await self._prove(connection)
                self._came_up()
                tried.set()
                pause = _FIRST_PAUSE_SECONDS
                await self._deliver_all(connection)
            except Exception as error:  # whatever it is (uvloop adds its own): this connection is of no more use
                self._went_down(error)
            finally:
                tried.set()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _prove(self, connection: AbstractConnection) -> None:
        async with Patience(self._timeout_seconds):
            await connection.connect()  # type: ignore[no-untyped-call]  # theirs
            await self._load_script(connection)
            (answer,) = await self._exchange(connection, [_Command(self._greeting(), None, kept=False)])
        if isinstance(answer, ResponseError):
            raise answer

    async def _load_script(self, connection: AbstractConnection) -> None:
        await connection.send_command("SCRIPT", "LOAD", self._script)
        await connection.read_response()

    def _came_up(self) -> None:
        self.is_up = True
        self._on_up()  # what it tells goes behind what was kept, and before what is asked from now on
        self._log("Redis answers: limits are kept for all workers together")

    def _went_down(self, error: Exception | None) -> None:
        if error is not None and (self.is_up or not self._has_failed):
            self._log(f"Redis does not answer ({_reason(error)}): limits are kept for each worker alone")
        self._has_failed = self._has_failed or error is not None
        self.is_up = False
        for command in self._queue:
            if command.answer is not None and not command.answer.done():
                command.answer.set_exception(LinkDown(sent=True))
        self._queue = deque(command for command in self._queue if command.kept)

    async def _deliver_all(self, connection: AbstractConnection) -> None:
        while True:
            while self._queue:
                # Commands leave the queue once they are done, so that a failure finds them there.
                batch = list(islice(self._queue, _MOST_IN_BATCH))
                answers = await self._deliver(connection, batch)
                for command, answer in zip(batch, answers, strict=True):
                    self._queue.popleft()
                    self._conclude(command, answer)
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def _deliver(self, connection: AbstractConnection, batch: list[_Command]) -> list[Any]:
        async with Patience(self._timeout_seconds):
            answers = await self._exchange(connection, batch)
            forgotten = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if forgotten:  # SCRIPT FLUSH
                await self._load_script(connection)
                again = await self._exchange(connection, [batch[at] for at in forgotten])
                for at, answer in zip(forgotten, again, strict=True):
                    answers[at] = answer
        for answer in answers:
            if isinstance(answer, ResponseError) and _is_unwell(answer):
                raise answer
        return answers

    async def _exchange(self, connection: AbstractConnection, batch: list[_Command]) -> list[Any]:
        self.batches += 1
        head = self._command_head
        packed = b"".join([b"%b%d\r\n%b\r\n" % (head, len(each.message), each.message) for each in batch])
        await connection.send_packed_command(packed, check_health=False)
        return [await _read(connection) for _ in batch]

    def _conclude(self, command: _Command, answer: Any) -> None:
        failed = isinstance(answer, ResponseError)
        if failed:
            self._log(f"Redis refuses a command of the limiter: {answer}")
        if command.answer is None or command.answer.done():
            return
        if failed:
            command.answer.set_exception(LinkDown(sent=True))
        else:
            command.answer.set_result(answer)


async def _read(connection: AbstractConnection) -> Any:
    """An answer, or the error that stands in place of one."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _is_unwell(answer: ResponseError) -> bool:
    return isinstance(answer, _UNWELL) or _UNWELL_TEXT.search(str(answer)) is not None


def _reason(error: Exception) -> str:
    """A word for the log: texts of errors may hold more than they should."""
    word = _UNWELL_TEXT.search(str(error)) if isinstance(error, ResponseError) else None
    return type(error).__name__ if word is None else word[1]
