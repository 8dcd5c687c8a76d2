"""Find the key that a refused body has twice."""

from __future__ import annotations

import re

import orjson

from gateway.dialects.openai.shapes import printable

_MAX_EXAMINED_BYTES = 1 << 16  # up to which a refused body is looked at once more, slowly
_MAX_KEY_SHOWN = 64
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}:]')


def repetition_in(raw: bytes) -> str:
    """Return the error that names the repeated key."""
    found = _find_repeated_key(raw) if len(raw) <= _MAX_EXAMINED_BYTES else None
    if found is None:
        return "A key is given twice in the request body."
    key, at = found
    line_start = raw.rfind(b"\n", 0, at) + 1
    line, column = raw.count(b"\n", 0, at) + 1, len(raw[line_start:at].decode()) + 1
    return f'The key "{printable(key, _MAX_KEY_SHOWN)}" is given twice (line {line}, column {column}).'


def _find_repeated_key(raw: bytes) -> tuple[str, int] | None:
    """Return the first repeated key of valid JSON, and its place."""
    open_objects: list[set[str]] = []
    string: re.Match[bytes] | None = None
    for token in _TOKEN.finditer(raw):
        match token[0]:
            case b"{":
                open_objects.append(set())
            case b"}":
                open_objects.pop()
            case b":" if string is not None:
                key: str = orjson.loads(string[0])
                if key in open_objects[-1]:
                    return key, string.start()
                open_objects[-1].add(key)
            case _:
                string = token
    return None
