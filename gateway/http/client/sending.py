"""Send a large body as fast as its upstream takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol


class Upload(Protocol):
    """A body in pieces; `len` is its size in bytes."""

    def __len__(self) -> int: ...

    def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """The body from its beginning, at each call anew."""


class Sending:
    """A body on its way, until it is sent or stopped.

    `on_failure` gets the reason where its pieces cannot be had.
    """

    __slots__ = ("_left", "_loop", "_may_write", "_moved_at", "_task", "_transport", "sent_all")

    def __init__(self, transport: asyncio.Transport, body: Upload, on_failure: Callable[[str], None]) -> None:
        self.sent_all = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._loop = asyncio.get_running_loop()
        self._transport, self._left = transport, 0  # what waited in it when it was looked at
        self._moved_at = self._loop.time()
        self._task = self._loop.create_task(self._send(transport, body, on_failure))

    @property
    def done(self) -> bool:
        """Whether nothing more will be sent."""
        return self._task.done()

    @property
    def last_at(self) -> float:
        """Return when it last got on, as far as is known.

        An upstream that takes nothing of it falls silent.
        """
        if not self.done and self._transport.get_write_buffer_size() != self._left:
            self._look()
        return self._moved_at

    def pause(self) -> None:
        self._may_write.clear()
        self._look()

    def resume(self) -> None:
        self._may_write.set()
        self._look()

    def stop(self) -> None:
        self._task.cancel()

    def _look(self) -> None:
        self._left, self._moved_at = self._transport.get_write_buffer_size(), self._loop.time()

    async def _send(self, transport: asyncio.Transport, body: Upload, on_failure: Callable[[str], None]) -> None:
        try:
            async for piece in body.pieces():
                await self._may_write.wait()
                if transport.is_closing():
                    return
                transport.write(piece)
        except Exception as error:
            on_failure(f"the request's body could not be read: {error}")
        else:
            self.sent_all = True
            self._moved_at = self._loop.time()

    def __repr__(self) -> str:
        return f"<Sending {'all of it' if self.sent_all else 'stopped' if self.done else 'on its way'}>"
