"""What was seen of an answer, for the books."""

from __future__ import annotations

import contextlib
import json
import zlib

import msgspec

from gateway.openai import Usage, is_unfinished, may_bear_usage, usage_of
from gateway.sse import EventFramer, event_data

# Of an answer that came compressed although we asked for none of it, this much is unpacked to look for its usage.
_MOST_UNPACKED_BYTES = 4 * 2**20
_TAIL_BYTES = 64 * 1024
_GZIP_OR_ZLIB = 47  # zlib's window bits: either header is taken
_ENCODINGS = frozenset((b"gzip", b"x-gzip", b"deflate"))


class Seen(msgspec.Struct, eq=False):
    """What was seen of an answer: the usage that the upstream reported, and its text's size where it reports none.

    An event is JSON around a few letters. The shortest one of a stream shows what the JSON alone takes; what the others
    have beyond it is text, and each has at least one token.
    """

    asked: bool = False  # some upstream has been sent the request
    answered: bool = False  # some upstream gave an answer, be it a refusal
    unfinished: bool = False  # the answer says that the work is yet to be done
    usage: Usage | None = None
    _events: int = 0
    _bytes: int = 0
    _shortest: int = 0

    def event(self, event: bytes) -> bool:
        """A whole event of a stream; whether it may tell of usage. The last usage that is reported counts."""
        if b'"usage"' in event and may_bear_usage(event):
            self.usage = usage_of(event_data(event) or b"") or self.usage
            return True
        if _bears_text(event):
            size = len(event)
            if size < self._shortest or not self._events:
                self._shortest = size
            self._events += 1
            self._bytes += size
        return False

    def whole(self, body: bytes, *, encoding: bytes, is_text: bool) -> None:
        """A whole answer: its usage is read, or else its size is taken down."""
        readable = unpacked(body, encoding) if encoding else body
        self.usage = usage_of(readable) if readable[:1] == b"{" else None
        self.unfinished = (self.usage is None or self.usage.total_tokens == 0) and is_unfinished(readable)
        if self.usage is None and is_text:
            self._events, self._bytes, self._shortest = 1, len(readable), 0

    def flow(self, encoding: bytes, *, is_stream: bool) -> Flow:
        """For an answer that is passed on as it comes, unread: a look at a bounded copy of it."""
        return Flow(self, encoding, is_stream=is_stream)

    @property
    def counts(self) -> bool:
        """Whether an upstream gave an answer, be it one of which nothing reached the client: what it used was used."""
        return self.answered or self.usage is not None or self._events > 0

    @property
    def text_bytes(self) -> int:
        """About so many bytes of text were answered; 0 where nothing was."""
        return max(4 * self._events, self._bytes - self._events * self._shortest) if self._events else 0


class Flow:
    """Looks for usage in an answer that is passed on as it comes: a compressed stream, or a body too large to hold.

    At most one read's worth is unpacked at a time, and of a large body only its end is kept: usage stands there.
    """

    __slots__ = ("_framer", "_seen", "_tail", "_unpack")

    def __init__(self, seen: Seen, encoding: bytes, *, is_stream: bool) -> None:
        self._seen = seen
        self._framer = EventFramer() if is_stream else None
        self._tail = b""
        self._unpack = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _ENCODINGS else None
        if encoding and self._unpack is None:
            self._framer = None  # in a language that we do not read

    def feed(self, data: bytes) -> None:
        readable = data if self._unpack is None else self._unpacked(data)
        if self._framer is None:
            self._tail = (self._tail + readable[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            return
        for event in self._framer.feed(readable):
            self._seen.event(event)

    def end(self) -> None:
        start = self._tail.rfind(b'"usage"')
        if start < 0:
            return
        with contextlib.suppress(ValueError, RecursionError):
            # What follows the object belongs to the rest of the body; a decoder that stops there is in the library.
            text = self._tail[start + len(b'"usage"') :].decode("utf-8", "replace")
            usage, _ = json.JSONDecoder().raw_decode(text.lstrip(" \t\r\n:"))
            self._seen.usage = usage_of({"usage": usage}) or self._seen.usage

    def _unpacked(self, data: bytes) -> bytes:
        if self._unpack is None:
            return data
        try:
            return self._unpack.decompress(data, _MOST_UNPACKED_BYTES)
        except zlib.error:
            return b""


def _bears_text(event: bytes) -> bool:
    """Not a comment, not the end, and on the responses route one of those that add something."""
    if event.startswith(b"data:"):
        return not event.startswith(b"data: [DONE]")
    return event.startswith(b"event:") and b".delta" in event[:80]


def unpacked(body: bytes, encoding: bytes) -> bytes:
    """The body's content, as much of it as is unpacked; nothing where it is not to be had."""
    if encoding not in _ENCODINGS:
        return b""
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, _MOST_UNPACKED_BYTES)
    except zlib.error:
        return b""
