"""A gateway.yaml as text: sections in blocks, small records on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

_WIDTH = 110
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./:+-]*[A-Za-z0-9_/+-]|[A-Za-z]")
# What YAML, of one version or another, takes for something else than text.
_WORDS = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n"])
_UNSAFE_IN_FLOW = frozenset(":")


def yaml_text(sections: dict[str, Any], comments: Sequence[str]) -> str:
    """Write comments at the head, then the sections."""
    head = [f"# {_on_one_line(line)}".rstrip() for line in comments]
    return "\n".join([*head, *_block(sections, "")]) + "\n"


def _on_one_line(text: str) -> str:
    """Replace what would end a comment: names in it are their file's."""
    return "".join(each if each.isprintable() else " " for each in text)


def _block(value: dict[str, Any], indent: str) -> Iterator[str]:
    for name, each in value.items():
        if isinstance(each, list) and each and all(isinstance(item, dict) for item in each):
            yield f"{indent}{_scalar(name)}:"
            for item in each:
                yield from _item(item, indent + "  ")
        elif isinstance(each, dict) and each:
            flow = f"{indent}{_scalar(name)}: {_flow(each)}"
            if len(flow) <= _WIDTH and name != "server":
                yield flow
            else:
                yield f"{indent}{_scalar(name)}:"
                yield from _block(each, indent + "  ")
        else:
            yield f"{indent}{_scalar(name)}: {_flow(each)}"


def _item(record: dict[str, Any], indent: str) -> Iterator[str]:
    lines = list(_block(record, indent + "  ")) or ["{}"]
    yield f"{indent}- {lines[0].lstrip()}"
    yield from lines[1:]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(name)}: {_flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    text = str(value)
    is_bare = _BARE.fullmatch(text) is not None and text.lower() not in _WORDS and ": " not in text
    return text if is_bare and len(text) < 200 else json.dumps(text, ensure_ascii=False)


def _number(value: Decimal) -> str:
    """Write a number as people do: 2.5, not 2.50 or 25E-1."""
    text = format(value.normalize(), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
