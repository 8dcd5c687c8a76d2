"""Read many alike events by one decoding in C.

Or by none, where they differ in their text alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from gateway.dialects.base import Contents

_UNLIKE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_TEXT_NAMES = tuple(
    b'"%b":%b"' % (name, blank)
    for name in (b"content", b"text", b"reasoning_content", b"thinking")
    for blank in (b"", b" ")
)
_NOT_AS_IT_STANDS = re.compile(rb'["\\\x00-\x1f]')  # what ends a JSON string, is no part of one, or stands for another
_SAMPLE = b"abc"


class Batches:
    """Read joined events that begin with `head`.

    Each has one line of JSON behind it.

    `shapes`: what each may look like, the strictest first, and what counts of a list of those.
    """

    __slots__ = ("_boundary", "_head", "_shapes")

    def __init__(self, head: bytes, *shapes: tuple[type[Any], Callable[[Any], Contents]]) -> None:
        self._head = head
        self._boundary = b"\n\n" + head
        self._shapes = [(msgspec.json.Decoder(list[shape]).decode, read) for shape, read in shapes]  # type: ignore[valid-type]

    def read(self, events: bytes) -> Contents | None:
        """Return what counts of alike events; None for others.

        A blank line within JSON is no JSON: where one is taken for a boundary, it is one.
        """
        head = self._head
        if not events.startswith(head) or not events.endswith(b"\n\n"):
            return None
        listed = b"[" + events[len(head) : -2].replace(self._boundary, b",") + b"]"
        for decode, read in self._shapes:
            try:
                return read(decode(listed))
            except _UNLIKE:
                continue
        return None

    def __repr__(self) -> str:
        return f"<Batches of {self._head!r}>"


class Envelope(NamedTuple):
    """What a stream's text events share: all but the text."""

    head: bytes  # to the quote that opens the text
    tail: bytes  # from the quote that closes it
    joint: bytes  # tail and head: between two texts

    def text_bytes(self, events: bytes) -> int | None:
        """Return the bytes of text in joined events of this kind.

        None where one of them may be of another kind, or its text has escapes.
        """
        head, tail, joint = self
        if not events.startswith(head) or not events.endswith(tail) or len(events) < len(joint):
            return None
        texts = events[len(head) : -len(tail)]
        text = texts.replace(joint, b"")
        if _NOT_AS_IT_STANDS.search(text) is not None or not (text.isascii() or _is_utf8(texts)):
            return None
        return len(text)


def envelope_of(event: bytes, read: Callable[[bytes], Contents | None]) -> Envelope | None:
    """Return the envelope of an event that is text alone.

    `read` proves it: what stands between head and tail is all that it counts.
    """
    for name in _TEXT_NAMES:
        start = event.rfind(name) + len(name)
        if start >= len(name):
            head, tail = event[:start], event[event.find(b'"', start) :]
            empty, sample = read(head + tail), read(head + _SAMPLE + tail)
            if empty is not None and sample is not None and (empty.text_bytes, sample.text_bytes) == (0, len(_SAMPLE)):
                return Envelope(head, tail, tail + head)
    return None


def _is_utf8(texts: bytes) -> bool:
    try:
        texts.decode()
    except UnicodeDecodeError:
        return False
    return True
