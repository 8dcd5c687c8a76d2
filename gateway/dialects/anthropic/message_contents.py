"""Read usage, text and failure of a message or an event."""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec

from gateway.dialects.anthropic.message_usage import decoded_report, joined_usage, read_message_report
from gateway.dialects.base import Contents, Usage, UsageReader
from gateway.dialects.event_batch import Batches
from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.payload import UNREADABLE, TopMembers, top_members

_NOTHING = msgspec.Raw(b"null")
_NO_ERROR = frozenset((b"null", b"{}", b"[]", b'""', b"false"))
_NO_INPUT = frozenset((b"null", b"{}", b"{ }"))


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Block(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    input: msgspec.Raw = _NOTHING  # of a tool


class _Message(msgspec.Struct, gc=False):
    usage: msgspec.Raw = _NOTHING
    content: list[_Block] | None = None


class _Payload(msgspec.Struct, gc=False):
    """An event's data, or a message."""

    type: str | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    content: list[_Block] | None = None
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


_decode = msgspec.json.Decoder(_Payload).decode
message_scan = partial(JsonScan, b'"usage"', read_message_report)


def contents_of_message(payload: bytes) -> Contents | None:
    """Read an event's data or a whole message.

    None where it is no JSON object.
    """
    try:
        parsed = _decode(payload)
    except UNREADABLE:
        return _contents_of_odd(payload)
    contents = Contents()
    if parsed.delta is not None:
        delta = parsed.delta
        contents.text_bytes = _size(delta.text) + _size(delta.thinking) + _size(delta.partial_json)
    elif parsed.content_block is not None:
        contents.text_bytes = _text_of([parsed.content_block])
    elif parsed.content:
        contents.whole_text_bytes = _text_of(parsed.content)
    usage = parsed.usage
    if parsed.message is not None:
        usage = parsed.message.usage if usage is _NOTHING else usage
        contents.text_bytes += _text_of(parsed.message.content or [])
    contents.usage = _usage_in(usage)
    if parsed.type == "error" or parsed.error is not _NOTHING:
        contents.failed = parsed.type == "error" or bytes(parsed.error).translate(None, b" \t\r\n") not in _NO_ERROR
    return contents


def _usage_in(report: msgspec.Raw) -> Usage | None:
    return None if report is _NOTHING else read_message_report(decoded_report(report))


def _text_of(blocks: list[_Block]) -> int:
    size = 0
    for block in blocks:
        size += _size(block.text) + _size(block.thinking)
        if block.input is not _NOTHING and (arguments := bytes(block.input)) not in _NO_INPUT:
            size += len(arguments)
    return size


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _contents_of_odd(payload: bytes) -> Contents | None:
    """Read JSON of odd types, as far as it goes."""
    top: TopMembers | None = top_members(payload)
    if top is None:
        return None
    scan = message_scan()
    scan.feed(payload)
    scan.end()
    error = bytes(top.error).translate(None, b" \t\r\n")
    return Contents(scan.usage, scan.text_bytes, failed=bytes(top.type) == b'"error"' or error not in _NO_ERROR)


class _TextOfDelta(msgspec.Struct, gc=False):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class _BlockDelta(msgspec.Struct, gc=False):
    """The event of which nothing counts but its text."""

    type: Literal["content_block_delta"]
    delta: _TextOfDelta
    content_block: None = None
    message: None = None
    content: None = None
    usage: None = None
    error: None = None


def _text_of_deltas(events: list[_BlockDelta]) -> Contents:
    deltas = [event.delta for event in events]
    return Contents(text_bytes=_size("".join([each.text + each.thinking + each.partial_json for each in deltas])))


_DELTAS = Batches(b"event: content_block_delta\ndata: ", (_BlockDelta, _text_of_deltas))
MESSAGES_READER = UsageReader(contents=contents_of_message, scan=message_scan, texts=_DELTAS.read, joined=joined_usage)
