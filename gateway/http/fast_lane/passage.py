"""The application server's share of a connection: one request's bytes at a time, and no more."""

from __future__ import annotations

import asyncio
import sys

from gateway.http.fast_lane.heads import Framed
from gateway.http.message import Head


class Passage:
    """What is passed on, and whether the request that it belongs to is over.

    `busy`: the present request is the application's. `head`: that of the last one.
    """

    __slots__ = ("_answered", "_application", "_owed", "busy", "head", "upgraded")

    def __init__(self) -> None:
        self._application: asyncio.Protocol | None = None  # aiohttp's side of this connection, once there is one
        self._owed = 0  # bytes of the request's body that are still to come
        self._answered = False  # while its body still arrives
        self.busy = False
        self.upgraded = False  # all that comes from now on is in another protocol
        self.head: Head

    @property
    def is_cut_short(self) -> bool:
        """Whether a client that ends now has not sent the whole of its request."""
        return self.busy and self._owed > 0

    def join(self, application: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Take the application's protocol for this connection."""
        self._application = application
        application.connection_made(transport)

    @property
    def is_joined(self) -> bool:
        """Whether the application knows of this connection."""
        return self._application is not None

    def begin(self, framed: Framed, data: bytes) -> bytes:
        """Pass on a request that `data` begins with; returns what is not its own."""
        self.busy, self.head = True, framed.head
        # Where a chunked body ends is the application's to find.
        end = sys.maxsize if framed.chunks is not None else framed.body_at + (framed.head.declared_length or 0)
        self._owed = max(0, end - len(data))
        if self._application is not None:
            self._application.data_received(data[:end])
        return data[end:]

    def take(self, data: bytes) -> bytes:
        """Pass on what belongs to the present request; returns what is not its own."""
        if self.upgraded:
            part, rest = data, b""
        else:
            part, rest = data[: self._owed], data[self._owed :]
            self._owed -= len(part)
        if part and self._application is not None:
            self._application.data_received(part)
        return rest

    def answered(self) -> None:
        """Note that the answer is out."""
        self._answered = True

    def is_over(self) -> bool:
        """Whether request and answer are whole; then the next may come."""
        if not self._answered or self._owed:
            return False
        self.busy = self._answered = False
        return True

    def lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._application is not None:
            self._application.connection_lost(exc)

    def pressed(self, paused: bool) -> None:
        """The client takes nothing for now, or again."""
        if self._application is not None and paused:
            self._application.pause_writing()
        elif self._application is not None:
            self._application.resume_writing()
