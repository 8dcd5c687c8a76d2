"""Schemas of relayed bodies: the fields that the gateway reads.

All others pass, and it is the upstream that judges.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.api.router import Route
from gateway.dialects.base import Json, Operation

_MODEL: Json = {
    "model": {
        "type": "string",
        "description": "A model's name, alias or id. Another: as `routing.unknown_model` says; none: the assigned one.",
    },
    "modelId": {
        "type": ["integer", "string"],
        "description": "A model's id; goes before `model`, and is never forwarded.",
    },
}
_ENTRY: Json = {
    "type": "object",
    "required": ["id", "object"],
    "properties": {"id": {"type": "string", "description": "The public name."}, "object": {"const": "model"}},
}
MODELS: dict[str, Json] = {
    "OpenAIModel": _ENTRY,
    "OpenAIModels": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/OpenAIModel"}},
        },
    },
}


_ANTHROPIC_ENTRY: Json = {
    "type": "object",
    "required": ["id", "type", "display_name", "created_at", "lifecycle"],
    "properties": {
        "id": {"type": "string", "description": "The public name, or an alias that Claude Code's picker shows."},
        "type": {"const": "model"},
        "display_name": {"type": "string"},
        "created_at": {"type": "string", "description": "Unknown: the epoch."},
        "lifecycle": {"const": "active"},
    },
}
ANTHROPIC_MODELS: dict[str, Json] = {
    "AnthropicModel": _ANTHROPIC_ENTRY,
    "AnthropicModels": {
        "type": "object",
        "required": ["data", "has_more", "first_id", "last_id"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/AnthropicModel"}},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        },
    },
}


def request_name(operation: Operation) -> str:
    return f"{operation.name}Request"


def request_schemas(routes: Iterable[Route]) -> dict[str, Json]:
    """Return each operation's schema by name.

    Raises ValueError where two have one name.
    """
    named: dict[str, Operation] = {}
    for operation in (route.operation for route in routes if route.operation is not None):
        if operation.request is None:
            continue
        if named.setdefault(request_name(operation), operation) is not operation:
            raise ValueError(f"two operations are named {operation.name}")
    return {
        name: {
            "type": "object",
            "description": "The fields that the gateway reads; all others pass unchanged.",
            "properties": ({} if operation.model == "none" else _MODEL) | operation.request.fields,
            "additionalProperties": True,
        }
        for name, operation in named.items()
        if operation.request is not None
    }
