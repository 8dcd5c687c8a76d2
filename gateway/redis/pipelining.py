"""Pipeline commands: a loop turn's commands go out in one write.

One batch is under way at a time; what is asked meanwhile makes the next, so that commands stay in order and batches
grow with the load.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import NoScriptError, RedisError

from gateway.redis.address import Connection
from gateway.redis.refusals import RedisUnavailable, Refusal, Reply, is_refusal, read_reply, shown_error
from gateway.redis.script import Script
from gateway.redis.timeout import Patience

# So long Redis may be silent before it counts as away. A batch whose commands have waited for the one before it has a
# last moment of its own. Both together stay below the 250 ms by which Redis may delay a request.
TIMEOUT_SECONDS, LEAST_TIMEOUT_SECONDS = 0.2, 0.04
HURRIED_SECONDS = 0.025  # where another server has used up the patience of those who ask
MOST_WAITING = 4096
MOST_IN_A_BATCH = 256


class Call:
    """A command under way.

    `answer` is None where nothing waits; `since` is infinite where it is not urgent.
    """

    __slots__ = ("answer", "is_probe", "packed", "script", "since")

    def __init__(
        self,
        packed: bytes,
        answer: asyncio.Future[Reply] | None,
        since: float = math.inf,
        script: Script | None = None,
        *,
        is_probe: bool = False,
    ) -> None:
        self.packed = packed
        self.answer = answer
        self.since = since
        self.script = script
        self.is_probe = is_probe

    def conclude(self, reply: Reply) -> None:
        """`reply`: also an error that Redis answered with."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(reply)

    def fail(self, *, sent: bool) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(RedisUnavailable(sent=sent))


class Pipeline:
    """Exchange calls, a batch at a time.

    Failing belongs to the connection's owner.

    `is_misplaced`: whether a refusal means that another server is to be asked.
    """

    def __init__(self, is_misplaced: Callable[[Refusal], bool]) -> None:
        self.round_trips = 0
        self._is_misplaced = is_misplaced
        self._waiting: list[Call] = []
        self._wake = asyncio.Event()
        self._patience: Patience | None = None  # with the batch under way
        self._answered_at = -math.inf
        self._is_hurried = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    def issue(self, call: Call) -> None:
        self._waiting.append(call)
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Return when something is waiting, or after `seconds`."""
        if self._waiting:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def exchange(self, connection: Connection) -> None:
        """Send one batch and read its replies.

        Raises TimeoutError, RedisError or OSError, and fails the batch.
        """
        batch = self._next_batch()
        if batch:
            self.round_trips += not all(call.is_probe for call in batch)
            await self.exchange_batch(connection, batch, self._seconds_for(batch))

    async def exchange_batch(self, connection: Connection, batch: list[Call], timeout_seconds: float) -> None:
        """Exchange these. Raises as `exchange`, and where they are misplaced."""
        self._patience = Patience(timeout_seconds)
        try:
            refused = await exchanged(connection, batch, self._patience)
        finally:
            self._patience = None
        self._answered_at = asyncio.get_running_loop().time()
        for refusal in refused:
            if self._is_misplaced(refusal):
                raise RedisError(f"another server is to be asked: {shown_error(refusal)}")

    def hurry(self) -> bool:
        """Give what is under way a last moment.

        Whether nothing is, so that it should be asked something: the next batch has that moment then. Where it has
        answered lately there is nothing to be found out.
        """
        if self._patience is not None:
            self._patience.left_seconds = min(self._patience.left_seconds, HURRIED_SECONDS)
            return False
        self._is_hurried = asyncio.get_running_loop().time() - self._answered_at > TIMEOUT_SECONDS
        return self._is_hurried

    def fail_waiting(self) -> None:
        left, self._waiting = self._waiting, []
        self._wake.clear()
        for call in left:
            call.fail(sent=False)

    def _next_batch(self) -> list[Call]:
        batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
        if not self._waiting:
            self._wake.clear()
        return batch

    def _seconds_for(self, batch: list[Call]) -> float:
        if self._is_hurried:
            self._is_hurried = False
            return HURRIED_SECONDS
        spent = asyncio.get_running_loop().time() - min(call.since for call in batch)
        return max(TIMEOUT_SECONDS - max(spent, 0.0), LEAST_TIMEOUT_SECONDS)


async def exchanged(connection: Connection, batch: list[Call], patience: Patience) -> list[Refusal]:
    """Exchange calls, again those whose script Redis forgot.

    Returns what was refused.
    """
    refused: list[Refusal] = []
    try:
        async with patience:
            forgotten = await _round_trip(connection, batch, refused)
            if forgotten:
                _give_sources(forgotten)
                await _round_trip(connection, forgotten, refused)
    except TimeoutError:
        raise TimeoutError("no answer") from None
    finally:
        for call in batch:
            call.fail(sent=True)
    return refused


async def _round_trip(connection: Connection, batch: list[Call], refused: list[Refusal]) -> list[Call]:
    """The calls that Redis does not know the script of."""
    forgotten: list[Call] = []
    await connection.send_packed_command(b"".join([call.packed for call in batch]), check_health=False)
    for call in batch:
        reply = await read_reply(connection)
        if is_refusal(reply):
            if call.script is not None and isinstance(reply, NoScriptError):
                forgotten.append(call)
                continue
            refused.append(reply)
        call.conclude(reply)
    return forgotten


def _give_sources(calls: list[Call]) -> None:
    """Add each script's source to its first call.

    The others follow in the same write.
    """
    given: set[Script] = set()
    for call in calls:
        script, call.script = call.script, None
        if script is not None and script not in given:
            given.add(script)
            call.packed = script.with_source(call.packed)
