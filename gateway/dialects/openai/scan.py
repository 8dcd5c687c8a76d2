"""Measure JSON before it is parsed, in C, in windows.

With no Python object for a value.

Between two windows other threads have their turn: no body, however large or malicious, holds the interpreter for longer
than a window takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_WINDOW = 1 << 16
_BLANKS = b" \t\r\n"
_NUMBERS_GO_ON = re.compile(rb"[-+.0-9eE]*+")
# A number whose exponent has two digits, or one of 300 digits: only these can be beyond a double.
_PERHAPS_ENORMOUS = re.compile(rb"-?\d++(?:\.\d++)?[eE]\+?\d{2,}+|-?\d{300,}+(?:\.\d++)?(?:[eE][-+]?\d++)?")
_MANY_DIGITS = b"0" * 300
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")


class Size(NamedTuple):
    """The size of valid JSON: values and members.

    Values at any depth, itself among them.
    """

    values: int
    members: int


def measure(raw: bytes, most: int, *, window: int = _WINDOW) -> Size | None:
    """Measure JSON; None as soon as it has over `most` values."""
    values, members, quotes, before = 1, 0, 0, b""
    for _, masked, inside in _windows(raw, window):
        parts = masked.split(b'"')
        # In the place of each string stays a quote, lest `["a"]` look empty.
        outside = (b'"' if inside else b"") + b'"'.join(parts[inside::2])
        marks = outside.translate(None, _BLANKS)
        quotes += len(parts) - 1
        members += marks.count(b":")
        values += marks.count(b",") + marks.count(b"[") + marks.count(b"{")
        values -= marks.count(b"[]") + marks.count(b"{}") + (before + marks[:1] in (b"[]", b"{}"))
        # Each value may be a string and have one for its key.
        if values > most or quotes > 4 * most + 2:
            return None
        before = marks[-1:] or before
    return Size(values, members)


def tame(raw: bytes, *, window: int = _WINDOW) -> bytes:
    """Copy JSON with 1e308 for numbers beyond a double's range.

    Such as `1e400`.
    """
    pieces: list[bytes] = []
    for piece, masked, inside in _windows(raw, window, whole_numbers=True):
        if not (b"e" in masked or b"E" in masked or _MANY_DIGITS in masked.translate(_DIGITS_ALIKE)):
            pieces.append(piece)
            continue
        parts, at = [], 0
        for place, part in enumerate(masked.split(b'"')):
            end = at + len(part)
            text = piece[at:end]
            parts.append(text if (place + inside) % 2 else _PERHAPS_ENORMOUS.sub(_bounded, text))
            at = end + 1
        pieces.append(b'"'.join(parts))
    return b"".join(pieces)


def _bounded(number: re.Match[bytes]) -> bytes:
    value = float(number[0])
    return number[0] if math.isfinite(value) else b"-1e308" if value < 0 else b"1e308"


def _windows(raw: bytes, size: int, *, whole_numbers: bool = False) -> Iterator[tuple[bytes, bytes, int]]:
    """Cut JSON into pieces, each plain and with escapes masked.

    The third is 1 where the piece begins within a string. No escape is cut in two, nor a number where that matters.
    """
    at, inside = 0, 0
    while at < len(raw):
        end = min(at + size, len(raw))
        if whole_numbers and (number := _NUMBERS_GO_ON.match(raw, end)) is not None:
            end = number.end()
        window = raw[at:end]
        if (len(window) - len(window.rstrip(b"\\"))) % 2:  # the last begins an escape
            end += 1
            window = raw[at:end]
        masked = window
        if b"\\" in window:
            masked = window.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        yield window, masked, inside
        inside ^= masked.count(b'"') & 1
        at = end
