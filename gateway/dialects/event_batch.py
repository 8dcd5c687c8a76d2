"""Read many alike events by one decoding in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.base import Contents

_UNLIKE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


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
