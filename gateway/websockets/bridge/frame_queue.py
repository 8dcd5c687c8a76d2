"""Frames on their way to a client, and their pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Pressure = Callable[[bool], None]
PRESSURE_ABOVE_BYTES = 64 * 1024


class Outbox:
    """A queue that tells whoever fills it to pause.

    What is put in between is at most what one read of each upstream brings.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._watching: set[Pressure] = set()
        self._is_pressed = False

    def put(self, frame: bytes) -> None:
        """Send a frame as soon as the client takes it."""
        self._frames.append(frame)
        self._size += len(frame)
        self._news.set()
        if self._size > PRESSURE_ABOVE_BYTES:
            self._press(True)

    async def run(self) -> None:
        """Send until cancelled. Raises ConnectionError where the client has gone."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._frames:
                frame = self._frames.popleft()
                await self._send(frame)
                self._size -= len(frame)
                if self._size <= PRESSURE_ABOVE_BYTES // 2:
                    self._press(False)

    def watch(self, on_pressure: Pressure) -> None:
        self._watching.add(on_pressure)
        if self._is_pressed:
            on_pressure(True)

    def unwatch(self, on_pressure: Pressure) -> None:
        self._watching.discard(on_pressure)

    def _press(self, is_pressed: bool) -> None:
        if is_pressed is not self._is_pressed:
            self._is_pressed = is_pressed
            for on_pressure in list(self._watching):
                on_pressure(is_pressed)

    def __repr__(self) -> str:
        return f"<Outbox: {self._size} bytes{', pressed' * self._is_pressed}>"
