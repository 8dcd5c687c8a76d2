"""Refuse what names an object kept upstream: it has no rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import InvalidRequest

_ESCAPED = b"\\u"
_SIGNS = (b"container", b"file_id", _ESCAPED)
_MOST_LEVELS = 4  # a tool's result holds blocks, and a document in it blocks again


def may_name_objects(raw: bytes) -> bool:
    """Whether a body may name one, by a cheap search."""
    return any(sign in raw for sign in _SIGNS)


def refuse_objects(fields: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a `container` or a `file_id`."""
    if fields.get("container") is not None:
        raise InvalidRequest("This gateway does not serve containers of the code execution tool.", param="container")
    messages = fields.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place in _file_ids(content, f"messages[{number}].content", 0):
            raise InvalidRequest("This gateway does not serve files by their id; send their content.", param=place)


def _file_ids(content: object, path: str, level: int) -> Iterator[str]:
    """Yield where blocks name a file; a tool's input is none."""
    if not isinstance(content, list) or level > _MOST_LEVELS:
        return
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            continue
        here, source = f"{path}[{number}]", block.get("source")
        if block.get("file_id") is not None:
            yield f"{here}.file_id"
        if isinstance(source, dict):
            if source.get("file_id") is not None:
                yield f"{here}.source.file_id"
            yield from _file_ids(source.get("content"), f"{here}.source.content", level + 1)
        yield from _file_ids(block.get("content"), f"{here}.content", level + 1)
