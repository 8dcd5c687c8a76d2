"""Nodes → typed values, driven by the types of `shapes`.

A reader always gives a value of its type. Where it finds a problem it notes it and gives a stand-in, so that the walk
goes on and the checks after it still find every further problem; since a problem was noted, no stand-in ever gets out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect as types
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import Path, Place, Refused, line_of
from gateway.config.schema import FILE_TYPE, GatewayFile
from gateway.config.yaml import scalars
from gateway.config.yaml.values import (
    Check,
    ChoiceReader,
    IdReader,
    MomentReader,
    NotPrepared,
    NumberReader,
    Prepared,
    Reader,
    SecretReader,
    TextReader,
    TruthReader,
    remembering_groups,
)
from gateway.config.yaml.walk import Walk, is_nothing
from gateway.types import Secret


class LongList(SequenceNode, ABC):
    """A list that need not have all of its items as nodes."""

    @abstractmethod
    def records(self, item: Reader, walk: Walk) -> Iterator[Any]:
        """What `item` reads, in order."""


class NullableReader(Reader):
    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self._read = inner.read
        self.expected = f"{inner.expected} or null"
        self.stand_in = inner.stand_in

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        return None if is_nothing(node) else self._read(walk, node, path)

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        index = texts.get(id(node))
        if index is None and is_nothing(node):
            return lambda _: None
        read = self._inner.prepare(walk, node, texts)
        if index is None:
            return read
        return lambda texts: None if texts[index] in scalars.NULL_WORDS else read(texts)


class ListReader(Reader):
    expected = "a list"
    stand_in = ()

    def __init__(self, item: Reader, min_length: int) -> None:
        self._item = item
        self._min_length = min_length

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        if isinstance(node, LongList):
            return tuple(node.records(self._item, walk))
        if not walk.is_list(node, path):
            return self.stand_in
        if len(node.value) < self._min_length:
            walk.problems.add(line_of(node), path, f"must have at least {self._min_length} entry")
        read = self._item.read
        items = [read(walk, item, (path, index)) for index, item in enumerate(node.value)]
        return tuple([item for item in items if item is not None])

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        if not walk.is_list(node, None) or len(node.value) < self._min_length:
            raise NotPrepared
        items = [self._item.prepare(walk, item, texts) for item in node.value]
        return lambda texts: tuple([read(texts) for read in items])


class MappingReader(Reader):
    """Text → values of one type, under keys of the operator's choice."""

    expected = "a mapping"

    def __init__(self, check: Check | None, value: Reader) -> None:
        self.stand_in = MappingProxyType({})
        self._check = check
        self._value = value

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        if not walk.is_mapping(node, path):
            return self.stand_in
        values: dict[str, Any] = {}
        for key, value in node.value:
            if key.__class__ is not ScalarNode or key.value in values:
                walk.add_odd_key(node, key, path)
                continue
            values[self._name(walk, key, (path, key.value))] = self._value.read(walk, value, (path, key.value))
        return values

    def _name(self, walk: Walk, key: Node, path: Path) -> str:
        name: str = key.value
        try:
            if not name.isprintable():
                raise Refused("must not hold control characters")
            return self._check(name) if self._check else name
        except Refused as refused:
            walk.problems.add(line_of(key), path, str(refused))
            return name


class EitherReader(Reader):
    """Read a single value by one reader, a mapping by another."""

    def __init__(self, single: Reader, record: RecordReader) -> None:
        self._single = single
        self._record = record
        self.expected = f"{single.expected} or {record.expected}"
        self.stand_in = record.stand_in
        single.expected, single.stand_in = self.expected, self.stand_in

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        return self._of(node).read(walk, node, path)

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        return self._of(node).prepare(walk, node, texts)

    def _of(self, node: Node) -> Reader:
        return self._record if node.__class__ is MappingNode else self._single


class OneOrMoreReader(ListReader):
    """Read a single value or a list, into a tuple."""

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        return super().read(walk, node, path) if isinstance(node, SequenceNode) else self._alone(walk, node, path)

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        raise NotPrepared

    def _alone(self, walk: Walk, node: Node, path: Path) -> Any:
        return (self._item.read(walk, node, path),)


class _FieldReader(NamedTuple):
    attribute: str
    reader: Reader
    make_default: Callable[[], Any] | None  # set where an empty section or list counts as not given


class RecordReader(Reader):
    """Read a mapping with known keys into a struct.

    One that has required keys has no stand-in: it is left out of its list.
    """

    expected = "a mapping"

    def __init__(self, struct: types.StructType) -> None:
        fields = [field for field in struct.fields if field.name != "place"]
        self._cls = struct.cls
        self._is_placed = len(fields) < len(struct.fields)
        self._fields = {field.encode_name: _field_reader(field) for field in fields}
        required = [(field.encode_name, self._fields[field.encode_name]) for field in fields if field.required]
        self._required = [(key, attribute, reader.stand_in) for key, (attribute, reader, _) in required]
        self.stand_in = None if required else self._cls()

    def read(self, walk: Walk, node: Node, path: Path) -> Any:
        if not walk.is_mapping(node, path):
            return self.stand_in
        values = self._values(walk, node, path)
        for key, attribute, stand_in in self._required:
            if attribute not in values:
                walk.problems.add(line_of(node), (path, key), "is missing")
                values[attribute] = stand_in
        if self._is_placed:
            values["place"] = Place(node, path, walk.problems.source)
        return self._cls(**values)

    def prepare(self, walk: Walk, node: Node, texts: Mapping[int, int]) -> Prepared:
        if not walk.is_mapping(node, None):
            raise NotPrepared
        fields: dict[str, Prepared] = {}
        for key, value in node.value:
            known = self._fields.get(key.value) if key.__class__ is ScalarNode else None
            if known is None or known.attribute in fields:
                raise NotPrepared
            if known.make_default is not None and value.__class__ is ScalarNode:
                raise NotPrepared  # nothing at all, or a problem
            fields[known.attribute] = remembering_groups(known.reader.prepare(walk, value, texts), value, texts)
        if any(attribute not in fields for _, attribute, _ in self._required):
            raise NotPrepared
        made, parts = self._cls, tuple(fields.items())
        return lambda texts: made(**{attribute: read(texts) for attribute, read in parts})

    def _values(self, walk: Walk, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        fields = self._fields
        for key, value in node.value:
            known = fields.get(key.value) if key.__class__ is ScalarNode else None
            if known is None or known.attribute in values:
                self._note_odd_key(walk, node, key, path)
                continue
            attribute, reader, make_default = known
            if make_default is not None and is_nothing(value):
                values[attribute] = make_default()
            else:
                values[attribute] = reader.read(walk, value, (path, key.value))
        return values

    def _note_odd_key(self, walk: Walk, node: MappingNode, key: Node, path: Path) -> None:
        if key.__class__ is not ScalarNode or key.value in self._fields:
            walk.add_odd_key(node, key, path)
        else:
            hint = walk.problems.suggestion(key.value, self._fields)
            walk.problems.add(line_of(key), (path, key.value), f"unknown key{hint}")


def _field_reader(field: types.Field) -> _FieldReader:
    reader = reader_of(field.type)
    is_collection = isinstance(reader, ListReader | MappingReader | RecordReader)
    return _FieldReader(
        field.name, reader, partial(_default_of, field) if is_collection and not field.required else None
    )


def _default_of(field: types.Field) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def reader_of(wanted: types.Type, extra: Mapping[str, Any] | None = None) -> Reader:
    """Return the reader for a type of `msgspec.inspect`.

    `extra` is what its annotations hold beside the type.
    """
    if isinstance(wanted, types.Metadata):
        return reader_of(wanted.type, {**(extra or {}), **(wanted.extra or {})})
    if isinstance(wanted, types.UnionType):
        return _union_reader(wanted, extra)
    if isinstance(wanted, types.StructType):
        return RecordReader(wanted)
    if isinstance(wanted, types.VarTupleType):
        item, least = reader_of(wanted.item_type), wanted.min_length or 0
        return OneOrMoreReader(item, least) if (extra or {}).get("or_one") else ListReader(item, least)
    if isinstance(wanted, types.DictType):
        return MappingReader(_check_of(wanted.key_type), reader_of(wanted.value_type))
    return _scalar_reader(wanted, extra or {})


def _union_reader(wanted: types.UnionType, extra: Mapping[str, Any] | None) -> Reader:
    members = [member for member in wanted.types if not isinstance(member, types.NoneType)]
    inner = reader_of(members[0], extra) if len(members) == 1 else _either_reader(members)
    return NullableReader(inner) if len(members) < len(wanted.types) else inner


def _either_reader(members: list[types.Type]) -> Reader:
    records = [member for member in members if isinstance(member, types.StructType)]
    if not records:
        return IdReader()  # a number or text
    single = next(member for member in members if not isinstance(member, types.StructType))
    return EitherReader(reader_of(single), RecordReader(records[0]))


def _check_of(wanted: types.Type) -> Check | None:
    extra = wanted.extra if isinstance(wanted, types.Metadata) else None
    check: Check | None = (extra or {}).get("check")
    return check


def _scalar_reader(wanted: types.Type, extra: Mapping[str, Any]) -> Reader:
    if isinstance(wanted, types.StrType):
        return TextReader(extra.get("check"), secret=extra.get("secret", False), min_length=wanted.min_length or 0)
    if isinstance(wanted, types.IntType | types.FloatType):
        return NumberReader(wanted)
    if isinstance(wanted, types.LiteralType):
        return ChoiceReader(tuple(str(value) for value in wanted.values))
    if isinstance(wanted, types.BoolType):
        return TruthReader()
    if isinstance(wanted, types.DateTimeType):
        return MomentReader()
    if isinstance(wanted, types.CustomType) and wanted.cls is Secret:
        return SecretReader(extra.get("check"))
    raise TypeError(f"no reader for {wanted}")  # a mistake in the shapes, found when this module is imported


_FILE_READER: Final = reader_of(FILE_TYPE)


def read_file(root: Node | None, walk: Walk) -> GatewayFile:
    """Read the whole file; all defaults where there is no root."""
    if root is None:
        return GatewayFile()
    file: GatewayFile = _FILE_READER.read(walk, root, None)
    return file
