"""Find the objects that a body or an answer names.

By a table of positions.

A position is written as a path: `tools[].vector_store_ids[]`. Everything else of a body is never looked at: an id in
`metadata`, a prompt's `variables`, a schema, arguments or a text is no reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

_EACH: Final = "[]"
# A name may be spelled with escapes, or with the two signs beyond ASCII that fold to `s` and `k`.
OTHER_SPELLINGS = (
    b"\\u004",
    b"\\u005",
    b"\\u006",
    b"\\u007",
    b"\\u017f",
    b"\\u212a",
    "ſ".encode(),
    "\N{KELVIN SIGN}".encode(),
)
_ALONE = frozenset(("id", "type"))

Path = tuple[str | int, ...]
Condition = Callable[[Mapping[str, Any]], bool]


class Position(NamedTuple):
    """One place for the id of an object of a kind.

    `when` looks at the object around the id.
    """

    path: str
    kind: str
    when: Condition | None = None


class Reference(NamedTuple):
    """An id that was found, and where."""

    kind: str
    id: str
    path: Path

    @property
    def param(self) -> str:
        """The path as `tools[0].container`."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).removeprefix(".")


class Node:
    """A value that may be an id, or have some within."""

    __slots__ = ("children", "items", "kind", "when")

    def __init__(self) -> None:
        self.kind: str | None = None
        self.when: Condition | None = None
        self.children: dict[str, Node] = {}
        self.items: Node | None = None

    def grown(self, step: str) -> Node:
        if step != _EACH:
            return self.children.setdefault(step, Node())
        self.items = self.items or Node()
        return self.items

    def child(self, key: str) -> Node | None:
        """Find a member's node.

        Upstreams in Go and .NET read names in any case.
        """
        found = self.children.get(key)
        if found is None and not (key.isascii() and key.islower()):
            found = self.children.get(key.lower().replace("ſ", "s"))
        return found


class Positions:
    """The positions of one operation's body, or of its answers."""

    __slots__ = ("positions", "root", "signs")

    def __init__(self, positions: Iterable[Position]) -> None:
        self.positions = tuple(positions)
        self.root = Node()
        for position in self.positions:
            node = self.root
            for step in _steps(position.path):
                node = node.grown(step)
            node.kind, node.when = position.kind, position.when
        self.signs = _signs(self.positions)

    def __bool__(self) -> bool:
        return bool(self.positions)

    def within(self, fields: Mapping[str, Any]) -> Iterator[Reference]:
        """Yield every id at a position, in the body's order."""
        return _found(fields, self.root, ())

    def __repr__(self) -> str:
        return f"<Positions {', '.join(each.path for each in self.positions)}>"


def is_alone(item: Mapping[str, Any]) -> bool:
    """Whether an item only refers to one that is stored."""
    return item.keys() <= _ALONE and item.get("type") in (None, "item_reference")


def is_of_type(kind: str) -> Condition:
    """Return whether the object around an id is of this `type`."""
    return lambda around: around.get("type") == kind


def _found(value: Any, node: Node, path: Path) -> Iterator[Reference]:
    if isinstance(value, str):
        if node.kind is not None and value:
            yield Reference(node.kind, value, path)
    elif isinstance(value, dict):
        if node.children:
            yield from _found_in(value, node, path)
    elif isinstance(value, list) and node.items is not None:
        for place, inner in enumerate(value):
            yield from _found(inner, node.items, (*path, place))


def _found_in(around: dict[str, Any], node: Node, path: Path) -> Iterator[Reference]:
    for key, inner in around.items():
        child = node.child(key)
        if child is not None and (child.when is None or child.when(around)):
            yield from _found(inner, child, (*path, key))


def _steps(path: str) -> list[str]:
    return path.replace(_EACH, f".{_EACH}").split(".")


def _signs(positions: Iterable[Position]) -> tuple[bytes, ...]:
    """Return texts of which a body with any position has one."""
    return tuple(sorted({f'"{_telling(_steps(each.path))}"'.encode() for each in positions}))


def _telling(steps: list[str]) -> str:
    """The name that says most; `id` alone is everywhere."""
    named = [step for step in steps if step != _EACH]
    return named[-2] if steps[-1] == "id" and len(steps) > 1 and steps[-2] != _EACH else named[-1]


NONE: Final = Positions(())
