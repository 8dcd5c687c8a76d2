"""Upstreams' refusals: relay them within a stream, compare them."""

from __future__ import annotations

import re
from typing import Any

import orjson

_MEMBERS = ("message", "type", "param", "code")
_TYPE = "invalid_request_error"
# Two upstreams, or one that is asked twice, never give the same ids and times.
_ID_MEMBER = re.compile(
    rb'\\?"(?:[A-Za-z_.-]{0,40}[iI][dD]|time(?:stamp)?|date|created(?:_at)?)\\?": ?(?:\\?"[^"\\]*\\?"|[0-9.]+)'
)
_LONG_WORD = re.compile(rb"[\w:.+-]{8,}")
_DIGITS = b"0123456789"


def refusal_body(message: str) -> bytes:
    """Return a body for a refusal that cannot be shown."""
    return orjson.dumps({"error": {"message": message, "type": _TYPE, "param": None, "code": "upstream_error"}})


def refusal_event(body: bytes, *, named: bool) -> bytes:
    """Return an upstream's refusal as a stream's only event.

    In its own values.

    `named`: in the shape in which a stream on the responses route ends.
    """
    error = error_members(body)
    if named:
        return b"event: error\ndata: " + orjson.dumps({"type": "error", "sequence_number": 0, "error": error}) + b"\n\n"
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def error_words(body: bytes) -> bytes | None:
    """Return a JSON error without ids and times, to compare.

    None where it is no object or array.
    """
    try:
        parsed = orjson.loads(body)
        if not isinstance(parsed, dict | list):
            return None
        text = orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return _LONG_WORD.sub(_without_number, _ID_MEMBER.sub(b"", text))


def _without_number(word: re.Match[bytes]) -> bytes:
    text = word.group()
    return text if text.translate(None, _DIGITS) == text else b"#"


def error_members(body: bytes) -> dict[str, Any]:
    """`{message, type, param, code}`; what has no such shape becomes the message."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        error = {"message": body.decode("utf-8", "replace")}
    values = {name: error.get(name) for name in _MEMBERS}
    return {name: None if isinstance(value, dict | list) else value for name, value in values.items()} | {
        "type": values["type"] if isinstance(values["type"], str) else _TYPE
    }
