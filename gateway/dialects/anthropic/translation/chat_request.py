"""Translate a Messages request into one for chat completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gateway.dialects.anthropic.translation.conversation import THINKING, chat_messages
from gateway.dialects.anthropic.translation.hints import (
    Dropped,
    Json,
    Misshapen,
    Unfaithful,
    a_list,
    an_object,
    placed,
    take_known,
)
from gateway.dialects.anthropic.translation.tools import chat_tool_choice, chat_tools

MAX_TOKENS_FIELD = "max_completion_tokens"
_MOST_STOPS = 4
_HINTS = frozenset(
    (
        "cache_control",
        "context_management",
        "diagnostics",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "top_k",
    )
)
_SAME = frozenset(("stream", "temperature", "top_p"))
# The gateway's own, and what is read elsewhere.
_READ = frozenset(("model", "modelId", "messages", "system", "max_tokens"))
_OUTPUT = frozenset(("effort", "format"))
_FORMAT = frozenset(("type", "schema"))
_LITTLE_THOUGHT, _SOME_THOUGHT = 4_096, 16_384  # tokens; more is much


class ChatRequest(NamedTuple):
    """A request for chat completions, and the hints it left out."""

    fields: Json
    dropped: tuple[str, ...]


def chat_request(
    fields: Mapping[str, Any], *, max_tokens_field: str = MAX_TOKENS_FIELD, reasons: bool = False
) -> ChatRequest:
    """Translate the parsed body of a Messages request.

    `max_tokens_field`: what the model calls the bound of its answer. `reasons`: it takes a `reasoning_effort`.

    Raises NotTranslatable where the model would be asked something else.
    """
    dropped = Dropped()
    chat: Json = {"model": fields["model"]} if isinstance(fields.get("model"), str) else {}
    try:
        chat["messages"] = chat_messages(fields.get("system"), fields.get("messages"), dropped)
        if fields.get("max_tokens") is not None:
            chat[max_tokens_field] = fields["max_tokens"]
        for key, value in fields.items():
            if value is not None and key not in _READ:
                chat |= _settings(key, value, dropped, reasons=reasons)
    except Unfaithful as fault:
        raise fault.refusal() from None
    if "tools" not in chat and chat.get("tool_choice") in ("auto", "none"):  # it says nothing, and upstreams mind
        chat.pop("tool_choice")
        chat.pop("parallel_tool_calls", None)
    return ChatRequest(chat, dropped.names)


def _settings(key: str, value: object, dropped: Dropped, *, reasons: bool) -> Json:
    """Translate one of the request's settings."""
    if key in _SAME:
        return {key: value}
    if key in _HINTS:
        dropped.add(key)
        return {}
    with placed(key):
        if key == THINKING:
            return _thinking(value, dropped, reasons=reasons)
        if (translate := _FIELDS.get(key)) is not None:
            return translate(value, dropped)
        raise Unfaithful("has no counterpart")


def _stops(value: object, _: Dropped) -> Json:
    stops = a_list(value)
    for place, each in enumerate(stops):
        if not isinstance(each, str):
            raise Misshapen("a string", place)
    if len(stops) > _MOST_STOPS:
        raise Unfaithful(f"may hold {_MOST_STOPS} at most")
    return {"stop": stops} if stops else {}


def _tools(value: object, dropped: Dropped) -> Json:
    tools = chat_tools(value, dropped)
    return {"tools": tools} if tools else {}


def _output_config(value: object, dropped: Dropped) -> Json:
    config = an_object(value)
    take_known(config, _OUTPUT, dropped)
    if config.get("effort") is not None:
        dropped.add("output_config.effort")
    if config.get("format") is None:
        return {}
    with placed("format"):
        return _response_format(config["format"], dropped)


def _response_format(value: object, dropped: Dropped) -> Json:
    found = an_object(value)
    take_known(found, _FORMAT, dropped)
    if found.get("type") != "json_schema":
        raise Unfaithful("must be json_schema", "type")
    schema = an_object(found.get("schema"), "schema")
    json_schema = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


def _thinking(value: object, dropped: Dropped, *, reasons: bool) -> Json:
    """Translate a budget of thought into an effort."""
    found = an_object(value)
    kind = found.get("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise Misshapen("enabled, adaptive or disabled", "type")
    # Models differ in how reasoning is switched off, where it can be at all.
    if not reasons or kind == "disabled":
        dropped.add(THINKING)
        return {}
    budget = found.get("budget_tokens")
    if not isinstance(budget, int | float):
        return {"reasoning_effort": "medium"}
    if budget < _LITTLE_THOUGHT:
        return {"reasoning_effort": "low"}
    return {"reasoning_effort": "medium" if budget < _SOME_THOUGHT else "high"}


_FIELDS: dict[str, Callable[[object, Dropped], Json]] = {
    "stop_sequences": _stops,
    "tools": _tools,
    "tool_choice": chat_tool_choice,
    "output_config": _output_config,
    "output_format": _response_format,
}
