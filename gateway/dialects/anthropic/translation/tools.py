"""Translate tools and the choice among them."""

from __future__ import annotations

from typing import Any

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

_EAGER = "eager_input_streaming"  # how finely a call's input is streamed is the upstream's business
_TOOL = frozenset(("type", "name", "description", "input_schema", "strict", "defer_loading", "allowed_callers", _EAGER))
_CHOICE = frozenset(("type", "name", "disable_parallel_tool_use"))
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_tools(tools: object, dropped: Dropped) -> list[Json]:
    """Translate `tools`. Raises NotTranslatable for those that run at the provider."""
    return [_tool(each, ("tools", place), dropped) for place, each in enumerate(a_list(tools, ("tools",)))]


def chat_tool_choice(choice: object, dropped: Dropped) -> Json:
    """Translate `tool_choice` into the chat fields that say the same."""
    path: Path = ("tool_choice",)
    found = an_object(choice, path)
    take_known(found, path, _CHOICE, dropped)
    kind = found.get("type")
    fields: Json = {}
    if kind == "tool":
        name = a_text(found.get("name"), (*path, "name"))
        fields["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[kind]
    else:
        raise unlike((*path, "type"), "auto, any, tool or none")
    if isinstance(alone := found.get("disable_parallel_tool_use"), bool) and kind != "none":
        fields["parallel_tool_calls"] = not alone
    return fields


def _tool(tool: object, path: Path, dropped: Dropped) -> Json:
    found = an_object(tool, path)
    kind = found.get("type")
    if kind is not None and kind != "custom":
        raise not_translatable((*path, "type"), "a tool of this type is the provider's own")
    take_known(found, path, _TOOL, dropped)
    _require_plain(found, path)
    if found.get(_EAGER) is not None:
        dropped.add(_EAGER)
    function: Json = {"name": a_text(found.get("name"), (*path, "name"))}
    if (description := found.get("description")) is not None:
        function["description"] = a_text(description, (*path, "description"))
    function["parameters"] = an_object(found.get("input_schema"), (*path, "input_schema"))
    if isinstance(found.get("strict"), bool):
        function["strict"] = found["strict"]
    return {"type": "function", "function": function}


def _require_plain(tool: dict[str, Any], path: Path) -> None:
    """Refuse a tool that needs the provider's search or code."""
    if tool.get("defer_loading"):
        raise not_translatable((*path, "defer_loading"), "a tool that is loaded later needs the provider's search")
    if tool.get("allowed_callers") not in (None, ["direct"]):
        raise not_translatable((*path, "allowed_callers"), "a tool that the provider's code calls is its own")
