"""Their file, each value with the file and line where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple, TypeAlias

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.yaml.nodes import PLAIN, YamlFault, compose
from gateway.config.yaml.scalars import TRUE_WORDS, plain_kind
from gateway.errors import ConfigError

MOST_BYTES = 16 << 20
_ENVIRON = "os.environ/"

Plain: TypeAlias = "str | Decimal | bool | list[Value] | dict[str, Value] | None"


class Note(NamedTuple):
    """What could not be taken over, and what to do instead.

    Never with a value.
    """

    where: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.text}"


class Value(NamedTuple):
    """A value and its place, `FILE:LINE`."""

    plain: Plain
    where: str
    path: str

    def fields(self) -> dict[str, Value]:
        """The mapping's fields; none where it is no mapping."""
        return self.plain if isinstance(self.plain, dict) else {}

    def items(self) -> list[Value]:
        """The list's items; a single value stands for a list of it."""
        if self.plain is None:
            return []
        return self.plain if isinstance(self.plain, list) else [self]

    def text(self) -> str | None:
        """The text with `os.environ/NAME` as `${NAME}`; None where it is none."""
        if isinstance(self.plain, bool | list | dict) or self.plain is None:
            return None
        text = str(self.plain).strip()
        if text.startswith(_ENVIRON):
            return f"${{{text.removeprefix(_ENVIRON).strip()}}}"
        return text.replace("${", "$${")

    def is_reference(self) -> bool:
        return isinstance(self.plain, str) and self.plain.strip().startswith(_ENVIRON)

    def number(self) -> Decimal | None:
        """A finite number, also where it is written as text."""
        if isinstance(self.plain, bool | list | dict) or self.plain is None:
            return None
        try:
            found = Decimal(str(self.plain).strip())
        except InvalidOperation:
            return None
        return found if found.is_finite() else None

    def is_on(self) -> bool:
        return self.plain is True or (isinstance(self.plain, str) and self.plain in TRUE_WORDS)

    def note(self, text: str) -> Note:
        return Note(self.where, self.path, text)


NOTHING = Value(None, "", "")


def read_their_file(path: Path) -> Value:
    """Read the file and those that it includes. Raises ConfigError."""
    root = _read(path)
    whole = dict(root.fields())
    for name in whole.pop("include", NOTHING).items():
        whole = _joined(whole, _read(path.parent / (name.text() or "")).fields())
    return Value(whole, root.where, "")


def _joined(one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    """Join as they do: lists and sections join, the rest is replaced."""
    joined = dict(one)
    for name, value in other.items():
        before = joined.get(name)
        if before is not None and isinstance(before.plain, list) and isinstance(value.plain, list):
            joined[name] = before._replace(plain=[*before.plain, *value.plain])
        elif before is not None and isinstance(before.plain, dict) and isinstance(value.plain, dict):
            joined[name] = before._replace(plain={**before.plain, **value.plain})
        else:
            joined[name] = value
    return joined


def _read(path: Path) -> Value:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError([f"{path}:1: larger than {MOST_BYTES:,} bytes"])
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}:1: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}:1: YAML: not UTF-8 text"]) from None
    try:
        root = compose(text)
    except YamlFault as fault:
        raise ConfigError([f"{path}:{fault.line}: YAML: {fault.reason}"]) from None
    if not isinstance(root, MappingNode):
        raise ConfigError([f"{path}:1: no config.yaml of a LiteLLM proxy: there is no section in it"])
    return _value(root, lambda node: f"{path}:{node.start_mark.line + 1}", "")


def _value(node: Node, where: Callable[[Node], str], path: str) -> Value:
    if isinstance(node, ScalarNode):
        return Value(_scalar(node), where(node), path)
    if isinstance(node, SequenceNode):
        items = [_value(item, where, f"{path}[{index}]") for index, item in enumerate(node.value)]
        return Value(items, where(node), path)
    return Value(dict(_pairs(node, where, path)), where(node), path)


def _pairs(node: Node, where: Callable[[Node], str], path: str) -> Iterator[tuple[str, Value]]:
    for key, value in node.value:
        if isinstance(key, ScalarNode):
            inner = f"{path}.{key.value}" if path else str(key.value)
            yield str(key.value), _value(value, where, inner)._replace(where=where(key))


def _scalar(node: ScalarNode) -> Plain:
    text = str(node.value)
    if node.tag != PLAIN:
        return text
    kind = plain_kind(text)
    if kind == "nothing":
        return None
    if kind == "boolean":
        return text in TRUE_WORDS
    if kind in ("whole number", "number"):
        try:
            return Decimal(text.replace("_", ""))
        except InvalidOperation:
            return text
    return text
