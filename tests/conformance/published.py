"""OpenAI's published specification (paths under /v1), and the smallest values that its schemas allow."""

from __future__ import annotations

import lzma
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SPECIFICATION = Path(__file__).parents[1] / "data" / "openai-api-v1.yml.xz"
_PLAIN = {"integer": 1, "number": 1, "boolean": True, "null": None}
_FORMATS = {"uri": "https://example.com/a", "date-time": "2026-01-01T00:00:00Z", "date": "2026-01-01"}
_DEEPEST = 12


@cache
def specification() -> dict[str, Any]:
    document = yaml.load(lzma.decompress(SPECIFICATION.read_bytes()), yaml.CSafeLoader)
    return dict(document)


@cache
def _paths() -> dict[str, dict[str, Any]]:
    return {re.sub(r"\{\w+\}", "{}", path): rows for path, rows in specification()["paths"].items()}


def body_schema(method: str, path: str) -> dict[str, Any]:
    """The schema of a route's body; `path` is below /v1, its parameters are `{}`. Empty where there is none."""
    row = _paths().get(f"/v1{path}", {}).get(method.lower(), {})
    kinds = row.get("requestBody", {}).get("content", {})
    kind = kinds.get("multipart/form-data") or kinds.get("application/json") or {}
    return merged(kind.get("schema", {}))


def merged(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to, and all that `allOf` joins."""
    while "$ref" in schema:
        found: Any = specification()
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    whole = dict(schema)
    for part in whole.pop("allOf", ()):
        inner = merged(part)
        whole = inner | whole | {"properties": inner.get("properties", {}) | whole.get("properties", {})}
        whole["required"] = [*inner.get("required", ()), *schema.get("required", ())]
    return whole


def sample(schema: dict[str, Any], deep: int = 0) -> Any:
    """The smallest value: of an object what must be there, of a choice the first."""
    schema = merged(schema)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    choice = schema.get("oneOf") or schema.get("anyOf")
    if choice and deep < _DEEPEST:
        return sample(choice[0], deep + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        inner = schema.get("properties", {})
        return {name: sample(inner.get(name, {}), deep + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [sample(schema.get("items", {}), deep + 1)]
    return _text(schema) if kind == "string" else schema.get("minimum", _PLAIN.get(kind, "x"))


def _text(schema: dict[str, Any]) -> Any:
    if schema.get("format") == "binary":
        return ("a.txt", b"content")
    return _FORMATS.get(schema.get("format", ""), "x" * max(1, schema.get("minLength", 1)))
