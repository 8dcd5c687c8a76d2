"""What an upstream says it has used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.openai.payload import top_members

_MOST_TOKENS = 10**12  # no answer has more; a sum of such counts still fits 64 bits


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer. `cached_tokens` are part of the prompt's, `reasoning_tokens` part of the completion's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


def usage_of(payload: bytes | Mapping[str, Any]) -> Usage | None:
    """The usage in a whole JSON answer or in an event's data; None where none is told.

    Found under `usage`, or under `response.usage` as the events of the responses route have it; in the words of chat
    completions (`prompt_tokens`) or of responses (`input_tokens`). What is no number of tokens counts as absent.
    """
    holder = _holder(payload) if isinstance(payload, bytes) else payload
    for source in (holder, _mapping(holder.get("response"))):
        usage = _read(_mapping(source.get("usage")))
        if usage is not None:
            return usage
    return None


def _holder(payload: bytes) -> Mapping[str, Any]:
    """The two members of the payload that matter, decoded; the others are skipped, however large."""
    top = top_members(payload) if may_bear_usage(payload) else None
    if top is None:
        return {}
    try:
        return {name: msgspec.json.decode(value) for name, value in (("usage", top.usage), ("response", top.response))}
    except msgspec.MsgspecError:  # a number past all bounds: nothing to count
        return {}


def may_bear_usage(data: bytes) -> bool:
    """A cheap look at an event or a payload. Upstreams asked for usage put `"usage":null` into every other event."""
    mentions = data.count(b'"usage"')
    return mentions > 0 and mentions != data.count(b'"usage":null')


def _read(usage: Mapping[str, Any]) -> Usage | None:
    prompt = _first_count(usage, "prompt_tokens", "input_tokens")
    completion = _first_count(usage, "completion_tokens", "output_tokens")
    total = _count(usage.get("total_tokens"))
    if prompt is completion is total is None:
        return None
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
        cached_tokens=_detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details"),
        reasoning_tokens=_detail(usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
    )


def _detail(usage: Mapping[str, Any], name: str, *holders: str) -> int:
    counts = (_count(_mapping(usage.get(holder)).get(name)) for holder in holders)
    return next((count for count in counts if count is not None), 0)


def _first_count(usage: Mapping[str, Any], *names: str) -> int | None:
    counts = (_count(usage.get(name)) for name in names)
    return next((count for count in counts if count is not None), None)


def _count(value: object) -> int | None:
    """`value` where it is a number of tokens; `type`, not `isinstance`, because True is an int."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
