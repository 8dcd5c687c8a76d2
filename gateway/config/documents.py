"""Parse run-time records: JSON documents in the shapes of gateway.yaml.

Four things differ from the file. `${…}` is text like any other. What a document names (models, organisations, plans)
is looked up later, since it may come and go without the document being touched. An empty list or object may be written
as either, and whole numbers as `7.0`, since Lua and PHP write them so. And a panel's slips that harm nobody are
forgiven: fields that are not known are passed over, and an `id` that is missing is that of the document's key.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import msgspec
import orjson
from msgspec import inspect as types
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config import problems
from gateway.config.convert import make_key, make_limits, make_model
from gateway.config.crossrefs import check_alone
from gateway.config.problems import Path as KeyPath
from gateway.config.problems import path_text
from gateway.config.record_shapes import (
    GrantShape,
    KeyShape,
    ModelShape,
    OrganisationShape,
    PlanShape,
    Record,
    StoredKeyShape,
    UserShape,
)
from gateway.config.yaml.expand import Expander
from gateway.config.yaml.nodes import COLLECTION, PLAIN, QUOTED
from gateway.config.yaml.readers import reader_of
from gateway.config.yaml.scalars import Scalar
from gateway.config.yaml.values import Reader
from gateway.config.yaml.walk import Walk
from gateway.types import ApiKey, Id, Limits, Model, Organisation, Plan, User, id_from_text, id_text

RecordKind = Literal["model", "user", "org", "plan", "key"]

LONGEST_DOCUMENT_BYTES = 1 << 20

_MARK = Mark("document", 0, 0, 0, None, 0)
_LARGEST_WHOLE_FLOAT = 2**53
_LEVELS_OF_OWNERS = 4  # fields, grants, a grant, its limits
# How panels' languages write a truth. Of the rest nobody can tell what was meant: it never opens anything.
_TRUE, _FALSE = frozenset((True, 1, "1", "true")), frozenset((False, 0, "0", "false", ""))


class InvalidDocument(ValueError):
    """A document that cannot be used.

    `reasons` are of the form `path.to.key: what is wrong`, never with a secret.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Link(msgspec.Struct, frozen=True):
    """A grant as it is written, its model not yet resolved.

    `model` is an id, name or alias.
    """

    id: Id | None
    model: str
    limits: Limits | None


class Linked(msgspec.Struct, frozen=True):
    """A user, organisation or plan, and its unresolved grants.

    A user has an empty tier where none is given.
    """

    owner: User | Organisation | Plan
    links: tuple[Link, ...]


Parsed: TypeAlias = Model | ApiKey | Linked


class Reading(NamedTuple):
    """A record, and what was passed over in its document, in words.

    A model's `fallbacks` are as they were written: ids, names or aliases that have yet to be looked up.
    """

    record: Parsed
    ignored: tuple[str, ...]


def parse_document(kind: RecordKind, record_id: str, document: bytes) -> Reading:
    """Parse the record in `document`.

    `record_id` is the id in the document's key: for an API key its SHA-256 in hex.

    Raises InvalidDocument with every reason at once.
    """
    ignored: list[str] = []
    fields = _named(kind, record_id, _decoded(document), ignored)
    return Reading(_record(_read(kind, fields, ignored)), tuple(ignored))


class Switch(NamedTuple):
    """Whether a feature is on, and whether its document was valid."""

    is_on: bool
    is_understood: bool


def parse_feature(document: bytes) -> Switch:
    """Read `1` or `0`; anything else counts as `0`."""
    word = document.strip()
    return Switch(word == b"1", word in (b"1", b"0"))


def fields_in(document: bytes) -> dict[str, Any]:
    """Return a document's fields, whole numbers as such.

    Raises InvalidDocument.
    """
    fields: dict[str, Any] = _with_whole_numbers(_decoded(document), levels=_LEVELS_OF_OWNERS)
    return fields


def _decoded(document: bytes) -> dict[str, Any]:
    if len(document) > LONGEST_DOCUMENT_BYTES:
        raise InvalidDocument(f"larger than {LONGEST_DOCUMENT_BYTES:,} bytes")
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise InvalidDocument("not valid JSON") from None
    if fields == []:
        return {}
    if not isinstance(fields, dict):
        raise InvalidDocument("not a JSON object")
    return fields


def _with_whole_numbers(value: Any, *, levels: int) -> Any:
    if levels and isinstance(value, dict):
        return {name: _with_whole_numbers(each, levels=levels - 1) for name, each in value.items()}
    if levels and isinstance(value, list):
        return [_with_whole_numbers(each, levels=levels - 1) for each in value]
    return _whole(value)


def _whole(value: Any) -> Any:
    """Lua has no other numbers than floats."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE_FLOAT
    return int(value) if is_whole else value


def _named(kind: RecordKind, record_id: str, fields: dict[str, Any], ignored: list[str]) -> dict[str, Any]:
    """The fields with the identity that the document's key gives them."""
    if kind in ("key", "user"):
        fields = _switched(kind, fields, ignored)
    if kind == "key":
        ignored += [name for name in ("hash", "key") if name in fields]
        bare = {name: value for name, value in fields.items() if name not in ("hash", "key") and value is not None}
        return {"id": record_id} | bare | {"hash": f"sha256:{record_id}"}
    given = fields.get("id")
    if isinstance(given, str | int) and str(given) == record_id:
        return fields
    if given is not None:
        ignored.append("id (another than that of the document's key)")
    return fields | {"id": id_from_text(record_id)}


def _switched(kind: RecordKind, fields: dict[str, Any], ignored: list[str]) -> dict[str, Any]:
    """Merge a panel's `enabled` and a key's `revoked` into one.

    In doubt it is off.
    """
    enabled, revoked = fields.get("enabled"), fields.get("revoked") if kind == "key" else None
    if enabled is None and revoked is None:
        return fields
    for name, value in (("enabled", enabled), ("revoked", revoked)):
        if value is not None and not _is_truth(value):
            ignored.append(f"{name} (neither true nor false; the {kind} counts as switched off)")
    is_on = _is_one_of(_TRUE, enabled) and _is_one_of(_FALSE, revoked)
    kept = {name: value for name, value in fields.items() if kind != "key" or name != "revoked"}
    return kept | {"enabled": is_on}


def _is_one_of(truths: Container[object], value: object) -> bool:
    """Whether the value is absent or one of these truths."""
    return value is None or (_is_truth(value) and value in truths)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool | int | float | str) and (value in _TRUE or value in _FALSE)


class _LiteralWalk(Walk):
    """Takes every text as it is written."""

    def scalar(self, node: Node, expected: str) -> Scalar:
        if isinstance(node, ScalarNode) and node.tag == QUOTED:
            return Scalar(node.value, "text")
        return super().scalar(node, expected)


class _Reasons(problems.Problems):
    """Problems of a document, where every line is the first."""

    def __init__(self) -> None:
        super().__init__("")
        self.reasons: list[str] = []

    def add(self, line: int, path: KeyPath, reason: str) -> None:
        self.reasons.append(f"{path_text(path)}: {reason}")


class _Shape(NamedTuple):
    type: types.Type
    reader: Reader


def _shape(record: type[Record]) -> _Shape:
    described = types.type_info(record)
    return _Shape(described, reader_of(described))


_SHAPES: Final[Mapping[str, _Shape]] = {
    "model": _shape(ModelShape),
    "user": _shape(UserShape),
    "org": _shape(OrganisationShape),
    "plan": _shape(PlanShape),
    "key": _shape(StoredKeyShape),
}


def _read(kind: RecordKind, fields: dict[str, Any], ignored: list[str]) -> Record:
    shape, reasons = _SHAPES[kind], _Reasons()
    root = _Tree(ignored).node(fields, shape.type, None)
    record = cast(Record, shape.reader.read(_LiteralWalk(reasons, Expander({}, Path())), root, None))
    check_alone(record, reasons)
    if reasons.reasons:
        raise InvalidDocument(*reasons.reasons)
    return record


class _Tree:
    """Build the nodes that the readers of gateway.yaml read.

    As deep as the shapes go, however deep a document is.
    """

    def __init__(self, ignored: list[str]) -> None:
        self._ignored = ignored

    def node(self, value: Any, wanted: types.Type | None, path: KeyPath) -> Node:
        wanted = _bare(wanted)
        if value == [] and isinstance(wanted, types.DictType | types.StructType):
            value = {}
        elif value == {} and isinstance(wanted, types.VarTupleType):
            value = []
        if isinstance(value, dict):
            return MappingNode(COLLECTION, self._pairs(value, wanted, path), _MARK)
        if isinstance(value, list):
            return SequenceNode(COLLECTION, self._items(value, wanted, path), _MARK)
        if isinstance(value, str):
            return ScalarNode(QUOTED, value, _MARK)
        return ScalarNode(PLAIN, "null" if value is None else str(_whole(value)).lower(), _MARK)

    def _pairs(self, value: dict[str, Any], wanted: types.Type | None, path: KeyPath) -> list[tuple[Node, Node]]:
        if isinstance(wanted, types.DictType):
            return [self._pair(name, each, wanted.value_type, path) for name, each in value.items()]
        if not isinstance(wanted, types.StructType):
            return []
        known = _fields(wanted.cls)
        self._ignored += [path_text((path, name)) for name in value if name not in known]
        return [self._pair(name, each, known[name], path) for name, each in value.items() if name in known]

    def _pair(self, name: str, value: Any, wanted: types.Type | None, path: KeyPath) -> tuple[Node, Node]:
        return ScalarNode(QUOTED, name, _MARK), self.node(value, wanted, (path, name))

    def _items(self, value: list[Any], wanted: types.Type | None, path: KeyPath) -> list[Node]:
        if not isinstance(wanted, types.VarTupleType):
            return []
        return [self.node(each, wanted.item_type, (path, index)) for index, each in enumerate(value)]


@cache
def _fields(struct: type) -> Mapping[str, types.Type | None]:
    described = types.type_info(struct)
    assert isinstance(described, types.StructType)  # noqa: S101 - narrows the type; it comes from one
    return {field.encode_name: _bare(field.type) for field in described.fields if field.name != "place"}


def _bare(wanted: types.Type | None) -> types.Type | None:
    """The type itself, without annotations, `None` or single values beside it."""
    while isinstance(wanted, types.Metadata | types.UnionType):
        if isinstance(wanted, types.Metadata):
            wanted = wanted.type
        else:
            members = [member for member in wanted.types if not isinstance(member, types.NoneType)]
            wanted = next((each for each in members if isinstance(each, types.StructType)), members[0])
    return wanted


def _record(shape: Record) -> Parsed:
    if isinstance(shape, ModelShape):
        return make_model(shape, [id_text(name) for name in shape.fallbacks])
    if isinstance(shape, KeyShape):
        return make_key(shape)
    return Linked(_owner(shape), tuple([_link(grant) for grant in shape.grants]))


def _owner(shape: UserShape | OrganisationShape | PlanShape) -> User | Organisation | Plan:
    if isinstance(shape, UserShape):
        return User(
            id=shape.id,
            tier=shape.tier or "",
            name=shape.name,
            organisations=tuple([id_text(member) for member in shape.organisations]),
            plans=tuple([id_text(member) for member in shape.plans]),
            enabled=shape.enabled,
        )
    made = Organisation if isinstance(shape, OrganisationShape) else Plan
    return made(id=shape.id, name=shape.name)


def _link(shape: GrantShape) -> Link:
    return Link(shape.id, id_text(shape.model), make_limits(shape.limits))
