"""Read an odd report of usage with patience.

What nearly every upstream sends, `contents` reads by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, overload

import msgspec

from gateway.dialects.base import Usage
from gateway.dialects.base import last_usage as last_usage
from gateway.dialects.openai.payload import UNREADABLE, top_members
from gateway.dialects.token_counts import USUAL_TIERS, Counts

MOST_TOKENS = 10**12  # no answer has more; a sum of such counts still fits 64 bits
_MOST_DIGITS = 13
_MOST_SECONDS = 10**7
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,20})?")
_CACHE_NAMES = frozenset(("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"))


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


def may_bear_usage(data: bytes) -> bool:
    """Whether an event may bear usage, by a cheap search.

    Upstreams asked for usage put `"usage":null` into every other event.
    """
    mentions = data.count(b'"usage"')
    return mentions > 0 and mentions != data.count(b'"usage":null')


def _usage_in_bytes(payload: bytes) -> Usage | None:
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
    prompt = _first_count(usage, "prompt_tokens", "input_tokens")
    of_prompt = _holder(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    of_completion = _holder(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    crossing, tools = _holder(of_prompt, "cached_tokens_details"), _holder(usage, "server_tool_use")
    counts = Counts(
        prompt=prompt,
        completion=_first_count(usage, "completion_tokens", "output_tokens"),
        total=_number(usage, "total_tokens", None),
        cached=_cached(usage, of_prompt, crossing),
        cached_audio=_number(crossing, "audio_tokens"),
        cached_image=_number(crossing, "image_tokens"),
        cache_write=_number(of_prompt, "cache_write_tokens"),
        audio_input=_number(of_prompt, "audio_tokens"),
        image_input=_number(of_prompt, "image_tokens"),
        reasoning=_number(of_completion, "reasoning_tokens"),
        audio_output=_number(of_completion, "audio_tokens"),
        image_output=_number(of_completion, "image_tokens"),
        audio_seconds=seconds_of(usage.get("seconds")) or seconds_of(usage.get("prompt_audio_seconds")),
        web_search=_number(tools, "web_search_requests"),
        file_search=_number(tools, "file_search_requests"),
        code_interpreter=_number(tools, "code_execution_requests"),
        web_fetch=_number(tools, "web_fetch_requests"),
        service_tier=tier_of(usage.get("service_tier"), usage.get("speed")),
    )
    if not _is_plain_cache(usage):
        _add_cache(counts, usage)
    return counts.usage()


def tier_of(*tiers: object) -> str | None:
    """Return the first that is not the usual one."""
    return next((tier for tier in tiers if isinstance(tier, str) and tier not in USUAL_TIERS), None)


def _is_plain_cache(usage: dict[str, Any]) -> bool:
    return _CACHE_NAMES.isdisjoint(usage)


def _add_cache(counts: Counts, usage: dict[str, Any]) -> None:
    """Add what Anthropic's names say: beside `input_tokens`, within `prompt_tokens`."""
    read, lives = _number(usage, "cache_read_input_tokens"), _holder(usage, "cache_creation")
    counts.cache_write_1h = _number(lives, "ephemeral_1h_input_tokens")
    written = max(
        _number(usage, "cache_creation_input_tokens"),
        counts.cache_write_1h + _number(lives, "ephemeral_5m_input_tokens"),
    )
    counts.cache_write = max(counts.cache_write, written - counts.cache_write_1h)
    counts.cached = max(counts.cached, read)
    if counts.prompt is not None and _count(usage.get("prompt_tokens")) is None:
        counts.prompt += read + written


def _cached(usage: dict[str, Any], of_prompt: dict[str, Any], crossing: dict[str, Any]) -> int:
    for holder, name in ((of_prompt, "cached_tokens"), (usage, "prompt_cache_hit_tokens"), (usage, "cached_tokens")):
        count = _count(holder.get(name))
        if count:
            return count
    return sum(_number(crossing, name) for name in ("text_tokens", "audio_tokens", "image_tokens"))


def _holder(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((found for name in names if isinstance(found := usage.get(name), dict)), {})


@overload
def _number(usage: dict[str, Any], name: str) -> int: ...
@overload
def _number(usage: dict[str, Any], name: str, absent: None) -> int | None: ...
def _number(usage: dict[str, Any], name: str, absent: int | None = 0) -> int | None:
    count = _count(usage.get(name))
    return absent if count is None else count


def _first_count(usage: dict[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _count(value: object) -> int | None:
    """Parse a number of tokens, in whichever JSON form."""
    if type(value) is str:  # of digits; a part of a token, which none has, is let go
        digits = value.strip()
        value = int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else None
    if type(value) is int:  # not isinstance: True is an int as well
        return value if 0 <= value <= MOST_TOKENS else None
    if type(value) is float:
        return round(value) if 0 <= value <= MOST_TOKENS else None  # a NaN is in no range
    return None


def seconds_of(value: object) -> float:
    """Parse seconds of sound; 0 where there are none."""
    if type(value) is str and _DECIMAL.fullmatch(stripped := value.strip()):
        value = float(stripped)
    if type(value) is int or type(value) is float:
        return float(value) if 0 < value <= _MOST_SECONDS else 0.0
    return 0.0
