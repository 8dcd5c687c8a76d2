"""Collect a configuration's problems as `FILE:LINE: path.to.key: reason`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.yaml.fingerprints import Fingerprint
from gateway.errors import ConfigError

# A linked list from a value up to the top: made for every value that is read, but turned into text only for a problem.
Path: TypeAlias = "tuple[Path, str | int] | None"

_SHOWN_CHARACTERS = 60
_LONGEST_SUGGESTED = 64
# difflib compares with every candidate, long ones in 0.2 ms: these keep a file with many slips from taking minutes.
_MOST_CANDIDATES = 2_000
_MOST_COMPARED = 4_000
# Mappings with fewer keys are searched as quickly as indexed.
_FEW_KEYS = 16


class Refused(ValueError):
    """A single value cannot be used.

    Its text is the reason, and never holds the value where that may be secret.
    """


def shown(text: str) -> str:
    """Quote `text` for a message, shortened and on one line.

    Control characters are escaped.
    """
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return repr(cut)


def line_of(node: Node) -> int:
    """The line of the file on which `node` begins, counted from 1."""
    line: int = node.start_mark.line + 1
    return line


def path_text(path: Path) -> str:
    """`models[0].endpoints[1].url`, or `(top level)` for the document itself."""
    text = "".join(_steps(path))
    return text.removeprefix(".") or "(top level)"


def _steps(path: Path) -> Iterator[str]:
    parts = []
    while path is not None:
        path, part = path
        parts.append(part)
    for part in reversed(parts):
        yield f"[{part}]" if isinstance(part, int) else f".{_key_text(part)}"


def _key_text(key: str) -> str:
    usual = key.isprintable() and 0 < len(key) <= _SHOWN_CHARACTERS
    return key if usual else shown(key)


class Place:
    """Where a record stands in the file.

    Enough to name the line of anything inside it once that is needed.
    """

    __slots__ = ("node", "path", "source")

    def __init__(self, node: Node, path: Path, source: str = "") -> None:
        self.node = node
        self.path = path
        self.source = source  # the name of its file; empty: that of gateway.yaml

    @property
    def line(self) -> int:
        return line_of(self.node)

    def inside(self, *parts: str | int) -> Place:
        """Return the nearest place in the file above a value.

        Or its own.
        """
        node, path = self.node, self.path
        for part in parts:
            node, path = _child(node, part), (path, part)
        return Place(node, path, self.source)

    def __str__(self) -> str:
        return path_text(self.path)


class LinePlace(Place):
    """The line of a record that is read in bulk.

    Nothing of what is inside is known.
    """

    __slots__ = ("_line",)

    def __init__(self, line: int, source: str) -> None:
        self.node, self.path, self.source = NOWHERE.node, None, source
        self._line = line

    @property
    def line(self) -> int:
        return self._line


def _child(node: Node, part: str | int) -> Node:
    found: Node = node
    if isinstance(node, MappingNode):
        found = _value_of(node, part) or node
    elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        found = node.value[part]
    return found


def _value_of(node: MappingNode, wanted: str | int) -> Node | None:
    """Return the value of the first such key.

    A mapping with many keys is indexed once: each of them may have a problem.
    """
    if len(node.value) <= _FEW_KEYS:
        return next((value for key, value in node.value if key.value == wanted), None)
    kept = vars(node)
    if "first_values" not in kept:
        kept["first_values"] = {key.value: value for key, value in reversed(node.value) if isinstance(key, ScalarNode)}
    index: dict[str | int, Node] = kept["first_values"]
    return index.get(wanted)


# For records that no file defines: the defaults of sections that are not written out.
NOWHERE = Place(ScalarNode("", "", Mark("nowhere", 0, 0, 0, None, 0)), None)


class Problems:
    """Collect problems; `raise_if_any` raises them all, in file order."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.source = filename  # the file that is being read
        self._sources: dict[str, int] = {filename: 0}
        self._found: list[tuple[int, int, str]] = []
        self._hidden: set[str] = set()
        self._compared = 0
        self.overridden: Mapping[str, str] = {}  # variables of the environment by the path of what they set

    def hide(self, text: str) -> None:
        """Keep a value of a `${…}` out of messages.

        It may be a secret.
        """
        self._hidden.add(text)

    def quoted(self, text: str) -> str:
        """`text` as a message may show it."""
        return "the value of its `${…}`" if text in self._hidden else shown(text)

    def add(self, line: int, path: Path, reason: str) -> None:
        text = path_text(path)
        if text in self.overridden:
            self.add_environment(self.overridden[text], f"{text}: {reason}")
        else:
            self._note(line, f"{text}: {reason}")

    def add_at(self, place: Place, reason: str) -> None:
        reading, self.source = self.source, place.source or self.filename
        self.add(place.line, place.path, reason)
        self.source = reading

    def where(self, place: Place, seen_from: Place) -> str:
        """Return a place's line, with its file if another."""
        is_here = place.source == seen_from.source
        return f"line {place.line}" if is_here else f"{place.source or self.filename}:{place.line}"

    def _note(self, line: int, text: str) -> None:
        order = self._sources.setdefault(self.source, len(self._sources))
        self._found.append((order, line, f"{self.source}:{line}: {text}"))

    def add_syntax(self, line: int, reason: str) -> None:
        """Add a problem of the text itself, which has no key."""
        self._note(line, f"YAML: {reason}")

    def add_environment(self, variable: str, reason: str) -> None:
        """Add a problem of an environment variable, which has no line."""
        self._found.append((0, 0, f"environment: {variable}: {reason}"))

    def add_whole(self, problems: Iterable[str]) -> None:
        """Add problems that name their file and line already."""
        order = self._sources.setdefault(self.source, len(self._sources))
        self._found += [(order, 0, problem) for problem in problems]

    def suggestion(self, word: str, candidates: Collection[str]) -> str:
        """Return ` (did you mean 'x'?)` for a near candidate, or nothing."""
        if len(word) > _LONGEST_SUGGESTED or len(candidates) > _MOST_CANDIDATES or self._compared > _MOST_COMPARED:
            return ""
        self._compared += len(candidates)
        return "" if word in self._hidden else _nearest(word, [each for each in candidates if each not in self._hidden])

    def raise_if_any(self, files: Mapping[str, Fingerprint | None] = MappingProxyType({})) -> None:
        """Raise `ConfigError` with every problem found so far.

        `files` are those that were looked for.
        """
        if self._found:
            raise ConfigError([text for *_, text in sorted(self._found, key=lambda found: found[:2])], files)


def _nearest(word: str, candidates: Collection[str]) -> str:
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f" (did you mean {shown(by_folded[near[0]])}?)" if near else ""
