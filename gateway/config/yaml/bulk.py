"""Read long lists of records without a node for each value.

Users, keys, organisations, plans.

A file of 100,000 keys writes them in a few layouts. So such a list is cut out of the text before the rest is parsed,
with a mark in its place. YAML's parser sees one record of each layout; of the others only the texts are taken that
stand where that one has plain or quoted values, and they go through the same readers. There is no second reading of
YAML here: what does not fit a layout is composed by itself, and where a mark does not come out as an item of a list at
the top, or anything is wrong with any value, the file is read node by node after all (`NotInBulk`, or a problem noted).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import LinePlace, Refused
from gateway.config.yaml.nodes import PLAIN, QUOTED, YamlFault, compose
from gateway.config.yaml.readers import LongList
from gateway.config.yaml.values import NotPrepared, Prepared, Reader, scalars_in
from gateway.config.yaml.walk import Walk

# Shorter lists are read node by node as quickly.
SHORTEST_CHARACTERS = 1 << 16
MOST_LAYOUTS = 250
# Records composed by themselves take longer than composing the file: with more of them there is nothing to gain.
MOST_ODD_RECORDS = 1_000
# Patterns take a third of a millisecond for each value to be compiled.
MOST_VALUES_IN_LAYOUTS = 1_000

_MARK = "records cut out of this file, part "
_LINE_ENDS_BESIDE_LF = ("\r", "\x85", "\u2028", "\u2029")
_HEADING = re.compile(
    r"^(?:organisations|plans|users|keys):[ ]*(?:#[^\n]*)?\n(?:[ ]*(?:#[^\n]*)?\n)*(?P<indent>[ ]*)- ", re.MULTILINE
)
_COMMENTS = re.compile(r"(?:[ ]*(?:#[^\n]*)?\n)*")

# Values on one line that mean the same wherever a value may stand, inside of {…} and […] too, and hold no `${…}`.
# Each repetition is bounded: a search begins at every word, and two that follow each other would be quadratic.
_WORD = r"[A-Za-z0-9_/][A-Za-z0-9_/.@+-]{0,150}(?::[A-Za-z0-9_/.@+-]{1,150}){0,8}"
_PLAIN = rf"{_WORD}(?: {_WORD}){{0,8}}"
# (Left out by what they may not hold: classes with ranges beyond U+00FF take milliseconds to be compiled. What of those
# YAML does not allow is not printable either, and no value may be that.)
_IN_DOUBLE = r'"[^"$\\\x00-\x1f\x7f-\xa0]{0,500}"'
_IN_SINGLE = r"'[^'$\x00-\x1f\x7f-\xa0]{0,500}'"
_WRITTEN = f"{_IN_DOUBLE}|{_IN_SINGLE}|{_PLAIN}"
_VALUE = re.compile(rf"(?<=[ \[,])({_WRITTEN})(?=[ ]*[,\]}}\n])")


class NotInBulk(Exception):
    """The file has to be read node by node."""


class Run(NamedTuple):
    """Records that follow each other from `start` to `end` of `text`.

    How far their list is indented; their first line, counted from 1.
    """

    text: str
    start: int
    end: int
    indent: int
    first_line: int

    def record_at(self, position: int) -> str:
        """The text of the record that begins there."""
        found = re.compile(_record(self.indent), re.MULTILINE).match(self.text, position, self.end)
        assert found is not None  # noqa: S101 - narrows the type: such records are what a run is made of
        return found[0]


def _record(indent: int) -> str:
    """Return the record that begins on its dash's line.

    With all lines that are indented further, or are empty.
    """
    return rf"^[ ]{{{indent}}}- [^\n]*\n(?:(?:[ ]{{{indent + 1}}}[^\n]*)?\n)*+"


def compose_in_bulk(text: str) -> Node | None:
    """Compose as `nodes.compose`, long lists as `LongList`.

    None where there is no such list.

    Raises NotInBulk, and YamlFault, which may tell another line than the whole text has it on.
    """
    runs, shortened = _cut(text)
    if not runs:
        return None
    if text.startswith("%") or "\n%" in text or any(end in text for end in _LINE_ENDS_BESIDE_LF) or _MARK in text:
        raise NotInBulk  # directives, which would hold for the records too, and lines that would be counted otherwise
    root = compose(shortened)
    found = _put_back(root, runs) if isinstance(root, MappingNode) else 0
    if found != len(runs):
        raise NotInBulk
    return root


def _cut(text: str) -> tuple[dict[str, Run], str]:
    """Cut the long runs out; return them and the rest.

    By what marks them; the text keeps all of its lines.
    """
    runs: dict[str, Run] = {}
    kept: list[str] = []
    end, line = 0, 1
    for start, stop, indent in _long_runs(text):
        line += text.count("\n", end, start)
        mark = f"{_MARK}{len(runs)}"
        runs[mark] = Run(text, start, stop, indent, line)
        lines = text.count("\n", start, stop)
        kept += (text[end:start], " " * indent, f'- "{mark}"', "\n" * lines)
        end, line = stop, line + lines
    return runs, "".join([*kept, text[end:]])


def _long_runs(text: str) -> Iterator[tuple[int, int, int]]:
    """Start, end and indentation."""
    heading = _HEADING.search(text)
    while heading is not None:
        indent, position = len(heading["indent"]), heading.start("indent")
        pattern = re.compile(rf"(?:{_record(indent)})++", re.MULTILINE)
        while run := pattern.match(text, position):
            if run.end() - run.start() >= SHORTEST_CHARACTERS:
                yield run.start(), run.end(), indent
            comments = _COMMENTS.match(text, run.end())
            position = comments.end() if comments is not None else run.end()
        heading = _HEADING.search(text, max(position, heading.end()))


def _put_back(root: MappingNode, runs: Mapping[str, Run]) -> int:
    """Put long lists in place of their marks; return their number."""
    found = 0
    for index, (key, node) in enumerate(root.value):
        if node.__class__ is SequenceNode and not node.flow_style:
            parts = [_run_at(item, runs) or item for item in node.value]
            here = sum(isinstance(part, Run) for part in parts)
            if here:
                root.value[index] = (key, _CutList(node, parts))
                found += here
    return found


def _run_at(item: Node, runs: Mapping[str, Run]) -> Run | None:
    if item.__class__ is not ScalarNode or item.tag != QUOTED:
        return None
    run = runs.get(item.value)
    return run if run is not None and item.start_mark.line + 1 == run.first_line else None


class _CutList(LongList):
    """A list of nodes and of runs."""

    def __init__(self, node: SequenceNode, parts: Sequence[Node | Run]) -> None:
        super().__init__(node.tag, parts, node.start_mark, node.end_mark, node.flow_style)

    def records(self, item: Reader, walk: Walk) -> Iterator[Any]:
        bulk = _Bulk(item, walk)
        for part in self.value:
            if isinstance(part, Run):
                yield from bulk.read(part)
            else:
                yield item.read(walk, part, None)


class _Layout(NamedTuple):
    """Records that differ in their values alone.

    `find` matches where the next record is one of them.
    """

    find: Callable[[str, int, int], re.Match[str] | None]
    prepared: Prepared
    lines: int


class _Bulk:
    """Read the records of one list.

    What it reads is of use only where no problem has been noted in the end.
    """

    def __init__(self, reader: Reader, walk: Walk) -> None:
        self._reader = reader
        self._walk = walk
        self._layouts: dict[tuple[str, ...], _Layout | None] = {}
        self._values_in_layouts = 0
        self._odd = 0

    def read(self, run: Run) -> Iterator[Any]:
        """Raise NotInBulk."""
        try:
            yield from self._records(run)
        except (Refused, YamlFault):
            raise NotInBulk from None

    def _records(self, run: Run) -> Iterator[Any]:
        text, position, end, line = run.text, run.start, run.end, run.first_line
        layout: _Layout | None = None
        source = self._walk.problems.source
        while position < end:
            found = layout.find(text, position, end) if layout is not None else None  # most are like the one before
            if found is None:
                layout = self._layout_at(run, position)
                found = layout.find(text, position, end) if layout is not None else None
            if layout is not None and found is not None:
                record, position = layout.prepared(found.groups()), found.end()
                record.place = LinePlace(line, source)
                line += layout.lines
            else:
                alone = run.record_at(position)
                record, position = self._read_alone(alone), position + len(alone)
                record.place = LinePlace(line, source)
                line += alone.count("\n")
            yield record

    def _layout_at(self, run: Run, position: int) -> _Layout | None:
        record = run.record_at(position)
        parts = _VALUE.split(record)
        fixed = tuple(parts[::2])
        if fixed not in self._layouts and len(self._layouts) < MOST_LAYOUTS:
            prepared = self._prepared(record, parts)
            self._layouts[fixed] = _layout(fixed, run.indent, prepared) if prepared is not None else None
        return self._layouts.get(fixed)

    def _prepared(self, record: str, parts: Sequence[str]) -> Prepared | None:
        """Prepare a layout's reader, None where records must be composed singly."""
        self._values_in_layouts += len(parts) // 2
        if self._values_in_layouts > MOST_VALUES_IN_LAYOUTS:
            return None
        node = _composed(record)
        values = _values_among(parts, node)
        if values is None:
            return None
        try:
            return self._reader.prepare(self._walk, node, values)
        except NotPrepared:
            return None

    def _read_alone(self, text: str) -> Any:
        self._odd += 1
        record = self._reader.read(self._walk, _composed(text), None)
        if record is None or self._odd > MOST_ODD_RECORDS:
            raise NotInBulk
        return record


def _layout(fixed: Sequence[str], indent: int, prepared: Prepared) -> _Layout:
    """`fixed`: the text between the values."""
    end = rf"(?=[ ]{{0,{indent}}}[^ \n]|\Z)"
    pattern = re.compile(f"({_WRITTEN})".join([re.escape(text) for text in fixed]) + end)
    return _Layout(pattern.match, prepared, sum(text.count("\n") for text in fixed))


def _composed(item: str) -> Node:
    """Compose the record's node. Raises NotInBulk and YamlFault.

    YamlFault for an alias too, whose anchor is elsewhere.
    """
    root = compose(item)
    if root.__class__ is not SequenceNode or len(root.value) != 1:
        raise NotInBulk
    node: Node = root.value[0]
    return node


def _values_among(parts: Sequence[str], node: Node) -> dict[int, int] | None:
    """Map nodes' ids to the values that are their text.

    Values are counted from 0; None where a node is not just one of them.

    `parts`: the text before the first value, the value, the text after it, and so on.
    """
    starts = dict(zip(accumulate(map(len, parts[:-1])), parts[1:], strict=True))
    order = {start: index // 2 for index, start in enumerate(starts) if index % 2 == 0}
    values = {
        id(value): order[value.start_mark.index]
        for value in scalars_in(node)
        if value.start_mark.index in order and _is_written(value, starts[value.start_mark.index])
    }
    return values if len(values) == len(order) else None


def _is_written(node: ScalarNode, text: str) -> bool:
    if text[:1] in ("'", '"'):
        return node.tag == QUOTED and node.value == text[1:-1]
    return node.tag == PLAIN and node.value == text != ""
