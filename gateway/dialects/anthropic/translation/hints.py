"""Refuse what chat completions cannot say; collect what is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.dialects.openai.choosing import spelled
from gateway.errors import NotTranslatable

Json = dict[str, Any]
Path = tuple[str | int, ...]

CACHE_CONTROL = "cache_control"


class Dropped:
    """The hints that were left out, each named once."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def __repr__(self) -> str:
        return f"<Dropped: {', '.join(self._names) or 'nothing'}>"


def not_translatable(path: Path, why: str) -> NotTranslatable:
    """Build the refusal of what stands at `path`."""
    return NotTranslatable(
        f"This model's endpoints speak chat completions alone, and {why}: nothing there means the same.",
        param=spelled(path),
    )


def unlike(path: Path, expected: str) -> NotTranslatable:
    """Build the refusal of a value in a shape that Messages lack."""
    return NotTranslatable(f"`{spelled(path)}` must be {expected}.", param=spelled(path))


def an_object(value: object, path: Path) -> Json:
    if not isinstance(value, dict):
        raise unlike(path, "an object")
    return value


def a_list(value: object, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise unlike(path, "an array")
    return value


def a_text(value: object, path: Path) -> str:
    if not isinstance(value, str):
        raise unlike(path, "a string")
    return value


def take_known(found: Mapping[str, Any], path: Path, known: frozenset[str], dropped: Dropped) -> None:
    """Check an object's members: known, a hint, or null.

    Raises NotTranslatable for another one: whoever set it meant something by it.
    """
    for key, value in found.items():
        if key in known or value is None:
            continue
        if key != CACHE_CONTROL:
            raise not_translatable((*path, key), f"`{spelled((*path, key))}` has no counterpart")
        dropped.add(CACHE_CONTROL)
