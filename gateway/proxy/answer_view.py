"""Read usage and text out of a body on its way.

And whether it is an answer at all.
"""

from __future__ import annotations

import re
from typing import Protocol

from gateway.dialects.base import Contents, Scan, UsageReader
from gateway.http.content_coding import Unpacker

# Up to here a body is decoded as a whole, which tells a key from its like deeper within; beyond it, it is scanned.
MOST_DECODED_BYTES = 2**20
_LOOKED_AT_BYTES = 256
_BOM = b"\xef\xbb\xbf"
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*+<[!?a-z]", re.IGNORECASE)
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*+[{\[]")


class Reader(Protocol):
    """Read a body's content in pieces.

    `unreadable` takes bytes that could not be unpacked.
    """

    def feed(self, data: bytes) -> None: ...
    def unreadable(self, size: int) -> None: ...
    def end(self) -> None: ...


class View:
    """Decompress a body for its reader, one bounded step a `feed`.

    After `end`, `step` until it is False: then the reader has had everything.
    """

    __slots__ = ("_came_bytes", "_ended", "_unpacker", "reader")

    def __init__(self, reader: Reader, encoding: bytes) -> None:
        self.reader = reader
        self._unpacker = Unpacker(encoding) if encoding else None
        self._came_bytes = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        if self._unpacker is None:
            self.reader.feed(data)
            return
        self._came_bytes += len(data)
        self._unpacker.feed(data)
        self.step()

    def end(self) -> None:
        self._ended = True
        if self._unpacker is None:
            self.reader.end()

    def step(self) -> bool:
        """Look at a bounded piece more; whether there is still more."""
        unpacker = self._unpacker
        if unpacker is None:
            return False
        piece = unpacker.step()
        if piece:
            self.reader.feed(piece)
        if unpacker.more:
            return True
        if self._ended:
            self._unpacker = None
            if not unpacker.given_bytes:
                self.reader.unreadable(self._came_bytes)
            self.reader.end()
        return False


class BodyReader:
    """Read a body that is no stream: JSON, text or a page."""

    __slots__ = ("_held", "_reader", "_scan", "_size")

    def __init__(self, reader: UsageReader) -> None:
        self._reader = reader
        self._held: list[bytes] = []  # once it is scanned, its beginning alone
        self._size = 0
        self._scan: Scan | None = None

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._scan is not None:
            self._scan.feed(data)
            self._held = self._held or _beginning(data)
            return
        self._held.append(data)
        if self._size > MOST_DECODED_BYTES:
            self._scan, held = self._reader.scan(), self._held
            self._held = _beginning(b"".join(held))
            for piece in held:
                self._scan.feed(piece)

    def unreadable(self, size: int) -> None:
        self._size += size

    def end(self) -> None:
        if self._scan is not None:
            self._scan.end()

    def contents(self, *, is_text: bool) -> Contents:
        """Return what was seen so far.

        Of what is no JSON the bytes count as text where `is_text`.
        """
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if _JSON.match(body):
            scan = self._scan
            contents = self._reader.contents(body.removeprefix(_BOM)) if scan is None else None
            return contents or self._scanned(body)
        is_page = _PAGE.match(body) is not None
        return Contents(whole_text_bytes=self._size if is_text and not is_page else 0, failed=is_page)

    def _scanned(self, body: bytes) -> Contents:
        """Scan a body too large to be decoded, or unfinished."""
        scan = self._scan
        if scan is None:
            scan = self._reader.scan()
            scan.feed(body)
            scan.end()
        return Contents(
            scan.usage,
            whole_text_bytes=scan.text_bytes,
            service_tier=scan.service_tier,
            tools=scan.tools,
            images=scan.images,
        )


def _beginning(body: bytes) -> list[bytes]:
    """Return the first bytes that show a body's kind.

    Some upstreams send blank lines while they think.
    """
    start = body.lstrip()[:_LOOKED_AT_BYTES]
    return [start] if start else []
