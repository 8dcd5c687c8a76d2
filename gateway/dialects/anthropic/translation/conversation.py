"""Translate a conversation: system, messages and their content blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway.dialects.anthropic.translation.hints import (
    Dropped,
    Json,
    Path,
    a_list,
    a_text,
    an_object,
    not_translatable,
    take_known,
    unlike,
)

THINKING = "thinking"
_MESSAGE = frozenset(("role", "content"))
_TEXT = frozenset(("type", "text", "citations"))
_IMAGE = frozenset(("type", "source"))
_CALL = frozenset(("type", "id", "name", "input", "caller"))
_RESULT = frozenset(("type", "tool_use_id", "content", "is_error"))
_ERROR_MARK = "Error: "  # chat completions have no field that says it


def chat_messages(system: object, messages: object, dropped: Dropped) -> list[Json]:
    """Translate `system` and `messages`. Raises NotTranslatable."""
    found = a_list(messages, ("messages",))
    chat: list[Json] = []
    if system is not None:
        chat += _system(system, ("system",), dropped)
    last = None
    for place, message in enumerate(found):
        path = ("messages", place)
        each = an_object(message, path)
        take_known(each, path, _MESSAGE, dropped)
        last = each.get("role")
        translate = _ROLES.get(last) if isinstance(last, str) else None
        if translate is None:
            raise unlike((*path, "role"), "user, assistant or system")
        chat += translate(each.get("content"), (*path, "content"), dropped)
    if last == "assistant":
        path = ("messages", len(found) - 1)
        raise not_translatable(path, "a last message of the assistant's is to be gone on with")
    return chat


def _system(content: object, path: Path, dropped: Dropped) -> list[Json]:
    if isinstance(content, str):
        return [{"role": "system", "content": content}]
    parts = [_text(each, place, dropped) for each, place in _blocks(content, path)]
    return [{"role": "system", "content": _content(parts)}] if parts else []


def _user(content: object, path: Path, dropped: Dropped) -> list[Json]:
    """Results of tools come first, then their images, then the rest.

    Each call must be answered before anybody else says something.
    """
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    pictures: list[Json] = []
    parts: list[Json] = []
    for block, place in _blocks(content, path):
        if block.get("type") == "tool_result":
            results.append(_result(block, place, pictures, dropped))
        else:
            parts.append(_part(block, place, dropped))
    if pictures or parts or not results:
        results.append({"role": "user", "content": _content(pictures + parts)})
    return results


def _assistant(content: object, path: Path, dropped: Dropped) -> list[Json]:
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    parts: list[Json] = []
    calls: list[Json] = []
    for block, place in _blocks(content, path):
        kind = block.get("type")
        if kind in ("thinking", "redacted_thinking"):
            dropped.add(THINKING)
        elif kind == "tool_use":
            calls.append(_call(block, place, dropped))
        else:
            parts.append(_text(block, place, dropped))
    message: Json = {"role": "assistant", "content": _content(parts) if parts or not calls else None}
    return [message | {"tool_calls": calls} if calls else message]


_ROLES: dict[str, Callable[[object, Path, Dropped], list[Json]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
}


def _blocks(content: object, path: Path) -> list[tuple[Json, Path]]:
    found = enumerate(a_list(content, path))
    return [(an_object(block, (*path, place)), (*path, place)) for place, block in found]


def _content(parts: list[Json]) -> str | list[Json]:
    """Spell a lone text as a string, which every upstream takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _part(block: Json, path: Path, dropped: Dropped) -> Json:
    return _image(block, path, dropped) if block.get("type") == "image" else _text(block, path, dropped)


def _text(block: Json, path: Path, dropped: Dropped) -> Json:
    if block.get("type") != "text":
        raise not_translatable((*path, "type"), "a content block of this type has no counterpart here")
    take_known(block, path, _TEXT, dropped)
    if block.get("citations"):
        raise not_translatable((*path, "citations"), "citations have no counterpart")
    return {"type": "text", "text": a_text(block.get("text"), (*path, "text"))}


def _image(block: Json, path: Path, dropped: Dropped) -> Json:
    take_known(block, path, _IMAGE, dropped)
    path = (*path, "source")
    source = an_object(block.get("source"), path)
    kind = source.get("type")
    if kind == "base64":
        media_type = a_text(source.get("media_type"), (*path, "media_type"))
        url = f"data:{media_type};base64,{a_text(source.get('data'), (*path, 'data'))}"
    elif kind == "url":
        url = a_text(source.get("url"), (*path, "url"))
    else:
        where = "file_id" if "file_id" in source else "type"
        raise not_translatable((*path, where), "an image is given there by its bytes or its URL")
    return {"type": "image_url", "image_url": {"url": url}}


def _call(block: Json, path: Path, dropped: Dropped) -> Json:
    take_known(block, path, _CALL, dropped)
    caller: Any = block.get("caller")
    if caller is not None and (not isinstance(caller, dict) or caller.get("type") != "direct"):
        raise not_translatable((*path, "caller"), "a call by the provider's own code has no counterpart")
    arguments = orjson.dumps(an_object(block.get("input"), (*path, "input"))).decode()
    name = a_text(block.get("name"), (*path, "name"))
    return {
        "id": a_text(block.get("id"), (*path, "id")),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _result(block: Json, path: Path, pictures: list[Json], dropped: Dropped) -> Json:
    """Translate a tool's result; its images are added to `pictures`."""
    take_known(block, path, _RESULT, dropped)
    content = block.get("content")
    texts: list[Json] = []
    if isinstance(content, str):
        texts.append({"type": "text", "text": content})
    elif content is not None:
        for each, place in _blocks(content, (*path, "content")):
            part = _part(each, place, dropped)
            (texts if part["type"] == "text" else pictures).append(part)
    if block.get("is_error") is True:
        texts = _marked_as_error(texts)
    call = a_text(block.get("tool_use_id"), (*path, "tool_use_id"))
    return {"role": "tool", "tool_call_id": call, "content": _content(texts)}


def _marked_as_error(texts: list[Json]) -> list[Json]:
    first, rest = (texts[0]["text"], texts[1:]) if texts else ("", [])
    return [{"type": "text", "text": f"{_ERROR_MARK}{first}"}, *rest]
