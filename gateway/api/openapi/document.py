"""The whole document."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway import __version__
from gateway.api.openapi.operations import TAGS, operation, template
from gateway.api.openapi.relayed import ANTHROPIC_MODELS, MODELS, request_schemas
from gateway.api.router import Route

Json = dict[str, Any]

_TEXT = {"type": "string"}
_HEADERS: Json = {
    "RequestId": {"schema": _TEXT, "required": True, "description": "The gateway's id of this request."},
    "RetryAfter": {"schema": _TEXT, "description": "Seconds after which to ask again."},
    "ShouldRetry": {"schema": {"const": "false"}, "description": "Asking again is of no use."},
    "NextAfter": {"schema": _TEXT, "description": "For `?after=` of the next page; missing on the last."},
    "ServedBy": {"schema": _TEXT, "description": "The public name of the model that answered."},
    "Attempts": {"schema": _TEXT, "description": "How many endpoints were tried."},
}
_SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`, or `ApiKey KEY`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_PARAMETERS: Json = {
    "ActingFor": {
        "name": "x-gateway-user",
        "in": "header",
        "required": False,
        "schema": _TEXT,
        "description": "A user's id, for whom a key with the scope `act:as` acts.",
        "example": "42",
    }
}
_FEATURE_DISABLED: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"const": "feature_disabled"}},
    "additionalProperties": False,
    "description": "The whole body of every AI route while the feature `ai` is off.",
}


def described(routes: Sequence[Route]) -> Json:
    """OpenAPI 3.1 for these rows."""
    types = [each for route in routes for each in (route.body, route.answer) if each is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(each): schema for each, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[template(route.path)][route.method.lower()] = operation(route, by_type)
    shared = _share_refusals(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ecli-gateway",
            "version": __version__,
            "description": "An OpenAI-compatible gateway: one API key for its users, pools of upstreams behind it.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This gateway."}],
        "tags": [{"name": tag, "description": description} for tag, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _joined(
                components,
                request_schemas(routes),
                MODELS,
                ANTHROPIC_MODELS,
                {"FeatureDisabledBody": _FEATURE_DISABLED},
            ),
            "responses": shared,
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
            "securitySchemes": _SECURITY,
        },
    }


def _share_refusals(paths: dict[str, Json]) -> Json:
    """Replace refusals by references; return the refusals.

    Most rows have them in common.
    """
    shared: Json = {}
    names: dict[bytes, str] = {}
    counted: Counter[str] = Counter()
    for responses in (row["responses"] for rows in paths.values() for row in rows.values()):
        for status, response in responses.items():
            if status < "4":
                continue
            written = msgspec.json.encode(response)
            if written not in names:
                counted[status] += 1
                names[written] = f"Refusal{status}_{counted[status]}"
                shared[names[written]] = response
            responses[status] = {"$ref": f"#/components/responses/{names[written]}"}
    return shared


def _joined(*groups: Json) -> Json:
    """Join schemas; raise ValueError for a name used twice.

    It would describe one by the other.
    """
    joined: Json = {}
    for group in groups:
        if twice := joined.keys() & group.keys():
            raise ValueError(f"two schemas are named {', '.join(sorted(twice))}")
        joined |= group
    return joined
