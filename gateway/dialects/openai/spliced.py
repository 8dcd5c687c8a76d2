"""A body edited in place: what stays is not copied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

# What comes into the body; a number stands for a name that is known only when a rewritten body is asked for: 0 for the
# model's, from 1 on for those of models that are named elsewhere.
Piece = bytes | memoryview | int
Text = tuple[bytes | int, ...]
# Start and end of what goes, and what comes there. No two edits of a body have the same place.
Edit = tuple[int, int, Text]

_AT_ONCE = 1 << 18  # bytes: what is on its way is held twice where the transport copies it


class SplicedBody:
    """Hold a body in parts, sent one by one; `len`: its size."""

    __slots__ = ("_parts", "_size")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """The body from its beginning, at each call anew."""
        for part in self._parts:
            for at in range(0, len(part), _AT_ONCE):
                yield part[at : at + _AT_ONCE]

    def __repr__(self) -> str:
        return f"<SplicedBody of {self._size:,} bytes>"


def spliced(raw: bytes, edits: Iterable[Edit]) -> list[Piece]:
    """The pieces of the edited body; views, not copies, of what stays."""
    view, at = memoryview(raw), 0
    pieces: list[Piece] = []
    for start, end, text in sorted(edits):
        pieces += (view[at:start], *text)
        at = end
    pieces.append(view[at:])
    return pieces
