"""One row of the table as an OpenAPI operation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.api.openapi.error_responses import REQUEST_ID, refusals
from gateway.api.openapi.given import ACTING, ANSWERS, EXAMPLES, PAGED, path_example, query_of, query_of_list
from gateway.api.openapi.relayed import request_name
from gateway.api.panel import ChatBody
from gateway.api.router import ANTHROPIC_PREFIX, Route
from gateway.dialects.base import Json
from gateway.dialects.openai.operations import BINARY, JSON

_PARAMETER = re.compile(r"\{(\w+)(\.\.\.)?\}")
# Without a schema: 3.1 has none for the events of a stream, and the whole is no more than text.
_EVENTS: Json = {"example": 'data: {"delta":"Hello"}\n\ndata: [DONE]\n\n'}
_LIVE: Json = {"example": 'data: {"type":"request","id":"019…","outcome":"running","model":"gpt-4o"}\n\n'}
_STATUS: Json = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "string"}, "detail": {"type": "object", "additionalProperties": True}},
}
_OPEN = {"/healthz": "Is it alive?", "/readyz": "Can it serve? More of it to keys with `usage:read`"}
_TAGS = (
    ("/v1/messages", "Anthropic"),
    ("/api/ai/anthropic/", "Anthropic"),
    ("/v1/", "OpenAI"),
    ("/api/ai/openai/", "OpenAI"),
    ("/api/ai/usage", "Usage"),
    ("/api/soc/", "Usage"),
    ("/api/ai/", "Panel"),
    ("/api/admin/ai/models", "Models"),
    ("/api/admin/users", "Owners"),
    ("/api/admin/organisations", "Owners"),
    ("/api/admin/plans", "Owners"),
    ("/api/admin/keys", "Keys"),
    ("/api/admin/features", "Features"),
    ("/api/admin/", "Watching"),
    ("/", "Operations"),
)
TAGS: Mapping[str, str] = {
    "OpenAI": "The OpenAI surface, relayed to the endpoints of the model.",
    "Anthropic": "Messages; under /v1 the models have this shape too, where `anthropic-version` is sent.",
    "Usage": "What was used, by whom, as JSON and CSV.",
    "Panel": "Chat, studio and models for a panel's users.",
    "Models": "Admin: the registry of models, and links to them.",
    "Owners": "Admin: users, organisations, plans and their links.",
    "Keys": "Admin: API keys.",
    "Features": "Admin: feature switches.",
    "Watching": "Admin: endpoints, cooldowns, explanations, the audit.",
    "Operations": "Health, metrics and this document.",
}


def template(path: str) -> str:
    """The path as OpenAPI writes it, where `{id...}` is `{id}`."""
    return _PARAMETER.sub(r"{\1}", path)


def operation(route: Route, schemas: Mapping[int, Json]) -> Json:
    """Describe one route.

    `schemas`: those of bodies and answers, by the type's `id()` (a `list[X]` may not be hashable in itself).
    """
    described: Json = {
        "operationId": _name(route),
        "tags": [next(tag for prefix, tag in _TAGS if route.path.startswith(prefix))],
        "summary": route.summary or _plain_summary(route),
        "parameters": _parameters(route),
        "responses": _good(route, schemas) | refusals(route),
        "security": _security(route),
    }
    body = _body(route, schemas)
    return described if body is None else described | {"requestBody": body}


def _name(route: Route) -> str:
    return "_".join([route.method.lower(), *re.findall(r"\w+", route.path)])


def _plain_summary(route: Route) -> str:
    """For rows that say nothing of themselves: their last word."""
    if route.path in _OPEN:
        return _OPEN[route.path]
    words = [word for word in route.path.split("/") if word and not word.startswith("{")]
    return words[-1].replace("-", " ").capitalize() if words else route.path


def _security(route: Route) -> list[Json]:
    """Describe the key's scope, or no security.

    3.1 lets schemes that are not OAuth name what a key must have; no entry at all for what is open to everybody.
    """
    if route.path == "/metrics":
        return [{}, {"bearer": ["usage:read"]}, {"apiKey": ["usage:read"]}]  # which of them, the operators say
    if route.scope is None:
        return []
    scopes = [] if route.scope == "any" else [route.scope]
    return [{scheme: scopes} for scheme in ("bearer", "apiKey")]


def _parameters(route: Route) -> list[Json]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": path_example(route.path),
            **({"description": "Slashes in it may be written as they are."} if rest else {}),
        }
        for name, rest in _PARAMETER.findall(route.path)
    ]
    acting = [ACTING] if route.scope is not None else []
    rules = route.operation.lists if route.operation is not None else None
    query = query_of(route.method, route.path) if rules is None else query_of_list(rules)
    return [*in_path, *query, *acting]


def _body(route: Route, schemas: Mapping[int, Json]) -> Json | None:
    media: str = JSON
    operation = route.operation
    if operation is not None and operation.request is not None and operation.body is not None:
        schema: Json = {"$ref": f"#/components/schemas/{request_name(operation)}"}
        example, media = operation.request.example, operation.body
    elif route.body is not None:
        schema, example = schemas[id(route.body)], EXAMPLES[route.body]
    else:
        return None
    return {"required": True, "content": {media: {"schema": schema, "example": example}}}


def _good(route: Route, schemas: Mapping[int, Json]) -> Json:
    if route.operation is not None:
        content = {media: _upstreams(media) for media in route.operation.media}
        return {"200": {"description": "The upstream's answer", "headers": _serving(), "content": content}}
    content = _content(route, schemas)
    meanings = {200: "Done" if route.method != "GET" else "Here it is", 201: "Made"}
    return {
        str(status): {"description": meanings[status], "headers": _headers(route), "content": content}
        for status in route.statuses
    } | _draining(route, content)


def _content(route: Route, schemas: Mapping[int, Json]) -> Json:
    if route.path.endswith("/export.csv"):
        return {"text/csv": {"schema": {"type": "string"}}}
    if route.path == "/metrics":
        return {media: {"schema": {"type": "string"}} for media in ("text/plain", "application/openmetrics-text")}
    if route.path == "/api/admin/ai/requests":
        return {"text/event-stream": _LIVE}
    example = {"example": ANSWERS[route.answer]} if route.answer in ANSWERS else {}
    own = {"application/json": {"schema": _answer(route, schemas), **example}}
    return own | ({"text/event-stream": _EVENTS} if _may_stream(route) else {})


def _answer(route: Route, schemas: Mapping[int, Json]) -> Json:
    if route.answer is not None:
        return schemas[id(route.answer)]
    protocol = "Anthropic" if route.path.startswith(ANTHROPIC_PREFIX) else "OpenAI"
    if route.path.endswith("/v1/models"):
        return {"$ref": f"#/components/schemas/{protocol}Models"}
    if route.path.endswith("/v1/models/{id...}"):
        return {"$ref": f"#/components/schemas/{protocol}Model"}
    return _STATUS if route.path in _OPEN else {}


def _may_stream(route: Route) -> bool:
    return route.body is not None and issubclass(route.body, ChatBody)


def _draining(route: Route, content: Json) -> Json:
    """`/readyz` answers in the same shape when it cannot serve."""
    if route.path != "/readyz":
        return {}
    return {"503": {"description": "Not now", "headers": REQUEST_ID, "content": content}}


def _headers(route: Route) -> Json:
    if route.path in PAGED:
        return {**REQUEST_ID, "x-next-after": {"$ref": "#/components/headers/NextAfter"}}
    return REQUEST_ID


def _serving() -> Json:
    return {**REQUEST_ID, "x-gateway-model": {"$ref": "#/components/headers/ServedBy"}} | {
        "x-gateway-attempts": {"$ref": "#/components/headers/Attempts"}
    }


def _upstreams(media: str) -> Json:
    """Describe events and sounds, which have no schema.

    What they are is up to the upstream.
    """
    if media == BINARY:
        return {"schema": {"type": "string", "format": "binary"}}
    return {"schema": {"type": "object"}} if media == "application/json" else {}
