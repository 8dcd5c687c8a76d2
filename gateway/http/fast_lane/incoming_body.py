"""A request's body as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httptools

from gateway.errors import HeadTooLarge, InvalidHttp

# What chunks' sizes, extensions and trailers may take besides the body's own bytes.
MAX_FRAMING_BYTES = 2 << 20
MAX_TRAILERS, MAX_TRAILER_BYTES = 128, 8190  # as fields of a head
_CLOSE = (("connection", "close"),)
_FRAMING_SHARE = 16  # and as many times the body: chunks of one byte are slow, but no attack by themselves
PAUSE_ABOVE_BYTES = 256 * 1024


class ArrivingBody:
    """Buffer a body's bytes until they are read.

    `pause(True)` asks for no more of them, `pause(False)` for more.
    """

    __slots__ = ("_error", "_parts", "_pause", "_paused", "_size", "_waiter", "whole")

    def __init__(self, pause: Callable[[bool], None]) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._pause = pause
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.whole = False

    @property
    def at_end(self) -> bool:
        """Whether all of it has been read."""
        return self.whole and not self._parts

    async def read(self) -> bytes:
        """Wait for the next bytes; empty at the end."""
        while not self._parts and not self.whole:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._pause(False)
        return data

    def feed(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > PAUSE_ABOVE_BYTES and not self._paused:
                self._paused = True
                self._pause(True)
            self._wake()

    def end(self) -> None:
        self.whole = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Raise `error` to the reader after the buffered bytes."""
        if not self.whole:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class CountedBody:
    """A body of a declared length.

    It takes its own bytes out of what arrives.
    """

    __slots__ = ("owed",)

    overran = False

    def __init__(self, length: int) -> None:
        self.owed = length

    def take(self, data: bytes, into: ArrivingBody) -> bytes:
        """Feed what belongs to the body; return what follows it."""
        part, rest = data[: self.owed], data[self.owed :]
        self.owed -= len(part)
        into.feed(part)
        if not self.owed:
            into.end()
        return rest


class ChunkedBody:
    """A body in chunks, unpacked by llhttp. Trailers are dropped.

    Where a chunked body ends cannot be seen from outside llhttp: bytes behind it in the same read are lost, and then
    `overran` says that the connection must end with this request. So it does after trailers: servers differ on them.
    """

    __slots__ = ("_content_bytes", "_ended", "_fed", "_in_body", "_parser", "_parts", "_trailers", "overran")

    def __init__(self, head: bytes) -> None:
        self._parts: list[bytes] = []
        self._ended = False
        self._content_bytes = self._fed = self._trailers = 0
        self.overran = self._in_body = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def take(self, data: bytes, into: ArrivingBody) -> bytes:
        """Feed the body; raise InvalidHttp or HeadTooLarge for bad bytes.

        Nothing more is to be fed then.
        """
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ if isinstance(error.__context__, HeadTooLarge) else _broken()) from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._ended:
                raise _broken() from None
            self.overran = True
        self._content_bytes += sum(map(len, self._parts))
        if self._fed - self._content_bytes > MAX_FRAMING_BYTES + _FRAMING_SHARE * self._content_bytes:
            raise _broken()
        into.feed(b"".join(self._parts))
        self._parts.clear()
        if self._ended:
            into.end()
        return b""

    # -- llhttp's callbacks

    def on_message_begin(self) -> None:
        self.overran = self.overran or self._ended

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self.overran = self.overran or self._in_body
        if self._in_body:
            self._trailers += 1
            if self._trailers > MAX_TRAILERS or len(name) + len(value) > MAX_TRAILER_BYTES:
                raise HeadTooLarge("The trailers are larger than this gateway takes.", headers=_CLOSE)

    def on_body(self, data: bytes) -> None:
        if not self._ended:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        self._ended = True


def _broken() -> InvalidHttp:
    return InvalidHttp("The request's body is not valid HTTP/1.1.", headers=_CLOSE)
