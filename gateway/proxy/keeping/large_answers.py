"""Look for objects in answers that flow.

They are larger than what is held, or compressed although unrequested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gateway.dialects.pruned import Pruned
from gateway.http.content_coding import Unpacker
from gateway.proxy.keeping.object_keeper import NOTHING_NEW, Keeper, News, joined
from gateway.types import Endpoint, Model

_FED_BYTES = 1 << 18
_MOST_EVENT_BYTES = 1 << 20  # of a longer event nothing is read: those before it have named what it names
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_BOM = b"\xef\xbb\xbf"


class LargeAnswer:
    """Read an answer's pieces before they go out.

    `news` may take long, so it is called beside the loop.
    What unpacks to more than the meter reads of it is not read here either.
    """

    def __init__(self, keeper: Keeper, model: Model, endpoint: Endpoint, encoding: bytes) -> None:
        self._keeper = keeper
        self._model = model
        self._endpoint = endpoint
        self._unpacker = Unpacker(encoding) if encoding else None
        self._begin = b""  # until it is known whether these are events
        self._events: bytearray | None = None
        self._document: Pruned | None = None

    def news(self, data: bytes) -> News:
        """Return what these bytes bring that was not there before them."""
        found = [self._news_of(plain) for plain in self._unpacked(data)]
        return joined(found) if found else NOTHING_NEW

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _FED_BYTES):
            piece = data[start : start + _FED_BYTES]
            unpacker = self._unpacker
            if unpacker is None:
                yield piece
                continue
            unpacker.feed(piece)
            while plain := unpacker.step():
                yield plain
                if not unpacker.more:
                    break

    def _news_of(self, plain: bytes) -> News:
        if self._document is None and self._events is None:
            self._begin = (self._begin + plain).removeprefix(_BOM).lstrip()
            if not self._begin:
                return NOTHING_NEW
            plain, self._begin = self._begin, b""
            if plain.startswith(b"{"):
                self._document = Pruned(self._keeper.positions)
            else:
                self._events = bytearray()
        if self._document is not None:
            before = self._document.found
            self._document.feed(plain)
            if self._document.found == before:
                return NOTHING_NEW
            return self._keeper.news_of(self._document.fields, self._model, self._endpoint)
        return self._news_of_events(plain)

    def _news_of_events(self, plain: bytes) -> News:
        held = self._events
        if held is None:
            return NOTHING_NEW
        held += plain
        end = max(place + len(blank) if (place := held.rfind(blank)) >= 0 else 0 for blank in _BLANK_LINES)
        whole = bytes(held[:end])
        del held[:end]
        if len(held) > _MOST_EVENT_BYTES:
            held.clear()
        return self._keeper.news_in(whole, self._model, self._endpoint) if whole else NOTHING_NEW

    def __repr__(self) -> str:
        return f"<LargeAnswer, {'events' if self._events is not None else 'a document'}>"


async def remember_compressed(keeper: Keeper, model: Model, endpoint: Endpoint, body: bytes, encoding: bytes) -> None:
    """Remember what a whole compressed answer brings.

    Raises StoreUnavailable or LedgerUnavailable.
    """
    await keeper.remember(await asyncio.to_thread(LargeAnswer(keeper, model, endpoint, encoding).news, body))
