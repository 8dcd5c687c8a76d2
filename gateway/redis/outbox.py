"""Deliver script calls in order, each at least once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gateway.redis.link import RedisLink
from gateway.redis.pipelining import Call
from gateway.redis.refusals import Refusal, Reply, is_refusal
from gateway.redis.script import Script

MOST_KEPT = 50_000  # while Redis is away
MOST_UNDER_WAY = 1024  # so that what somebody waits for does not wait behind a long absence's messages


class Outbox:
    """Keep messages until Redis has answered them.

    Closed at first: opened by `open`, closed by `close`, at any time.

    `on_refusal` is told of each refusal and says whether the message is to be kept for later; `on_reply` is told of
    each other reply.
    """

    def __init__(
        self,
        link: RedisLink,
        script: Script,
        on_refusal: Callable[[Refusal], bool],
        on_reply: Callable[[Reply], None] = lambda _: None,
    ) -> None:
        self.lost = 0  # messages given up, since Redis was away for too long
        self._link = link
        self._script = script
        self._on_refusal = on_refusal
        self._on_reply = on_reply
        self._kept: deque[bytes] = deque()
        self._under_way = 0  # the first of them
        self._is_open = False
        self._opened = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_behind(self) -> bool:
        """Whether some are not even on their way."""
        return self._under_way < len(self._kept)

    def put(self, packed: bytes) -> None:
        if len(self._kept) >= MOST_KEPT:
            del self._kept[self._under_way]  # the oldest that is not on its way
            self.lost += 1
        self._kept.append(packed)
        self._idle.clear()
        self._send()

    def open(self) -> None:
        """Send what is kept, then new messages at once."""
        self._is_open, self._under_way = True, 0
        self._opened += 1
        self._send()

    def close(self) -> None:
        """Keep everything until the next `open`."""
        self._is_open, self._under_way = False, 0

    async def emptied(self, seconds: float) -> None:
        """Wait until everything has arrived, within so many seconds.

        Not at all where it is closed.
        """
        if self._is_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()

    def _send(self) -> None:
        while self._is_open and self._under_way < min(len(self._kept), MOST_UNDER_WAY):
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(partial(self._answered, self._opened))
            packed = self._kept[self._under_way]
            self._under_way += 1
            self._link.issue(Call(packed, answer, script=self._script))

    def _answered(self, opened: int, answer: asyncio.Future[Reply]) -> None:
        failed = answer.cancelled() or answer.exception() is not None
        if failed or opened != self._opened or not self._is_open:
            return  # sent again when the outbox is opened again
        reply = answer.result()
        if not is_refusal(reply):
            self._on_reply(reply)
        elif self._on_refusal(reply):
            return
        self._kept.popleft()
        self._under_way -= 1
        if not self._kept:
            self._idle.set()
        self._send()
