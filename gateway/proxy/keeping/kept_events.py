"""Hold what flows until the objects in it are remembered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.errors import ConnectionCut, GatewayError, TransportError
from gateway.proxy.attempt import Attempt
from gateway.proxy.keeping.large_answers import LargeAnswer
from gateway.proxy.keeping.object_keeper import Keeper, News
from gateway.types import Endpoint, Model

_MOST_HELD_BYTES = 1 << 20  # before the upstream is asked to wait


class KeptEvents:
    """Stand between an upstream's read and the client.

    In order, and at once where there is nothing new.
    """

    __slots__ = (
        "_attempt",
        "_client_waits",
        "_endpoint",
        "_failure",
        "_held",
        "_keeper",
        "_model",
        "_on_event",
        "_size",
        "_task",
        "_upstream_waits",
    )

    def __init__(
        self, keeper: Keeper, attempt: Attempt, on_event: Callable[[bytes], None], model: Model, endpoint: Endpoint
    ) -> None:
        self._keeper = keeper
        self._attempt = attempt
        self._on_event = on_event
        self._model = model
        self._endpoint = endpoint
        self._held: deque[tuple[bytes, News | None]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self._failure: TransportError | None = None
        self._client_waits = self._upstream_waits = False

    async def pour(self, *, into_stream: bool) -> TransportError | None:
        """Relay the attempt's events to their end; return the failure."""
        try:
            broken = await self._attempt.pour(self._take, into_stream=into_stream)
            if self._task is not None:
                await self._task
        finally:
            if self._task is not None:
                self._task.cancel()
        return self._failure or broken

    def pressure(self, paused: bool) -> None:
        """Pause the upstream while the client is slow."""
        self._client_waits = paused
        self._attempt.pressure(paused or self._upstream_waits)

    def _take(self, data: bytes) -> None:
        """Pass on whole events, or hold them for a moment."""
        news = self._news_in(data)
        if news is not None and not news and self._task is None:
            self._on_event(data)
            return
        self._held.append((data, news))
        self._size += len(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._pass_on())
        elif self._size > _MOST_HELD_BYTES and not self._upstream_waits:
            self._upstream_waits = True
            self._attempt.pressure(True)

    def _news_in(self, data: bytes) -> News | None:
        """Return what is new in them; None where finding out takes long."""
        return self._keeper.news_in(data, self._model, self._endpoint)

    async def _looked_for(self, data: bytes) -> News:
        raise NotImplementedError

    async def _pass_on(self) -> None:
        try:
            while self._held:
                data, news = self._held.popleft()
                if news is None:
                    news = await self._looked_for(data)
                if news:
                    await self._keeper.remember(news)
                self._on_event(data)
                self._size -= len(data)
        except GatewayError as fault:
            self._failure = ConnectionCut(f"its objects could not be remembered: {fault.message}")
            self._attempt.on_failure(self._failure)
        except ConnectionResetError:  # the client has gone, and its connection cancels the request
            self._attempt.close()
        finally:
            self._task = None
            if self._upstream_waits:
                self._upstream_waits = False
                self._attempt.pressure(self._client_waits)

    def __repr__(self) -> str:
        return f"<KeptEvents, {self._size} bytes held>"


class KeptFlow(KeptEvents):
    """Hold an answer that flows: large or compressed."""

    __slots__ = ("_answer",)

    def __init__(
        self,
        keeper: Keeper,
        attempt: Attempt,
        on_event: Callable[[bytes], None],
        model: Model,
        endpoint: Endpoint,
    ) -> None:
        super().__init__(keeper, attempt, on_event, model, endpoint)
        self._answer = LargeAnswer(keeper, model, endpoint, attempt.head.encoding)

    def _news_in(self, data: bytes) -> None:
        return None

    async def _looked_for(self, data: bytes) -> News:
        return await asyncio.to_thread(self._answer.news, data)
