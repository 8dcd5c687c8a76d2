"""What a bridge keeps of conversations that no upstream stores."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.http.memory_budget import Held
from gateway.websockets.frames import items, members

MOST_BYTES = 16 * 2**20  # of a socket
_MESSAGE = b'{"type":"message","role":"user","content":'
_REASONING = b'"reasoning"'
_NOTHING = (b"null", b"[]", b'""')


class Kept(NamedTuple):
    """A lane's last response: its whole input and output items."""

    response_id: str
    items: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.items))


class Chains:
    """Each lane's last response, within bounds of socket and process."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._by_lane: dict[str | None, Kept] = {}

    def find(self, response_id: object) -> Kept | None:
        """Find a response by its id, whichever lane's it is."""
        return next((kept for kept in self._by_lane.values() if kept.response_id == response_id), None)

    def keep(self, lane: str | None, response_id: str, kept_items: tuple[bytes, ...]) -> None:
        """Keep a lane's last response in the place of the one before.

        Others give way, the oldest first. One for which there is no room is not kept.
        """
        self._drop(lane)
        kept = Kept(response_id, kept_items)
        while self._by_lane and self._held.size + kept.size > MOST_BYTES:
            self._drop(next(iter(self._by_lane)))
        if kept.size <= MOST_BYTES and self._held.has_grown(kept.size):
            self._by_lane[lane] = kept

    def release(self) -> None:
        self._by_lane.clear()
        self._held.release()

    def _drop(self, lane: str | None) -> None:
        before = self._by_lane.pop(lane, None)
        if before is not None:
            self._held.shrink(before.size)

    def __repr__(self) -> str:
        return f"<Chains of {len(self._by_lane)} lanes, {self._held.size} bytes>"


def input_items(value: msgspec.Raw | None) -> tuple[bytes, ...]:
    """Return the items of an `input`; a text is one message."""
    if value is None:
        return ()
    raw = bytes(value).strip()
    if raw.startswith(b"["):
        return tuple(bytes(each) for each in items(raw))
    return (_MESSAGE + raw + b"}",) if raw.startswith(b'"') else ()


def replayed(output: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the items of an output that can be an input again.

    Reasoning without its `encrypted_content` or text is known to nobody but the upstream, which keeps nothing.
    """
    return tuple(each for each in output if not _is_empty_reasoning(each))


def _is_empty_reasoning(item: bytes) -> bool:
    if _REASONING not in item:
        return False
    fields = members(item)
    if bytes(fields.get("type", b"")).strip() != _REASONING:
        return False
    return all(bytes(fields.get(name, b"null")).strip() in _NOTHING for name in ("encrypted_content", "content"))
