"""Read single values, plain or quoted, by the type wanted."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import inspect as types
from yaml.nodes import MappingNode, Node, ScalarNode

from gateway.config.problems import Path, Problems, Refused, line_of
from gateway.config.yaml import scalars
from gateway.config.yaml.scalars import Scalar
from gateway.config.yaml.walk import Walk
from gateway.types import Secret

Check = Callable[[str], str]

_LARGEST_ID = 2**63 - 1  # what SQL databases and JSON writers can hold
_MOST_REMEMBERED = 50
_MOST_GROUPS_REMEMBERED = 1_000


class NotPrepared(Exception):
    """Values like this one have to be read from nodes."""


# A value from texts of which each is a plain or quoted scalar as it is written. Raises `Refused`.
Prepared = Callable[[Sequence[str]], Any]


class Reader(ABC):
    """Read one type.

    `expected` is its name in messages; `stand_in` a harmless value of it.
    """

    expected: str = "a value"
    stand_in: Any = None

    @abstractmethod
    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        """Return the value at `node`, or the stand-in after noting a problem."""

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        """Return a reader for records that differ in some scalars.

        What is written just as `node` but for the scalars in `texts`, which maps their `id` to the index of
        their text. Raises NotPrepared; problems are noted.
        """
        raise NotPrepared


class ScalarReader(Reader):
    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        try:
            return self.value(walk.scalar(node, self.expected), walk.problems)
        except Refused as refused:
            walk.problems.add(line_of(node), path, str(refused))
            return self.stand_in

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        index = texts.get(id(node))
        if index is None:
            constant = self.read(walk, node, None)
            return lambda _: constant
        return _Remembering(self.value, walk.problems, index).read

    @abstractmethod
    def value(self, scalar: Scalar, problems: Problems) -> Any:
        """Raise `Refused` with the reason."""


class _Remembering:
    """Read one type, with a cache of the first values.

    Most that repeat are among them.
    """

    __slots__ = ("_index", "_known", "_problems", "_value")

    def __init__(self, value: Callable[[Scalar, Problems], Any], problems: Problems, index: int) -> None:
        self._value = value
        self._problems = problems
        self._index = index
        self._known: dict[str, Any] = {}

    def read(self, texts: Sequence[str]) -> Any:
        text = texts[self._index]
        found = self._known.get(text)
        if found is None:
            found = self._value(scalars.written(text), self._problems)
            if len(self._known) < _MOST_REMEMBERED:
                self._known[text] = found
        return found


def remembering_groups(read: Prepared, node: Node, texts: Mapping[int, int]) -> Prepared:
    """Read a list or mapping once for each wording of its values.

    Thousands of records have the same limits, say, and then share one value, which must not be changed.
    """
    if isinstance(node, ScalarNode):
        return read
    indexes = [texts[id(value)] for value in scalars_in(node) if id(value) in texts]
    first, end = (min(indexes), max(indexes) + 1) if indexes else (0, 0)  # they follow each other
    known: dict[Sequence[str], Any] = {}

    def remembering(texts: Sequence[str]) -> Any:
        wording = texts[first:end]
        found = known.get(wording)
        if found is None:
            found = read(texts)
            if len(known) < _MOST_GROUPS_REMEMBERED:
                known[wording] = found
        return found

    return remembering


def scalars_in(node: Node) -> Iterator[ScalarNode]:
    """Yield all scalars but keys, in order."""
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for _, value in node.value:
            yield from scalars_in(value)
    else:
        for item in node.value:
            yield from scalars_in(item)


class TextReader(ScalarReader):
    expected = "text"
    stand_in: Any = ""

    def __init__(self, check: Check | None, *, secret: bool, min_length: int) -> None:
        self._check = check
        self._secret = secret
        self._min_length = min_length

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        index, read = texts.get(id(node)), super().prepare(walk, node, texts)
        if index is None or not self._secret:
            return read
        # Keys and hashes do not repeat, and are mostly quoted.
        return lambda texts: self._checked(text[1:-1]) if (text := texts[index])[0] in "\"'" else read(texts)

    def value(self, scalar: Scalar, problems: Problems) -> Any:
        if scalar.kind not in ("text", "reference"):
            raise scalars.wrong_type(self.expected, scalar, secret=self._secret)
        return self._checked(scalar.text)

    def _checked(self, text: str) -> Any:
        if not self._secret and not text.isprintable():
            raise Refused("must not hold control characters")
        if len(text) < self._min_length:
            raise Refused("must not be empty")
        return self._check(text) if self._check else text


class SecretReader(TextReader):
    stand_in = Secret("")

    def __init__(self, check: Check | None) -> None:
        super().__init__(check, secret=True, min_length=0)

    def _checked(self, text: str) -> Secret:
        return Secret(super()._checked(text))


class IdReader(ScalarReader):
    """Read a number or text, whose type is kept.

    The stand-in is the empty text, which no id can be.
    """

    expected = "an id (a whole number or text)"
    stand_in = ""

    def value(self, scalar: Scalar, problems: Problems) -> int | str:
        if scalar.kind == "whole number":
            return self._number(scalar)
        if scalar.kind not in ("text", "reference"):
            raise scalars.wrong_type(self.expected, scalar, secret=False)
        if not scalar.text.isprintable() or scalar.text != scalar.text.strip() or not scalar.text:
            raise Refused("an id must be printable, not empty, and without spaces at its ends")
        return scalar.text

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        index, read = texts.get(id(node)), super().prepare(walk, node, texts)
        if index is None:
            return read

        def quickly(texts: Sequence[str]) -> Any:
            text = texts[index]
            if text[0] in scalars.FIRST_OF_TEXT:
                return text  # as it is written: what has nothing to escape, and no spaces at its ends
            return number if (number := scalars.short_number(text)) is not None else read(texts)

        return quickly

    def _number(self, scalar: Scalar) -> int:
        value = scalars.whole_number(scalar.text)
        if value is None or abs(value) > _LARGEST_ID:
            raise Refused("too large for a number; put it in quotes")
        return value


_BOUNDS: Final = (
    ("ge", operator.ge, "at least"),
    ("gt", operator.gt, "above"),
    ("le", operator.le, "at most"),
    ("lt", operator.lt, "below"),
)


class NumberReader(ScalarReader):
    def __init__(self, wanted: types.IntType | types.FloatType) -> None:
        whole = isinstance(wanted, types.IntType)
        self.expected = "a whole number" if whole else "a number"
        self.stand_in = 1
        self._parse: Callable[[str], float | None] = scalars.whole_number if whole else scalars.number
        self._kinds = ("whole number", "reference") if whole else ("whole number", "number", "reference")
        given = [(getattr(wanted, name), holds, words) for name, holds, words in _BOUNDS]
        self._bounds = [(bound, holds, words) for bound, holds, words in given if bound is not None]

    def value(self, scalar: Scalar, problems: Problems) -> float:
        value = self._parse(scalar.text.strip()) if scalar.kind in self._kinds else None
        if value is None:
            raise scalars.wrong_type(self.expected, scalar, secret=False)
        if not all(holds(value, bound) for bound, holds, _ in self._bounds):
            found = "" if scalar.kind == "reference" else f", found {scalar.text}"
            raise Refused(f"must be {self._range()}{found}")
        return value

    def _range(self) -> str:
        return " and ".join(
            f"{words} {bound:g}" if bound < 1e6 else f"{words} {bound:,.0f}" for bound, _, words in self._bounds
        )


class TruthReader(ScalarReader):
    expected = "true or false"
    stand_in = False

    def value(self, scalar: Scalar, problems: Problems) -> bool:
        value = scalars.truth(scalar.text) if scalar.kind in ("boolean", "reference") else None
        if value is None:
            raise scalars.wrong_type(self.expected, scalar, secret=False)
        return value


class ChoiceReader(ScalarReader):
    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices
        self.expected = f"one of {', '.join(choices)}"
        self.stand_in = choices[0]

    def value(self, scalar: Scalar, problems: Problems) -> str:
        if scalar.kind in ("text", "reference") and scalar.text in self._choices:
            return scalar.text
        hint = problems.suggestion(scalar.text, self._choices) if scalar.kind == "text" else ""
        raise Refused(f"{scalars.wrong_type(self.expected, scalar, secret=False)}{hint}")


class MomentReader(ScalarReader):
    expected = "a date or time such as 2027-01-01 or 2027-01-01T00:00:00Z"

    def value(self, scalar: Scalar, problems: Problems) -> Any:
        moment = scalars.moment(scalar.text) if scalar.kind in ("text", "reference") else None
        if moment is None:
            raise scalars.wrong_type(self.expected, scalar, secret=False)
        return moment
