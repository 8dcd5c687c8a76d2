"""Invented tool calls, and values of a JSON schema."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.demo.upstream.desk import Json

_DEEPEST = 8
_PLAIN: Json = {"string": "demo", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def value_of(schema: Any, root: Any = None, deep: int = 0) -> Any:
    """Invent the plainest value of a JSON schema."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or deep > _DEEPEST:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    another = _another(schema, root)
    return _of_type(schema, root, deep) if another is None else value_of(another, root, deep + 1)


def _another(schema: Json, root: Any) -> Any:
    """The schema that stands for this one, None for none."""
    if isinstance(schema.get("$ref"), str):
        return _referred(root, schema["$ref"])
    return next((schema[name][0] for name in ("anyOf", "oneOf", "allOf") if schema.get(name)), None)


def _of_type(schema: Json, root: Any, deep: int) -> Any:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        return {name: value_of(inner, root, deep + 1) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [value_of(schema.get("items"), root, deep + 1)]
    return _PLAIN.get(str(kind), "demo")


def _referred(root: Any, reference: str) -> Any:
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and isinstance(root, dict):
            root = root.get(step)
    return root


def chosen_tool(tools: Any, choice: Any, said: str) -> tuple[str, str] | None:
    """Choose a function tool and write its arguments; None for none.

    The one that `choice` or the user names, else the first.
    """
    functions = [tool.get("function", tool) for tool in tools or () if isinstance(tool, dict) and _is_function(tool)]
    if not functions or choice == "none":
        return None
    named = (choice.get("function", choice).get("name") if isinstance(choice, dict) else None) or ""
    by_name = {str(each.get("name")): each for each in functions}
    name = named if named in by_name else next((each for each in by_name if each in said), next(iter(by_name)))
    schema = by_name[name].get("parameters") or {"type": "object"}
    return name, orjson.dumps(value_of(schema)).decode()


def _is_function(tool: Json) -> bool:
    return str(tool.get("type", "function")) == "function"


def text_of_format(form: Any) -> str | None:
    """Write the text that a `response_format` or `text.format` asks for."""
    if not isinstance(form, dict):
        return None
    if form.get("type") == "json_schema":
        schema = form.get("schema") or (form.get("json_schema") or {}).get("schema")
        return orjson.dumps(value_of(schema)).decode()
    return '{"answer":"demo"}' if form.get("type") == "json_object" else None
