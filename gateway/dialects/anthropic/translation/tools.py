"""Translate tools and the choice among them."""

from __future__ import annotations

from typing import Any

from gateway.dialects.anthropic.translation.hints import (
    Dropped,
    Json,
    Misshapen,
    Unfaithful,
    a_list,
    a_text,
    an_object,
    placed,
    take_known,
)

_EAGER = "eager_input_streaming"  # how finely a call's input is streamed is the upstream's business
_TOOL = frozenset(("type", "name", "description", "input_schema", "strict", "defer_loading", "allowed_callers", _EAGER))
_CHOICE = frozenset(("type", "name", "disable_parallel_tool_use"))
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_tools(tools: object, dropped: Dropped) -> list[Json]:
    """Translate `tools`; those that run at the provider are refused."""
    functions = []
    for place, tool in enumerate(a_list(tools)):
        with placed(place):
            functions.append(_function(an_object(tool), dropped))
    return functions


def chat_tool_choice(choice: object, dropped: Dropped) -> Json:
    """Translate `tool_choice` into the chat fields that say the same."""
    found = an_object(choice)
    take_known(found, _CHOICE, dropped)
    kind = found.get("type")
    fields: Json = {}
    if kind == "tool":
        fields["tool_choice"] = {"type": "function", "function": {"name": a_text(found, "name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[kind]
    else:
        raise Misshapen("auto, any, tool or none", "type")
    if isinstance(alone := found.get("disable_parallel_tool_use"), bool) and kind != "none":
        fields["parallel_tool_calls"] = not alone
    return fields


def _function(tool: Json, dropped: Dropped) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise Unfaithful("names a tool of the provider's own", "type")
    take_known(tool, _TOOL, dropped)
    _require_plain(tool)
    if tool.get(_EAGER) is not None:
        dropped.add(_EAGER)
    function: Json = {"name": a_text(tool, "name")}
    if tool.get("description") is not None:
        function["description"] = a_text(tool, "description")
    function["parameters"] = an_object(tool.get("input_schema"), "input_schema")
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _require_plain(tool: dict[str, Any]) -> None:
    """Refuse a tool that needs the provider's search or code."""
    if tool.get("defer_loading"):
        raise Unfaithful("needs the provider's search", "defer_loading")
    if tool.get("allowed_callers") not in (None, ["direct"]):
        raise Unfaithful("needs the provider's code", "allowed_callers")
