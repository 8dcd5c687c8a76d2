"""Classify the events of a stream: content, failure, end, usage alone."""

from __future__ import annotations

import enum
import re
from typing import Any

import msgspec

from gateway.dialects.openai.payload import UNREADABLE, TopMembers, is_null, top_members

_ERROR_NAMES = (b"error", b"response.failed")
_ERROR_TYPES = (b'"error"', b'"response.failed"')
_SIGNS_OF_LIFE = (b"ping", b"keepalive")
_SIGN_OF_LIFE_TYPES = (b'"ping"', b'"keepalive"')
_PREPARATIONS = (b"response.created", b"response.queued", b"response.in_progress")
_PREPARATION_TYPES = (b'"response.created"', b'"response.queued"', b'"response.in_progress"')

_BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
_LAST_NAMES = (
    b"response.completed",
    b"response.failed",
    b"response.incomplete",
    b"message_stop",
    b"image_generation.completed",
    b"image_edit.completed",
    b"transcript.text.done",
    b"speech.audio.done",
)
_LAST_TYPES = tuple(b'"' + name + b'"' for name in _LAST_NAMES)
_LAST_NAME_AT_THE_START = re.compile(
    rb'(?:event: ?|"type"[ \t\r\n]*:[ \t\r\n]*")(?:' + b"|".join(map(re.escape, _LAST_NAMES)) + rb')["\r\n]'
)
CHAT_END_SIGNS = (DONE,)
END_SIGNS = (DONE, b"complete", b".failed", b".done", b"message_stop")
"""No event is a stream's last that has none of these in it: a cheap look comes before the close one."""

_FINISHED = re.compile(rb'"finish_reason"[ \t\r\n]*:[ \t\r\n]*"')
_NUMBER = re.compile(rb'"sequence_number"[ \t\r\n]*:[ \t\r\n]*([0-9]{1,15})(?![0-9.eE])')


class Weight(enum.Enum):
    """How an event counts while a stream's first event is awaited."""

    NONE = "none"  # a sign of life
    PREPARATION = "preparation"  # the upstream has taken the request on, and has said nothing yet
    ERROR = "error"
    EVENT = "event"


def weight_of(payload: bytes, name: bytes | None) -> Weight:
    """What an event with this data and name counts for."""
    if name in _ERROR_NAMES:
        return Weight.ERROR if payload.strip() else Weight.NONE
    # A comment with `data:` before it is how some upstreams spell a sign of life.
    if name in _SIGNS_OF_LIFE or not payload.strip() or payload.startswith(b":"):
        return Weight.NONE
    top = top_members(payload)
    if top is None:
        return Weight.PREPARATION if name in _PREPARATIONS else Weight.EVENT
    kind = bytes(top.type)
    if _is_error(top):
        return Weight.ERROR
    if kind in _SIGN_OF_LIFE_TYPES:
        return Weight.NONE
    return Weight.PREPARATION if name in _PREPARATIONS or kind in _PREPARATION_TYPES else Weight.EVENT


def is_error_payload(payload: bytes, name: bytes | None) -> bool:
    """Whether an event with this data and name is an error."""
    if name in _ERROR_NAMES:
        return True
    top = top_members(payload)
    return top is not None and _is_error(top)


def is_error_body(body: bytes) -> bool:
    """Whether JSON as a whole is an error, in a stream's place.

    A response that has failed is an answer: it bears its `error` beside all that it has.
    """
    return is_error_payload(body, None) and not _is_response(body)


def is_last(payload: bytes, name: bytes | None) -> bool:
    """Whether a stream is whole with this event.

    Whatever becomes of its connection.
    """
    if name in _LAST_NAMES or payload.strip() == DONE:
        return True
    top = top_members(payload)
    return top is not None and bytes(top.type) in _LAST_TYPES


def begins_last(start: bytes) -> bool:
    """Whether an event's start shows that a stream is whole."""
    return _LAST_NAME_AT_THE_START.search(start) is not None


def has_finish_reason(event: bytes) -> bool:
    """Whether the event has a `finish_reason`.

    In texts the quotes would be escaped.
    """
    return _FINISHED.search(event) is not None


def sequence_number(event: bytes) -> int | None:
    """The event's number, as the responses route counts them."""
    found = _NUMBER.search(event)
    return int(found[1]) if found is not None else None


def is_usage_only(event: bytes, *, finished: bool) -> bool:
    """Whether an event's data is usage and nothing else.

    A `usage` that is not null; no choices, or empty ones at the end.

    `finished`: a `finish_reason` came before it. Behind that, some upstreams put an empty delta beside the usage.
    """
    if event.find(b'"usage"') < 0:
        return False
    top = top_members(_json_of(event))
    if top is None or not bytes(top.usage).startswith(b"{") or not is_null(top.error):
        return False
    choices = bytes(top.choices)
    if choices in _NO_CHOICES or choices.translate(None, b" \t\r\n") in _NO_CHOICES:
        return True
    return finished and _are_empty(top.choices)


def whole_as_events(body: bytes) -> bytes | None:
    """Return a whole JSON answer as a stream; None for others.

    As its only event, and its end.
    """
    try:
        _any_json(body.removeprefix(_BOM))
    except UNREADABLE:
        return None
    # Line ends can only stand between JSON's tokens.
    return b"data: " + b" ".join(body.removeprefix(_BOM).strip().splitlines()) + b"\n\ndata: [DONE]\n\n"


class _Named(msgspec.Struct):
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None


_NO_CHOICES = (b"[]", b"null")
_any_json = msgspec.json.Decoder(msgspec.Raw).decode
_named = msgspec.json.Decoder(_Named).decode
_choices = msgspec.json.Decoder(list[_Choice]).decode


def _are_empty(choices: msgspec.Raw) -> bool:
    try:
        return not any(map(_has_content, _choices(choices)))
    except UNREADABLE:
        return False


def _has_content(choice: _Choice) -> bool:
    values = [value for name, value in (choice.delta or {}).items() if name != "role"]
    return bool(choice.text or choice.finish_reason or any(value not in (None, "", [], {}) for value in values))


def _is_response(body: bytes) -> bool:
    try:
        return bytes(_named(body).object) == b'"response"'
    except UNREADABLE:
        return False


def _is_error(top: TopMembers) -> bool:
    return not is_null(top.error) or bytes(top.type) in _ERROR_TYPES


def _json_of(event: bytes) -> bytes:
    """Return the JSON in an event's data lines.

    JSON may begin with blanks, so the one after the colon may stay.
    """
    if event.startswith(b"data:") and event.find(b"\n") >= len(event) - 2:  # one line, as nearly every event is
        return event[5:]
    return b"\n".join([line[5:] for line in event.splitlines() if line.startswith(b"data:")])
