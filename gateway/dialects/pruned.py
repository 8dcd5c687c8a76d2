"""Parse only what lies near some positions of a large document.

Piece by piece, for answers too large to be decoded as a whole: what no position leads to is passed over.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from gateway.dialects.references import Node, Positions

MOST_TEXT_BYTES: Final = 2**20  # of an id or content; what is longer is passed over
_MOST_SCALAR_BYTES = 512  # of what stands beside: dates, states, names
_MOST_FOUND = 50_000
_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN = re.compile(
    rb'[\s,:]*+(?:"(?P<text>' + _TEXT + rb')(?P<end>"?)|(?P<sign>[{}\[\]])|(?P<atom>[^\s,:{}\[\]"]++))', re.S
)
_LEAF = rb'[{\[](?:[^"{}\[\]]++|"' + _TEXT + rb'")*+[}\]]'  # in one step: most brackets are
_PASSED_OVER = re.compile(rb"(?P<leaf>" + _LEAF + rb')|"' + _TEXT + rb'(?P<end>"?)|(?P<open>[{\[])|[}\]]', re.S)
_REST = re.compile(_TEXT, re.S)


class _Frame:
    """An object or a list on the way to a position."""

    __slots__ = ("key", "node", "value")

    def __init__(self, value: dict[str, Any] | list[Any], node: Node) -> None:
        self.value = value
        self.node = node
        self.key: str | None = None  # whose value comes next


class Pruned:
    """`feed` the document; `fields` is what was found of it so far."""

    def __init__(self, positions: Positions) -> None:
        self.fields: dict[str, Any] = {}
        self._root = positions.root
        self._frames: list[_Frame] = []
        self._buffer = b""
        self._levels_over = 0  # open brackets of what is passed over
        self._in_text = False  # in the midst of a text that is passed over
        self.found = 0  # values, which only grows
        self._is_done = False

    def feed(self, data: bytes) -> None:
        """Take the next piece, cut anywhere."""
        if self._is_done:
            return
        self._buffer += data
        place, advanced = 0, True
        while advanced and not self._is_done:
            if self._in_text:
                place, advanced = self._end_text(place)
            elif self._levels_over:
                place, advanced = self._pass_over(place)
            else:
                place, advanced = self._token(place)
        self._buffer = b"" if self._is_done else self._buffer[place:]

    def _end_text(self, place: int) -> tuple[int, bool]:
        found = _REST.match(self._buffer, place)
        end = found.end() if found is not None else place
        if self._buffer[end : end + 1] != b'"':
            return end, False
        self._in_text = False
        return end + 1, True

    def _pass_over(self, place: int) -> tuple[int, bool]:
        for found in _PASSED_OVER.finditer(self._buffer, place):
            end = found["end"]
            if found["leaf"] is not None:
                continue
            if end is None:
                self._levels_over += 1 if found["open"] is not None else -1
                if not self._levels_over:
                    return found.end(), True
            elif not end:
                self._in_text = True
                return found.end(), True
        return len(self._buffer), False

    def _token(self, place: int) -> tuple[int, bool]:
        found = _TOKEN.match(self._buffer, place)
        if found is None:
            return place, False
        if found["sign"] is not None:
            self._take_sign(found["sign"])
        elif found["atom"] is not None:
            if found.end() == len(self._buffer):  # it may go on in the next piece
                return place, False
            self._take_scalar(found["atom"])
        elif found["end"]:
            self._take_text(found["text"])
        elif len(found["text"]) <= MOST_TEXT_BYTES:
            return place, False
        else:
            self._in_text = True
            self._take_nothing()
        return found.end(), True

    def _take_sign(self, sign: bytes) -> None:
        if sign in b"}]":
            if self._frames:
                self._frames.pop()
            self._is_done = not self._frames
            return
        if not self._frames:
            self._is_done = sign != b"{"  # no object, so that nothing is named in it
            self._frames.append(_Frame(self.fields, self._root))
            return
        inner = self._inner()
        leads = inner is not None and (inner.children if sign == b"{" else inner.items is not None)
        if inner is None or not leads or self.found > _MOST_FOUND:
            self._levels_over = 1
            self._take_nothing()
            return
        value: dict[str, Any] | list[Any] = {} if sign == b"{" else []
        self._put(value)
        self._frames.append(_Frame(value, inner))

    def _take_text(self, text: bytes) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is None:
            self._is_done = True
        elif isinstance(frame.value, dict) and frame.key is None:
            frame.key = _loaded(b'"%b"' % text) or ""
        else:
            inner = self._inner()
            if len(text) <= _MOST_SCALAR_BYTES or (inner is not None and inner.kind is not None):
                self._put(_loaded(b'"%b"' % text))
            else:
                self._take_nothing()

    def _take_scalar(self, atom: bytes) -> None:
        if self._frames and len(atom) <= _MOST_SCALAR_BYTES:
            self._put(_loaded(atom))
        else:
            self._take_nothing()

    def _take_nothing(self) -> None:
        if self._frames:
            self._frames[-1].key = None

    def _inner(self) -> Node | None:
        """Return where the next value stands among the positions."""
        frame = self._frames[-1]
        return frame.node.items if frame.key is None else frame.node.child(frame.key)

    def _put(self, value: Any) -> None:
        frame = self._frames[-1]
        self.found += 1
        if isinstance(frame.value, list):
            if frame.node.items is not None:
                frame.value.append(value)
        elif frame.key is not None:
            frame.value[frame.key] = value
        frame.key = None

    def __repr__(self) -> str:
        return f"<Pruned, {self.found} values>"


def _loaded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
