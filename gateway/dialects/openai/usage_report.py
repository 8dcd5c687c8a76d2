"""Read the usage that an upstream reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.dialects.base import Usage
from gateway.dialects.openai.payload import UNREADABLE, top_members

_MOST_TOKENS = 10**12  # no answer has more; a sum of such counts still fits 64 bits
_MOST_DIGITS = 13


# What nearly every upstream sends, decoded in one step; anything else is no error but read with more patience.
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class ReportedUsage(msgspec.Struct, gc=False):
    """A `usage` in the words of chat completions or of responses."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def read(self) -> Usage | None:
        """None where it holds no count."""
        prompt = self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens
        completion = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        of_prompt = self.prompt_tokens_details or self.input_tokens_details
        of_completion = self.completion_tokens_details or self.output_tokens_details
        return _usage(
            prompt,
            completion,
            self.total_tokens,
            (of_prompt.cached_tokens or 0) if of_prompt is not None else 0,
            (of_completion.reasoning_tokens or 0) if of_completion is not None else 0,
        )


class _Response(msgspec.Struct):
    usage: ReportedUsage | None = None


class _Payload(msgspec.Struct):
    usage: ReportedUsage | None = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Payload).decode


def usage_of(payload: bytes | Mapping[str, Any]) -> Usage | None:
    """Return the usage in an answer or an event; None without.

    Found under `usage`, or under `response.usage` as the events of the responses route have it; in the words of chat
    completions (`prompt_tokens`) or of responses (`input_tokens`). Counts may be floats or texts of digits. What is no
    number of tokens counts as absent.
    """
    if isinstance(payload, bytes):
        return _usage_in_bytes(payload) if may_bear_usage(payload) else None
    response = payload.get("response")
    return read_report(payload.get("usage")) or read_report(
        response.get("usage") if isinstance(response, dict) else None
    )


def last_usage(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Choose between two usage reports of one answer.

    The later, unless it is empty or all zero.
    """
    return later if later is not None and (earlier is None or later.total_tokens) else earlier


def may_bear_usage(data: bytes) -> bool:
    """Whether an event may bear usage, by a cheap search.

    Upstreams asked for usage put `"usage":null` into every other event.
    """
    mentions = data.count(b'"usage"')
    return mentions > 0 and mentions != data.count(b'"usage":null')


def _usage(prompt: int | None, completion: int | None, total: int | None, cached: int, reasoning: int) -> Usage | None:
    if prompt is completion is total is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    return Usage(prompt, completion, max(total or 0, prompt + completion), cached, reasoning)


def _usage_in_bytes(payload: bytes) -> Usage | None:
    try:
        parsed = _decode(payload)
    except UNREADABLE:  # no JSON, or not as it should be: picked out by hand
        return _usage_in_odd_bytes(payload)
    usage = parsed.usage.read() if parsed.usage is not None else None
    if usage is None and parsed.response is not None and parsed.response.usage is not None:
        return parsed.response.usage.read()
    return usage


def _usage_in_odd_bytes(payload: bytes) -> Usage | None:
    top = top_members(payload)
    return (read_report(decoded(top.usage)) or _usage_in_response(top.response)) if top else None


def _usage_in_response(response: msgspec.Raw) -> Usage | None:
    inner = top_members(bytes(response))
    return read_report(decoded(inner.usage)) if inner else None


def decoded(value: msgspec.Raw) -> object:
    """Decode raw JSON; None where it holds nothing to count."""
    try:
        return msgspec.json.decode(value)
    except UNREADABLE:  # a number or a depth past all bounds: nothing to count
        return None


def read_report(usage: object) -> Usage | None:
    """A report of usage, already decoded; None where it holds no count."""
    if not isinstance(usage, dict):
        return None
    return _usage(
        _first_count(usage, "prompt_tokens", "input_tokens"),
        _first_count(usage, "completion_tokens", "output_tokens"),
        _first_count(usage, "total_tokens"),
        _detail(usage, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        _detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
    )


def _first_count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        count = _count(usage.get(name))
        if count is not None:
            return count
    return None


def _count(value: object) -> int | None:
    """Parse a number of tokens, in whichever JSON form."""
    if type(value) is str:  # of digits; a part of a token, which none has, is let go
        digits = value.strip()
        value = int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else None
    if type(value) is int:  # not isinstance: True is an int as well
        return value if 0 <= value <= _MOST_TOKENS else None
    if type(value) is float:
        return round(value) if 0 <= value <= _MOST_TOKENS else None  # a NaN is in no range
    return None


def _detail(usage: dict[str, Any], holders: tuple[str, str], name: str) -> int:
    for holder in holders:
        details = usage.get(holder)
        if isinstance(details, dict):
            return _first_count(details, name) or 0
    return 0
