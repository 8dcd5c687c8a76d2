"""Translate a conversation: system, messages and their content blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway.dialects.anthropic.translation.hints import (
    Dropped,
    Json,
    Misshapen,
    Unfaithful,
    a_list,
    a_text,
    an_object,
    take_known,
)

THINKING = "thinking"
_THOUGHTS = ("thinking", "redacted_thinking")
_MESSAGE = frozenset(("role", "content"))
_TEXT = frozenset(("type", "text", "citations"))
_IMAGE = frozenset(("type", "source"))
_CALL = frozenset(("type", "id", "name", "input", "caller"))
_RESULT = frozenset(("type", "tool_use_id", "content", "is_error"))
_ERROR_MARK = "Error: "  # chat completions have no field that says it


def chat_messages(system: object, messages: object, dropped: Dropped) -> list[Json]:
    """Translate `system` and `messages`."""
    chat: list[Json] = []
    if system is not None:
        try:
            chat += _system(system, dropped)
        except Unfaithful as fault:
            raise fault.within("system") from None
    given = a_list(messages, "messages")
    role = None
    place = -1
    try:
        for message in given:
            place += 1
            each = an_object(message)
            take_known(each, _MESSAGE, dropped)
            role = each.get("role")
            chat += _said(role, each.get("content"), dropped)
        if role == "assistant":
            raise Unfaithful("is to be gone on with, which has no counterpart")
    except Unfaithful as fault:
        raise fault.within("messages", place) from None
    return chat


def _said(role: object, content: object, dropped: Dropped) -> list[Json]:
    translate = _ROLES.get(role) if isinstance(role, str) else None
    if translate is None:
        raise Misshapen("user, assistant or system", "role")
    try:
        return translate(content, dropped)
    except Unfaithful as fault:
        raise fault.within("content") from None


def _system(content: object, dropped: Dropped) -> list[Json]:
    if isinstance(content, str):
        return [{"role": "system", "content": content}]
    parts: list[Json] = []
    _each(content, lambda block: parts.append(_text(block, dropped)))
    return [{"role": "system", "content": _content(parts)}] if parts else []


def _user(content: object, dropped: Dropped) -> list[Json]:
    """Results of tools come first, then their images, then the rest.

    Each call must be answered before anybody else says something.
    """
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    pictures: list[Json] = []
    parts: list[Json] = []

    def take(block: Json) -> None:
        if block.get("type") == "tool_result":
            results.append(_result(block, pictures, dropped))
        else:
            parts.append(_part(block, dropped))

    _each(content, take)
    if pictures or parts or not results:
        results.append({"role": "user", "content": _content(pictures + parts)})
    return results


def _assistant(content: object, dropped: Dropped) -> list[Json]:
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    parts: list[Json] = []
    calls: list[Json] = []

    def take(block: Json) -> None:
        kind = block.get("type")
        if kind in _THOUGHTS:
            dropped.add(THINKING)
        elif kind == "tool_use":
            calls.append(_call(block, dropped))
        else:
            parts.append(_text(block, dropped))

    _each(content, take)
    message: Json = {"role": "assistant", "content": _content(parts) if parts or not calls else None}
    return [message | {"tool_calls": calls} if calls else message]


_ROLES: dict[str, Callable[[object, Dropped], list[Json]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
}


def _each(content: object, take: Callable[[Json], None]) -> None:
    """Take each content block; what is refused gets its place."""
    place = -1
    blocks = a_list(content)
    try:
        for block in blocks:
            place += 1
            take(an_object(block))
    except Unfaithful as fault:
        raise fault.within(place) from None


def _content(parts: list[Json]) -> str | list[Json]:
    """Spell a lone text as a string, which every upstream takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _part(block: Json, dropped: Dropped) -> Json:
    return _image(block, dropped) if block.get("type") == "image" else _text(block, dropped)


def _text(block: Json, dropped: Dropped) -> Json:
    if block.get("type") != "text":
        raise Unfaithful("names a content block that has no counterpart", "type")
    take_known(block, _TEXT, dropped)
    if block.get("citations"):
        raise Unfaithful("have no counterpart", "citations")
    return {"type": "text", "text": a_text(block, "text")}


def _image(block: Json, dropped: Dropped) -> Json:
    take_known(block, _IMAGE, dropped)
    source = an_object(block.get("source"), "source")
    try:
        return {"type": "image_url", "image_url": {"url": _url(source)}}
    except Unfaithful as fault:
        raise fault.within("source") from None


def _url(source: Json) -> str:
    kind = source.get("type")
    if kind == "base64":
        return f"data:{a_text(source, 'media_type')};base64,{a_text(source, 'data')}"
    if kind == "url":
        return a_text(source, "url")
    raise Unfaithful("is neither an image's bytes nor its URL", "file_id" if "file_id" in source else "type")


def _call(block: Json, dropped: Dropped) -> Json:
    take_known(block, _CALL, dropped)
    caller: Any = block.get("caller")
    if caller is not None and (not isinstance(caller, dict) or caller.get("type") != "direct"):
        raise Unfaithful("is the provider's own code, which has no counterpart", "caller")
    arguments = orjson.dumps(an_object(block.get("input"), "input")).decode()
    function = {"name": a_text(block, "name"), "arguments": arguments}
    return {"id": a_text(block, "id"), "type": "function", "function": function}


def _result(block: Json, pictures: list[Json], dropped: Dropped) -> Json:
    """Translate a tool's result; its images are added to `pictures`."""
    take_known(block, _RESULT, dropped)
    content = block.get("content")
    texts: list[Json] = []

    def take(inner: Json) -> None:
        part = _part(inner, dropped)
        (texts if part["type"] == "text" else pictures).append(part)

    if isinstance(content, str):
        texts.append({"type": "text", "text": content})
    elif content is not None:
        try:
            _each(content, take)
        except Unfaithful as fault:
            raise fault.within("content") from None
    if block.get("is_error") is True:
        texts = _marked_as_error(texts)
    return {"role": "tool", "tool_call_id": a_text(block, "tool_use_id"), "content": _content(texts)}


def _marked_as_error(texts: list[Json]) -> list[Json]:
    first, rest = (texts[0]["text"], texts[1:]) if texts else ("", [])
    return [{"type": "text", "text": f"{_ERROR_MARK}{first}"}, *rest]
