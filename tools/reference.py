"""Write the pages of docs/ that the code itself describes: `python -m tools.reference`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.config import settings_schema
from gateway.observability.metrics.families import FAMILIES

DOCS = Path(__file__).parents[1] / "docs"
Schema = Mapping[str, Any]

_WORDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "object": "mapping"}
_AS_GOOD_AS_UNBOUNDED = 10**9

_CONFIGURATION = """\
<!-- Written by `make schema` from the types that read gateway.yaml. Do not edit. -->

# Configuration reference

Every key of `gateway.yaml`, with its type, its default and what it does. `gateway.yaml.example` shows all of them in
one file; `gateway schema` prints the JSON Schema for editors; `gateway check` validates a file and reports every
mistake at once, with file and line. What a reload changes is in [Operations](operations.md#change-the-configuration).

- Every section is optional. Unknown keys, wrong types, duplicate ids and dangling references are errors.
- Strings may hold `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/name}`, in the place of numbers and booleans
  too; `$${` is a literal `${`. A variable that is missing is an error.
- `include: [keys/*.yaml]` names further files: relative to this one, below its folder with symbolic links resolved,
  sorted within each pattern (`*`, `?`, `[…]`; hidden names are passed over). Lists join in that order; an id, or a
  section that is no list, that comes twice is an error that names both places. A pattern may match nothing, a plain
  name must be there. Included files include no others; relative paths in them start from the folder of gateway.yaml.
  All are watched, and the folders of patterns too: a change in any of them reloads the whole. Problems and
  `defined_in_file` name the file and line.
- An environment variable `GATEWAY__SERVER__PORT=9000` sets a single value of a section over the file: its path in
  capitals, with two underscores between the parts; the value is read as YAML. One that fits nothing is an error.
  `gateway check` and `gateway explain` say which values come from there.
- Ids are numbers or text; `1` and `"1"` are the same id.
- Relative paths start from the file's directory. YAML anchors, aliases and merges work.
"""

_METRICS = """\
<!-- Written by `make schema` from the table of metrics. Do not edit. -->

# Metrics

`GET /metrics` answers in the Prometheus text format, to keys with the scope `usage:read`, or to anybody where
`server.metrics_public` is true. With several workers each scrape is the sum over all of them.
[Observability](observability.md) has alert rules and a board over these metrics, and how Prometheus scrapes them.

Labels hold names of models, ids of endpoints and templates of routes: nothing that a client chooses, no user, no key.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""


def configuration_page() -> str:
    """Return docs/configuration.md: a section for each record of the schema."""
    schema = settings_schema()
    sections: dict[str, Section] = {}
    _collect(schema, "", schema, sections)
    parts = [_table(schema, schema, sections)]
    parts += [
        f"## `{each.path}`\n\n{each.description}\n\n{_table(each.record, schema, sections)}"
        for each in sections.values()
    ]
    return _CONFIGURATION + "\n" + "\n".join(parts)


def metrics_page() -> str:
    """Return docs/metrics.md: a row for each metric."""
    rows = (
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {_cell(each.help)} |\n"
        for each in FAMILIES.values()
    )
    return _METRICS + "".join(rows)


PAGES = {"configuration.md": configuration_page, "metrics.md": metrics_page}


class Section(NamedTuple):
    """A record of the schema and the place where it is first used."""

    path: str
    description: str
    record: Schema


def _collect(record: Schema, above: str, schema: Schema, sections: dict[str, Section]) -> None:
    """Fill `sections`, by the names of the records, in the order in which the file has them."""
    for name, inner in _properties(record):
        kind = _kind(inner, schema)
        if kind is not None and kind not in sections:
            path = above + (f"{name}[]" if "items" in inner else name)
            sections[kind] = Section(path, inner["description"], schema["$defs"][kind])
            _collect(schema["$defs"][kind], f"{path}.", schema, sections)


def _table(record: Schema, schema: Schema, sections: Mapping[str, Section]) -> str:
    required = record.get("required", ())
    lines = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for name, inner in _properties(record):
        kind = _kind(inner, schema)
        what = _type(inner) if kind is None else _link(inner, sections[kind])
        default = "required" if name in required else _default(inner)
        lines.append(f"| `{name}` | {what} | {default} | {_cell(inner['description'])} |")
    return "\n".join(lines) + "\n"


def _link(schema_of: Schema, section: Section) -> str:
    anchor = re.sub(r"[^\w-]", "", section.path)
    link, single = f"[{'list' if 'items' in schema_of else 'mapping'}](#{anchor})", _single(schema_of)
    if single is not None:
        link = f"{single} or {link}"
    return f"by name: {link}" if "additionalProperties" in schema_of else link


def _properties(record: Schema) -> list[tuple[str, Schema]]:
    return list(record["properties"].items())


def _kind(schema_of: Schema, schema: Schema) -> str | None:
    """Name the record that a key holds, or a list or a mapping of; None where it holds something plain."""
    held = schema_of.get("additionalProperties") or schema_of.get("items") or schema_of
    for each in (held, *held.get("anyOf", ())):
        name: str = each.get("$ref", "").rpartition("/")[2]
        if "properties" in schema["$defs"].get(name, ()):
            return name
    return None


def _single(schema_of: Schema) -> str | None:
    """Name what a key may hold in the place of a record."""
    held = schema_of.get("additionalProperties") or schema_of
    plain = [each for each in held.get("anyOf", ()) if "$ref" not in each]
    return _type(plain[0]) if plain else None


def _type(schema_of: Schema) -> str:
    if "anyOf" in schema_of:
        return _type(schema_of["anyOf"][0])
    if "enum" in schema_of:
        return ", ".join(f"`{value}`" for value in schema_of["enum"])
    if "items" in schema_of:
        return f"list of {_type(schema_of['items'])}"
    named = schema_of["type"]
    names = [named] if isinstance(named, str) else named
    if names[:2] == ["integer", "string"]:
        return "id"
    return _WORDS[names[0]] + _range(schema_of)


def _range(schema_of: Schema) -> str:
    bounds = [
        f"{sign} {schema_of[keyword]:,}"
        for sign, keyword in (("≥", "minimum"), (">", "exclusiveMinimum"), ("≤", "maximum"))
        if keyword in schema_of and schema_of[keyword] < _AS_GOOD_AS_UNBOUNDED
    ]
    return " " + ", ".join(bounds) if bounds else ""


def _default(schema_of: Schema) -> str:
    default = schema_of.get("default")
    return "" if default is None else f"`{orjson.dumps(default).decode()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
