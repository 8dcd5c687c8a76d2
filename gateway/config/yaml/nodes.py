"""Compose YAML into nodes that know their lines.

With aliases bounded and merge keys (`<<`) resolved.

What a plain scalar means is decided later by the type that is wanted at its place, so the nodes only tell plain from
quoted. That keeps `no` in a country list from turning into a boolean unseen, and is faster than YAML's own resolver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import line_of

if TYPE_CHECKING:
    from yaml.composer import Composer as _Parser
elif yaml.__with_libyaml__:
    from yaml.cyaml import CParser as _Parser
else:
    from yaml.composer import Composer
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Parser(Reader, Scanner, Parser, Composer):
        """The same in Python, for machines where PyYAML was built without libyaml."""

        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)


PLAIN = "plain"
QUOTED = "quoted"
COLLECTION = "collection"

MAX_DEPTH = 50
# What aliases stand for is read as often as they are written: 20 values a character are far beyond any real file.
MAX_ALIASED_VALUES = 1_000_000
ALIASED_VALUES_ANYWAY = 20_000
ALIASED_VALUES_PER_CHARACTER = 20

_MERGE = "<<"
# In the words of libyaml, whose own bound newer PyYAML sets: its scanner runs ahead of what is composed.
_TOO_DEEP = "nesting depth"
# How much of a line is looked at for a hint, before and after the fault.
_HINT_BEFORE, _HINT_AFTER = 500, 200
_QUOTED = re.compile(r"'(?P<inner>[^']*)'|\"[^\"]*\"")


class YamlFault(Exception):
    """The text is not usable YAML.

    `line` counts from 1; the text never quotes values from the file.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class _Loader(_Parser):
    """Compose nodes, their depth bounded while they are built.

    Tags keep only how a value was written.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[call-arg]  # the stub knows the Python composer's constructor only
        self._depth = 0

    def resolve(self, kind: type[Node], value: object, implicit: tuple[bool, bool]) -> str:
        if kind is not ScalarNode:
            return COLLECTION
        return PLAIN if implicit[0] else QUOTED

    def descend_resolver(self, node: Node | None, index: object) -> None:
        self._depth += 1
        if node is not None and self._depth > MAX_DEPTH:
            raise YamlFault(line_of(node), f"nested more than {MAX_DEPTH} levels deep")

    def ascend_resolver(self) -> None:
        self._depth -= 1


def compose(text: str) -> Node | None:
    """The document's root, or `None` for an empty one.

    Raises `YamlFault` for syntax errors, several documents, nesting beyond `MAX_DEPTH`, aliases that contain themselves
    or stand for too many values for a text of its length, and `<<` of something else than mappings.
    """
    root = _compose(text)
    if root is not None and (("&" in text and "*" in text) or _MERGE in text):  # few files have aliases or merges
        _bound_aliases(root, len(text))
        _resolve_merges(root, set())
    return root


def _compose(text: str) -> Node | None:
    try:
        text.encode()
        return _Loader(text).get_single_node()
    except UnicodeEncodeError as error:
        raise YamlFault(_line_at(text, error.start), "a character that UTF-8 does not have") from None
    except yaml.reader.ReaderError as error:
        raise YamlFault(_unreadable_line(text, error), "control characters are not allowed") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(text, error) from None


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _unreadable_line(text: str, error: yaml.reader.ReaderError) -> int:
    if yaml.__with_libyaml__:  # it counts bytes
        return text.encode().count(b"\n", 0, error.position) + 1
    return _line_at(text, error.position)


def _syntax_fault(text: str, error: yaml.MarkedYAMLError) -> YamlFault:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    if _TOO_DEEP in (error.problem or ""):
        return YamlFault(line, f"nested more than {MAX_DEPTH} levels deep")
    if mark and _is_indented_by_tab(text, mark.line):
        return YamlFault(line, "indented with a tab; YAML wants spaces")
    reason = _without_values(error.problem or error.context or "cannot be read")
    context = f" ({_without_values(error.context)})" if error.context and error.problem else ""
    hint = _expansion_hint(text, line, mark.column) if mark else ""
    return YamlFault(line, reason + context + hint)


def _is_indented_by_tab(text: str, line: int) -> bool:
    lines = text.split("\n", line + 1)
    return line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]


def _without_values(message: str) -> str:
    """Remove quoted names from a parser's message.

    It quotes punctuation, which helps, and names of anchors and tags, which may be a mistyped secret.
    """
    return _QUOTED.sub(lambda quoted: quoted[0] if len(quoted["inner"] or "??") == 1 else "…", message).splitlines()[0]


def _expansion_hint(text: str, line: int, column: int) -> str:
    """Whether the fault is near an unquoted `${…}` inside brackets.

    A line may be as long as the file.
    """
    lines = text.split("\n")
    near = lines[line - 1][max(0, column - _HINT_BEFORE) : column + _HINT_AFTER] if line <= len(lines) else ""
    return "; inside {…} and […] a ${…} needs quotes around it" if any(map(_is_bare, _before_references(near))) else ""


def _before_references(text: str) -> Iterator[str]:
    """What stands before each `${`."""
    at = text.find("${")
    while at >= 0:
        yield text[:at].rstrip()
        at = text.find("${", at + 1)


def _is_bare(before: str) -> bool:
    return before[-1:] in (":", ",", "[") and any(opening in before[:-1] for opening in "{[,")


class _Extent(NamedTuple):
    """A node's number of values and depth, aliases expanded."""

    values: int
    height: int


def _bound_aliases(root: Node, characters: int) -> None:
    most = ALIASED_VALUES_ANYWAY + ALIASED_VALUES_PER_CHARACTER * characters
    known: dict[int, _Extent | None] = {}
    written = _extent(root, known).values
    if written - len(known) > MAX_ALIASED_VALUES:
        raise YamlFault(line_of(root), f"aliases stand for more than {MAX_ALIASED_VALUES:,} values")
    if written - len(known) > most:
        raise YamlFault(line_of(root), f"aliases stand for more than {most:,} values, too many for a text this short")


def _extent(node: Node, known: dict[int, _Extent | None]) -> _Extent:
    """Measure a node as deep as the text is nested.

    An alias comes after its anchor, which is then known.
    """
    if id(node) in known:
        return _known_extent(node, known)
    known[id(node)] = None
    values, height = 1, 0
    for child in _children(node):
        below = _extent(child, known)
        values, height = values + below.values, max(height, below.height + 1)
    if height > MAX_DEPTH:
        raise YamlFault(line_of(node), f"nested more than {MAX_DEPTH} levels deep by its aliases")
    extent = known[id(node)] = _Extent(values, height)
    return extent


def _known_extent(node: Node, known: dict[int, _Extent | None]) -> _Extent:
    extent = known[id(node)]
    if extent is None:
        raise YamlFault(line_of(node), "an anchor that contains itself")
    return extent


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, SequenceNode):
        yield from node.value


def _resolve_merges(node: Node, done: set[int]) -> None:
    """Resolve merge keys, children first.

    So what is merged in has had its own merges resolved.
    """
    if id(node) in done:
        return
    done.add(id(node))
    for child in _children(node):
        _resolve_merges(child, done)
    if isinstance(node, MappingNode) and any(_is_merge(key) for key, _ in node.value):
        node.value = _merged(node)


def _is_merge(key: Node) -> bool:
    return key.tag == PLAIN and key.value == _MERGE


def _merged(node: MappingNode) -> list[tuple[Node, Node]]:
    """Return the mapping's own pairs, then merged ones with new keys."""
    pairs = [pair for pair in node.value if not _is_merge(pair[0])]
    given = {_key_identity(key) for key, _ in pairs}
    for key, value in node.value:
        if _is_merge(key):
            for source in _merge_sources(value):
                fresh = [pair for pair in source.value if _key_identity(pair[0]) not in given]
                pairs += fresh
                given.update(_key_identity(key) for key, _ in fresh)
    return pairs


def _key_identity(key: Node) -> object:
    return key.value if isinstance(key, ScalarNode) else id(key)


def _merge_sources(value: Node) -> list[MappingNode]:
    sources: list[Node] = value.value if isinstance(value, SequenceNode) else [value]
    mappings = [source for source in sources if isinstance(source, MappingNode)]
    if len(mappings) < len(sources):
        raise YamlFault(line_of(value), "`<<` takes a mapping or a list of mappings")
    return mappings
