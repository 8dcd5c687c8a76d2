"""Read what both a chat completion and its chunks have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from gateway.dialects.anthropic.translation.hints import Json
from gateway.types import Usage

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TOLD_STOPS = ("stop_reason", "matched_stop")  # where vLLM and SGLang say which sequence ended the text


class UntranslatableAnswer(Exception):
    """What an upstream sent is no chat completion; the text says why."""


def parsed(data: bytes) -> Json:
    """Parse an event's data or a body.

    Raises UntranslatableAnswer where it is no object.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UntranslatableAnswer("it is no JSON") from None
    if not isinstance(found, dict):
        raise UntranslatableAnswer("it is no JSON object")
    return found


def choice_in(found: Json) -> Json | None:
    """Return the first choice; only one was asked for."""
    choices = found.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def text_in(message: Json) -> str:
    """Return the text of a message or a delta.

    What it refuses with is a text, too.
    """
    content, refusal = message.get("content"), message.get("refusal")
    text = content if isinstance(content, str) else _joined(content)
    return text + refusal if isinstance(refusal, str) else text


def reasoning_in(message: Json) -> str:
    """Return the thoughts in a delta, in whichever upstream's spelling."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(thought := message.get(name), str) and thought:
            return thought
    content = message.get("content")
    return str(content) if isinstance(content, list) and content else ""


def calls_in(message: Json) -> list[Json]:
    calls = message.get("tool_calls")
    return [each for each in calls if isinstance(each, dict)] if isinstance(calls, list) else []


def function_of(call: Json) -> Json:
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def arguments_of(text: str) -> Json | None:
    """Parse a call's arguments; None where they are no whole object."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def stop_of(choice: Json, stops: Collection[str], *, calls: bool, refuses: bool) -> tuple[str, str | None]:
    """Return stop reason and stop sequence of a choice that has ended.

    `calls`: it calls tools, which some upstreams end with `stop`. `refuses`: it said why it does not answer.
    """
    finish = choice.get("finish_reason")
    reason = _STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"
    if reason != "end_turn":
        return reason, None
    if refuses:
        return "refusal", None
    if calls:
        return "tool_use", None
    for name in _TOLD_STOPS:
        told = choice.get(name)
        if isinstance(told, str) and told in stops:
            return "stop_sequence", told
    return reason, None


def usage_fields(usage: Usage) -> dict[str, int]:
    """Spell usage in Anthropic's words.

    Cached and written tokens stand beside the others, not within them.
    """
    details = usage.details
    written = (
        details.cache_write_tokens + details.cache_write_1h_tokens + details.cache_write_12h_tokens if details else 0
    )
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def estimated_usage(prompt_tokens: int, characters: int) -> Usage:
    """Estimate the usage of an answer that reports none.

    Four characters are a token.
    """
    answer = -(-characters // 4)
    return Usage(prompt_tokens, answer, prompt_tokens + answer)


def message_id(found: Json, otherwise: str) -> str:
    """Return the upstream's id in Anthropic's form."""
    given = found.get("id")
    return "msg_" + (given if isinstance(given, str) and given else otherwise).removeprefix("chatcmpl-")


def model_in(found: Json, otherwise: str) -> str:
    given = found.get("model")
    return given if isinstance(given, str) and given else otherwise


def _joined(content: object) -> str:
    """Join the texts among parts, as some upstreams give a content."""
    parts: list[Any] = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join([text for text in texts if isinstance(text, str)])
