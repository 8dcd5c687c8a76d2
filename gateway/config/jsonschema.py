"""The JSON Schema of gateway.yaml, made from the validator's types."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect as types

from gateway.config import checks
from gateway.config.schema import FILE_TYPE
from gateway.config.sources.redis_urls import redis_url
from gateway.types import Secret

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "reference"
_REFERENCE_SCHEMA: Schema = {
    "description": "A value from elsewhere: ${VAR}, ${VAR:-default} or ${file:PATH}.",
    "type": "string",
    "pattern": r"\$\{",
}
_WEB = r"[Hh][Tt][Tt][Pp][Ss]?://"
# What a text is checked by, as a pattern: never stricter than the check, which says more.
_PATTERNS: dict[object, str] = {
    **dict.fromkeys(
        (checks.endpoint_url, checks.collector_url, checks.webhook_url, checks.jwks_url, checks.public_url), f"^{_WEB}"
    ),
    checks.cors_origin: rf"^(\*$|{_WEB})",
    checks.database_url: r"^(sqlite|postgresql|mysql|mariadb)(\+.*)?://",
    checks.network: r"^(\d{1,3}(\.\d{1,3}){3}(/[\d.]+)?|[\dA-Fa-f]*:[\dA-Fa-f:.]*(%[^/]+)?(/\d{1,3})?)$",
    redis_url: r"^([Rr][Ee][Dd][Ii][Ss]{1,2}(\+[A-Za-z]+)?|[Uu][Nn][Ii][Xx])://",
}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def settings_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of gateway.yaml.

    A description for each key, enums, defaults and ranges.
    """
    definitions: dict[str, Schema] = {_REFERENCE: _REFERENCE_SCHEMA}
    root = {"$schema": _DIALECT, "title": "gateway.yaml", "type": ["object", "null"]}
    return root | _record(FILE_TYPE, definitions) | {"$defs": dict(sorted(definitions.items()))}


def _record(struct: types.StructType, definitions: dict[str, Schema]) -> Schema:
    """Return a record's keys, without its type.

    Where it is used decides whether it may be null.
    """
    fields = [field for field in struct.fields if field.name != "place"]
    schema: Schema = {"additionalProperties": False}
    if required := [field.encode_name for field in fields if field.required]:
        schema["required"] = required
    schema["properties"] = {field.encode_name: _property(field, definitions) for field in fields}
    return schema | getattr(struct.cls, "schema_extra", {})


def _property(field: types.Field, definitions: dict[str, Schema]) -> Schema:
    schema = _schema(field.type, definitions)
    if field.required:
        return schema
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Struct):
        return _nullable(schema)  # its own keys tell their defaults
    written = default.reveal() if isinstance(default, Secret) else msgspec.to_builtins(default)
    may_be_left_empty = isinstance(written, list | tuple | dict)
    return (_nullable(schema) if may_be_left_empty else schema) | {"default": written}


def _nullable(schema: Schema) -> Schema:
    """Allow null in place, rather than by a wrapper.

    So editors can still point at the very key that is wrong.
    """
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return schema | {"type": [*named, "null"]}


def _schema(wanted: types.Type, definitions: dict[str, Schema]) -> Schema:
    if isinstance(wanted, types.Metadata):
        return _annotated(wanted, definitions)
    if isinstance(wanted, types.UnionType):
        return _union(wanted, definitions)
    if isinstance(wanted, types.StructType):
        return _defined(wanted, definitions)
    if isinstance(wanted, types.VarTupleType):
        least = {"minItems": wanted.min_length} if wanted.min_length else {}
        return {"type": "array", "items": _schema(wanted.item_type, definitions)} | least
    if isinstance(wanted, types.DictType):
        return {"type": "object", "additionalProperties": _schema(wanted.value_type, definitions)}
    return _scalar(wanted)


def _annotated(wanted: types.Metadata, definitions: dict[str, Schema]) -> Schema:
    extra = dict(wanted.extra_json_schema or {})
    outer = {"description": extra.pop("description")} if "description" in extra else {}
    inner, marks = _schema(wanted.type, definitions), wanted.extra or {}
    if pattern := _PATTERNS.get(marks.get("check")):
        extra.setdefault("pattern", pattern)
    if marks.get("or_one"):
        inner = {"anyOf": [inner["items"], inner]}
    return outer | (_constrained(inner, extra) if extra else inner)


def _constrained(schema: Schema, extra: Schema) -> Schema:
    """Constrain the written text, neither a `${…}` nor null."""
    return {"anyOf": [schema | extra, _reference()]}


def _union(wanted: types.UnionType, definitions: dict[str, Schema]) -> Schema:
    members = [member for member in wanted.types if not isinstance(member, types.NoneType)]
    if len(members) == 1:
        schema: Schema = _schema(members[0], definitions)
    elif any(isinstance(member, types.StructType) for member in members):
        schema = {"anyOf": [_schema(member, definitions) for member in members]}
    else:
        schema = {"type": ["integer", "string"]}
    return _nullable(schema) if len(members) < len(wanted.types) else schema


def _defined(wanted: types.StructType, definitions: dict[str, Schema]) -> Schema:
    name = wanted.cls.__name__.removesuffix("Shape").removesuffix("Settings")
    if name not in definitions:
        definitions[name] = {}  # holds the name while its own fields are walked
        definitions[name] = _record(wanted, definitions)
    return {"type": "object", "$ref": f"#/$defs/{name}"}


def _scalar(wanted: types.Type) -> Schema:
    if isinstance(wanted, types.StrType):
        return {"type": "string"} | ({"minLength": wanted.min_length} if wanted.min_length else {})
    if isinstance(wanted, types.CustomType):
        return {"type": "string"}
    return {"anyOf": [_typed(wanted), _reference()]}


def _typed(wanted: types.Type) -> Schema:
    if isinstance(wanted, types.LiteralType):
        return {"enum": list(wanted.values)}
    if isinstance(wanted, types.BoolType):
        return {"type": "boolean"}
    if isinstance(wanted, types.IntType | types.FloatType):
        return _number(wanted)
    if isinstance(wanted, types.DateTimeType):
        return {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}([Tt ].+)?$"}
    raise TypeError(f"no schema for {wanted}")


def _number(wanted: types.IntType | types.FloatType) -> Schema:
    schema: Schema = {"type": "integer" if isinstance(wanted, types.IntType) else "number"}
    given = {keyword: getattr(wanted, bound) for bound, keyword in _BOUNDS.items()}
    return schema | {keyword: bound for keyword, bound in given.items() if bound is not None}


def _reference() -> Schema:
    return {"$ref": f"#/$defs/{_REFERENCE}"}
