"""Carry one file's problems and references along a walk of nodes."""

from __future__ import annotations

from typing import TypeGuard

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import Path, Problems, Refused, line_of
from gateway.config.yaml import scalars
from gateway.config.yaml.expand import Expander, has_reference
from gateway.config.yaml.nodes import COLLECTION, PLAIN, QUOTED
from gateway.config.yaml.scalars import Scalar

_TAGS = "tag:yaml.org,2002:"
_UNTYPED_TAGS = frozenset((PLAIN, *(_TAGS + name for name in ("int", "float", "bool", "null", "timestamp"))))
_COLLECTION_TAGS = frozenset((COLLECTION, _TAGS + "map", _TAGS + "seq"))


class Walk:
    """What a walk over one file carries along."""

    __slots__ = ("_first_lines", "_parent", "expander", "problems")

    def __init__(self, problems: Problems, expander: Expander) -> None:
        self.problems = problems
        self.expander = expander
        self._parent: MappingNode | None = None  # the one that keys were last found twice in
        self._first_lines: dict[str, int] = {}

    def scalar(self, node: Node, expected: str) -> Scalar:
        """Return the scalar at `node`, references expanded; raise `Refused` without one."""
        if node.__class__ is not ScalarNode:
            raise Refused(f"expected {expected}, found {_collection_noun(node)}")
        text: str = node.value
        if "${" in text:
            return self._expanded(text)
        if node.tag == QUOTED:
            return Scalar(text, "text")
        if node.tag in _UNTYPED_TAGS:
            return Scalar(text, scalars.plain_kind(text))
        if node.tag == _TAGS + "str":
            return Scalar(text, "text")
        raise Refused("a YAML tag that has no meaning here")

    def _expanded(self, text: str) -> Scalar:
        expanded = self.expander.expand(text)
        if not has_reference(text):
            return Scalar(expanded, "text")
        self.problems.hide(expanded)
        return Scalar(expanded, "reference")

    def is_mapping(self, node: Node, path: Path) -> TypeGuard[MappingNode]:
        """Note a problem where it is none."""
        return self._is_collection(node, path, MappingNode, "a mapping")

    def is_list(self, node: Node, path: Path) -> TypeGuard[SequenceNode]:
        """Note a problem where it is none."""
        return self._is_collection(node, path, SequenceNode, "a list")

    def _is_collection(self, node: Node, path: Path, kind: type[Node], expected: str) -> bool:
        if node.__class__ is kind and node.tag in _COLLECTION_TAGS:
            return True
        found = "nothing" if is_nothing(node) else _collection_noun(node)
        self.problems.add(line_of(node), path, f"expected {expected}, found {found}")
        return False

    def add_odd_key(self, parent: MappingNode, key: Node, path: Path) -> None:
        """Note a key that is no text, or a duplicate."""
        if key.__class__ is not ScalarNode:
            self.problems.add(line_of(key), path, f"a key must be text, found {_collection_noun(key)}")
            return
        self.problems.add(
            line_of(key), (path, key.value), f"given twice (first on line {self._first_line(parent, key.value)})"
        )

    def _first_line(self, parent: MappingNode, key: str) -> int:
        if self._parent is not parent:
            self._parent = parent
            keys = [other for other, _ in reversed(parent.value) if isinstance(other, ScalarNode)]
            self._first_lines = {other.value: line_of(other) for other in keys}
        return self._first_lines[key]


def _collection_noun(node: Node) -> str:
    if isinstance(node, ScalarNode):
        return "a single value"
    noun = "a mapping" if isinstance(node, MappingNode) else "a list"
    return noun if node.tag in _COLLECTION_TAGS else f"{noun} with a YAML tag that has no meaning here"


def is_nothing(node: Node) -> bool:
    """`null`, `~`, or nothing at all after the colon."""
    return node.__class__ is ScalarNode and node.tag in _UNTYPED_TAGS and node.value in scalars.NULL_WORDS
