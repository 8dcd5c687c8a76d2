"""What a request may use besides tokens of text, at most.

By its body: calls of tools, images, seconds, characters.

What a body bounds counts by its bound; of a hosted tool that it names without one, one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.dialects.base import Operation
from gateway.dialects.openai import RequestBody
from gateway.http.multipart import FormBody
from gateway.limits import repeats
from gateway.limits.estimate import whole
from gateway.pricing import Besides

MOST_CALLS = 10_000  # a bound beyond it is a mistake or malice
# Speech is seldom sent in fewer bytes: 32 kbit/s.
BYTES_PER_SECOND = 4_000
# What the largest picture of the best quality comes to, by its maker's table; by quality where a request names one.
IMAGE_TOKENS, IMAGE_TOKENS_BY_QUALITY = 6_240, {"low": 408, "medium": 1_584}
# A minute of speech is some 900 characters, and some 1,500 tokens of sound.
SOUND_TOKENS_PER_CHARACTER = 2
_SOUND_IN_MESSAGES = b'"input_audio"'
_HOSTED = {  # by what a tool's `type` begins with: they end with a date
    "web_search": "web_search",
    "file_search": "file_search",
    "code_interpreter": "code_interpreter",
    "code_execution": "code_interpreter",
    "web_fetch": "web_fetch",
    "image_generation": "image",
}
_OWN = frozenset(("function", "custom"))  # the client's tools, which are most


def besides_of(operation: Operation, body: RequestBody | FormBody) -> Besides:
    """Return the most that the request may use."""
    fields = body.fields
    calls = _calls_by_kind(fields) if "tools" in fields or "web_search_options" in fields else {}
    bound = _bound(fields, "max_tool_calls") if calls else None
    images = max(repeats(fields, ("n",)), calls.pop("image", 0))
    return Besides(
        images=images,
        characters=characters_of(fields),
        audio_seconds=_seconds(operation, body),
        calls=calls,
        most_calls=sum(calls.values()) if bound is None else bound,
        made_tokens=_made_tokens(operation, fields, images),
    )


def characters_of(fields: Mapping[str, Any]) -> int:
    """Count the characters of the request's `input`."""
    given = fields.get("input")
    if given is None:
        return 0
    texts = given if isinstance(given, list) else [given]
    return sum(len(text) for text in texts if isinstance(text, str))


def _calls_by_kind(fields: Mapping[str, Any]) -> dict[str, int]:
    """Add up the calls of tools of one kind."""
    calls: dict[str, int] = {}
    for name, most in _calls(fields):
        calls[name] = calls.get(name, 0) + most
    return calls


def _calls(fields: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield hosted tools, and how often each may be called.

    By their price's component.
    """
    usual = _bound(fields, "max_tool_calls")
    if isinstance(fields.get("web_search_options"), dict):
        yield "web_search", 1
    tools = fields.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind in _OWN:
            continue
        name = _hosted(kind)
        if name is not None:
            own = _bound(tool, "max_uses")
            yield name, own if own is not None else usual if usual is not None else 1


def _hosted(kind: str) -> str | None:
    return next((name for begins, name in _HOSTED.items() if kind.startswith(begins)), None)


def _bound(fields: Mapping[str, Any], name: str) -> int | None:
    """The bound that a field sets; None for what is no number."""
    given = whole(fields.get(name))
    return None if given is None else min(given, MOST_CALLS)


def _seconds(operation: Operation, body: RequestBody | FormBody) -> int:
    """Estimate the seconds of sound in the request, from its size."""
    if isinstance(body, FormBody):
        sound = sum(part.size for part in body.parts if part.is_file) if operation.kind == "transcriptions" else 0
    else:
        sound = body.size * 3 // 4 if _SOUND_IN_MESSAGES in body.raw else 0
    return -(-sound // BYTES_PER_SECOND)


def _made_tokens(operation: Operation, fields: Mapping[str, Any], images: int) -> int:
    """Estimate the tokens of what is made without a bound."""
    if operation.kind == "images":
        quality = fields.get("quality")
        by_quality = IMAGE_TOKENS_BY_QUALITY.get(quality) if isinstance(quality, str) else None
        return images * (IMAGE_TOKENS if by_quality is None else by_quality)
    return characters_of(fields) * SOUND_TOKENS_PER_CHARACTER if operation.kind == "speech" else 0
