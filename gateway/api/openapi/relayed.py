"""The OpenAI bodies: the fields that the gateway itself reads; all others pass, and it is the upstream that judges."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.api.openai_routes import RELAYED
from gateway.api.router import Route

Json = dict[str, Any]

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
_STREAM: Json = {
    "stream": {"type": "boolean", "description": "Whether to answer with server-sent events."},
}
_STREAM_OPTIONS: Json = {
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": {"type": "boolean", "description": "Whether to end with an event of usage."}},
    }
}
_COUNT: Json = {"type": "integer", "minimum": 0, "description": "Read for the reservation of tokens."}
_MESSAGES: Json = {"messages": {"type": "array", "items": {"type": "object"}}}
_TEXTS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}
# Sound of whatever kind; makers of clients know this name for bytes, and the other for none at all.
BINARY = "application/octet-stream"
_HELLO = [{"role": "user", "content": "Hello!"}]


class Relayed(NamedTuple):
    """How one relayed path is told of. `media`: the types of a good answer."""

    summary: str
    fields: Json
    example: Json
    media: tuple[str, ...] = ("application/json",)


_STREAMED = ("application/json", "text/event-stream")
_TOLD = {
    "/chat/completions": Relayed(
        "A chat completion",
        _MESSAGES | _STREAM | _STREAM_OPTIONS | {"max_completion_tokens": _COUNT, "max_tokens": _COUNT, "n": _COUNT},
        {"model": "gpt-4o", "messages": _HELLO, "stream": True},
        _STREAMED,
    ),
    "/completions": Relayed(
        "A completion of text",
        {"prompt": _TEXTS} | _STREAM | _STREAM_OPTIONS | {"max_tokens": _COUNT, "n": _COUNT, "best_of": _COUNT},
        {"model": "gpt-4o", "prompt": "Once upon a time"},
        _STREAMED,
    ),
    "/responses": Relayed(
        "A response",
        {"input": _TEXTS, "instructions": {"type": ["string", "null"]}} | _STREAM | {"max_output_tokens": _COUNT},
        {"model": "gpt-4o", "input": "Hello!"},
        _STREAMED,
    ),
    "/embeddings": Relayed("Embeddings", {"input": _TEXTS}, {"model": "embedder", "input": "Hello!"}),
    "/moderations": Relayed("A moderation", {"input": _TEXTS}, {"model": "moderator", "input": "Hello!"}),
    "/images/generations": Relayed(
        "Images", {"prompt": {"type": "string"}}, {"model": "painter", "prompt": "A lighthouse"}, _STREAMED
    ),
    "/audio/speech": Relayed(
        "Speech",
        {"input": {"type": "string"}},
        {"model": "speaker", "input": "Hello!", "voice": "alloy"},
        (BINARY, "*/*"),
    ),
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


def relayed_path(route: Route) -> str | None:
    """The path behind the prefix, of a row that goes to an upstream; None for all others."""
    if route.method != "POST" or route.body is not None:
        return None
    return next((each.path for each in RELAYED if route.path.endswith(each.path) and _is_whole(route, each.path)), None)


def told(path: str) -> Relayed:
    return _TOLD[path]


def request_name(path: str) -> str:
    """`/chat/completions` as `ChatCompletionsRequest`."""
    return "".join(word.capitalize() for word in path.strip("/").split("/")) + "Request"


def request_schemas() -> dict[str, Json]:
    """By name, a schema for each relayed path."""
    return {
        request_name(each.path): {
            "type": "object",
            "description": "The fields that the gateway reads; all others pass unchanged.",
            "properties": _MODEL | _TOLD[each.path].fields,
            "additionalProperties": True,
        }
        for each in RELAYED
    }


def _is_whole(route: Route, path: str) -> bool:
    """Whether what stands before the path is a prefix: `/chat/completions` ends with `/completions` as well."""
    return not route.path.removesuffix(path).endswith("/chat")
