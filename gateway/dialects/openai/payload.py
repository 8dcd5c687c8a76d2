"""Decode the few members of upstream JSON that the gateway reads.

All others are skipped without being decoded.
"""

from __future__ import annotations

import msgspec

# No JSON, nested past all sense, or with bytes in its texts that are no UTF-8.
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_NULL = msgspec.Raw(b"null")


class TopMembers(msgspec.Struct, frozen=True):
    """Members of an object as raw JSON; `null` where there is none."""

    choices: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    service_tier: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    type: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL


_decoder = msgspec.json.Decoder(TopMembers)


def top_members(payload: bytes) -> TopMembers | None:
    """Return the members, None for no JSON object.

    `[DONE]`, say; or where it is nested past all sense.
    """
    try:
        return _decoder.decode(payload)
    except UNREADABLE:
        return None


def is_null(value: msgspec.Raw) -> bool:
    return bytes(value) == b"null"
