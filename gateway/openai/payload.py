"""The few members of an upstream's JSON that the gateway looks at; all others are skipped without being decoded."""

from __future__ import annotations

import msgspec

_NULL = msgspec.Raw(b"null")
_UNFINISHED = (b'"queued"', b'"in_progress"')


class TopMembers(msgspec.Struct, frozen=True):
    """Members of an object as raw JSON; `null` where there is none."""

    choices: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    type: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL


_decoder = msgspec.json.Decoder(TopMembers)


def top_members(payload: bytes) -> TopMembers | None:
    """None where the payload is not a JSON object (`[DONE]`, say), or is nested past all sense."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return None


def is_unfinished(payload: bytes) -> bool:
    """Whether an answer of the responses route is a promise: the work goes on in the background."""
    if not any(status in payload for status in _UNFINISHED):
        return False
    top = top_members(payload)
    return top is not None and bytes(top.status) in _UNFINISHED


def is_null(value: msgspec.Raw) -> bool:
    return bytes(value) == b"null"
