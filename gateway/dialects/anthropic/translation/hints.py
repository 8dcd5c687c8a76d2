"""Refuse what chat completions cannot say; collect what is dropped.

What is refused is told by its place. Places are put together on the way out of a fault: most requests have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gateway.dialects.openai.choosing import spelled
from gateway.errors import NotTranslatable

Json = dict[str, Any]
Step = str | int

CACHE_CONTROL = "cache_control"


class Unfaithful(Exception):
    """A value that has no counterpart.

    `path`: its place below whoever catches it.
    """

    def __init__(self, why: str, *path: Step) -> None:
        super().__init__(why)
        self.why = why
        self.path = path

    def within(self, *path: Step) -> Unfaithful:
        """Return the fault as it is seen from further out."""
        return type(self)(self.why, *path, *self.path)

    def refusal(self) -> NotTranslatable:
        return NotTranslatable(
            f"This model's endpoints speak chat completions alone, where `{spelled(self.path)}` {self.why}.",
            param=spelled(self.path),
        )


class Misshapen(Unfaithful):
    """A value in a shape that Messages lack."""

    def refusal(self) -> NotTranslatable:
        return NotTranslatable(f"`{spelled(self.path)}` must be {self.why}.", param=spelled(self.path))


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


@contextmanager
def placed(*path: Step) -> Iterator[None]:
    """Add a place to what is refused within."""
    try:
        yield
    except Unfaithful as fault:
        raise fault.within(*path) from None


def an_object(value: object, *path: Step) -> Json:
    if not isinstance(value, dict):
        raise Misshapen("an object", *path)
    return value


def a_list(value: object, *path: Step) -> list[Any]:
    if not isinstance(value, list):
        raise Misshapen("an array", *path)
    return value


def a_text(found: Json, name: str) -> str:
    """Return a member that must be a text."""
    value = found.get(name)
    if not isinstance(value, str):
        raise Misshapen("a string", name)
    return value


def take_known(found: Mapping[str, Any], known: frozenset[str], dropped: Dropped) -> None:
    """Check an object's members: known, a hint, or null.

    Another one is refused: whoever set it meant something by it.
    """
    if found.keys() <= known:
        return
    for key, value in found.items():
        if key in known or value is None:
            continue
        if key != CACHE_CONTROL:
            raise Unfaithful("has no counterpart", key)
        dropped.add(CACHE_CONTROL)
