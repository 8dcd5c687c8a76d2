"""Scan JSON of any size, in pieces, for usage and text.

For what is too large to be decoded at once, or is passed on as it comes. Memory is bounded, and so is the time for a
piece: it grows with the piece's size alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from gateway.dialects.base import ToolCalls, Usage
from gateway.dialects.openai.metering.usage_report import last_usage, read_report

_MOST_USAGE_BYTES = 16 * 1024  # no report is longer
_MOST_LOOKS = 8  # reports looked at within one piece, from the last one back
# Within a JSON string its quotes would be escaped, so such a key is a key.
_TEXT_KEY = re.compile(
    rb'"(?:content|text|delta|arguments|reasoning_content|reasoning|refusal|thinking|partial_json)"'
    rb'[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"'
)
_LONGEST_KEY_BYTES = 48
# Calls of tools and pictures among the output, and the tier.
_MARK = re.compile(
    rb'"(?:type"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"(?P<kind>(?:web_search|file_search|code_interpreter|web_fetch'
    rb"|image_generation)_call|image_(?:generation|edit)\.partial_image)"
    rb'"|service_tier"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"(?P<tier>[^"\\]{1,40})"'
    rb'|b64_json"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}")'
)
_LONGEST_MARK_BYTES = 80
_CALLS = (b"web_search_call", b"file_search_call", b"code_interpreter_call", b"web_fetch_call")
_STRING = re.compile(rb'[^"\\]*+(?:\\(?:u.{4}|[^u])[^"\\]*+)*+', re.DOTALL)
_read_value = json.JSONDecoder().raw_decode  # stops behind the value: what follows belongs to the rest of the body


class JsonScan:
    """Scan JSON: `feed` the pieces in order, then `end`.

    The same at every split of the bytes, but for reports past all number.

    `key`, with its quotes, stands before the object that `read` finds a report in.
    """

    __slots__ = (
        "_calls",
        "_in_text",
        "_is_partial",
        "_key",
        "_made",
        "_marks_rest",
        "_read",
        "_rest",
        "_usage_rest",
        "service_tier",
        "text_bytes",
        "usage",
    )

    def __init__(self, key: bytes = b'"usage"', read: Callable[[object], Usage | None] = read_report) -> None:
        self._key = key
        self._read = read
        self.usage: Usage | None = None
        self.text_bytes = 0
        self._usage_rest = b""  # what may be the beginning of a report
        self._rest = b""  # what may be the beginning of a text's key, or of an escape
        self._in_text = False
        self.service_tier: str | None = None
        self._calls: dict[bytes, int] = {}
        self._made = 0
        self._is_partial = False  # of a picture's beginning
        self._marks_rest = b""

    @property
    def tools(self) -> ToolCalls | None:
        calls = ToolCalls(*(self._calls.get(name, 0) for name in _CALLS))
        return calls if any(calls) else None

    @property
    def images(self) -> int:
        return 0 if self._is_partial else self._made + self._calls.get(b"image_generation_call", 0)

    def feed(self, data: bytes) -> None:
        self._find_usage(data)
        self._find_marks(data)
        self._count_text(data)

    def end(self) -> None:
        rest, self._usage_rest = self._usage_rest, b""
        if rest.startswith(self._key):
            self._take(rest, 0)

    def _find_usage(self, data: bytes) -> None:
        text = self._usage_rest + data
        at = text.rfind(self._key)
        if at < 0:
            self._usage_rest = text[1 - len(self._key) :]
            return
        incomplete = len(text) - at < _MOST_USAGE_BYTES
        self._usage_rest = text[at:] if incomplete else text[1 - len(self._key) :]
        if incomplete:
            at = text.rfind(self._key, 0, at)
        for _ in range(_MOST_LOOKS):
            if at < 0 or self._take(text, at):
                return
            at = text.rfind(self._key, 0, at)

    def _take(self, text: bytes, at: int) -> bool:
        """Read the report whose key stands there; False where it is none."""
        value = text[at + len(self._key) : at + _MOST_USAGE_BYTES].decode("utf-8", "replace").lstrip(" \t\r\n:")
        if not value.startswith("{"):
            return False
        try:
            usage = self._read(_read_value(value)[0])
        except (ValueError, RecursionError):
            return False
        self.usage = last_usage(self.usage, usage)
        return usage is not None

    def _find_marks(self, data: bytes) -> None:
        text, end = self._marks_rest + data, 0
        for mark in _MARK.finditer(text):
            end = mark.end()
            kind, tier = mark["kind"], mark["tier"]
            if kind is not None:
                self._calls[kind] = self._calls.get(kind, 0) + 1
                self._is_partial = self._is_partial or kind.endswith(b"partial_image")
            elif tier is not None:
                self.service_tier = tier.decode(errors="replace")
            else:
                self._made += 1
        self._marks_rest = text[max(end, len(text) - _LONGEST_MARK_BYTES) :]

    def _count_text(self, data: bytes) -> None:
        text = self._rest + data
        position = 0
        while True:
            if not self._in_text:
                key = _TEXT_KEY.search(text, position)
                if key is None:
                    self._rest = text[max(position, len(text) - _LONGEST_KEY_BYTES) :]
                    return
                self._in_text, position = True, key.end()
            string = _STRING.match(text, position)
            end = string.end() if string is not None else position
            self.text_bytes += _unescaped_size(text[position:end])
            if end == len(text) or text[end] != 0x22:  # the text goes on in the next piece
                self._rest = text[end:]
                return
            self._in_text, position = False, end + 1


def _unescaped_size(piece: bytes) -> int:
    """Estimate the UTF-8 bytes of a piece of a JSON string.

    Cut between escapes.
    """
    if b"\\" not in piece:
        return len(piece)
    piece = piece.replace(b"\\\\", b".")
    return len(piece) - piece.count(b"\\") - 2 * piece.count(b"\\u") - piece.count(b"\\u0")
