"""Single values that the environment sets over the file: `GATEWAY__SERVER__PORT=9000`.

A name is the value's path, in capitals, with two underscores between its parts; the value is read as YAML. What it says
is put into the tree of nodes before that is read, so every check holds for it as for the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import inspect as types
from yaml.nodes import MappingNode, Node, ScalarNode

from gateway.config.problems import Problems, line_of
from gateway.config.schema import FILE_TYPE
from gateway.config.yaml.nodes import COLLECTION, YamlFault, compose
from gateway.config.yaml.walk import is_nothing
from gateway.types import Secret

PREFIX = "GATEWAY__"
_SEPARATOR = "__"
_MOST_CHARACTERS = 1 << 16
_COLLECTIONS = (types.VarTupleType, types.StructType, types.DictType)


class Override(NamedTuple):
    """A value that the environment sets: its variable and its path."""

    variable: str
    path: tuple[str, ...]
    node: ScalarNode
    is_secret: bool

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


def read_overrides(environ: Mapping[str, str], problems: Problems) -> list[Override]:
    """Read all `GATEWAY__…` variables; note those that fit nothing."""
    found: dict[tuple[str, ...], Override] = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        reason, override = _override(variable, environ[variable], problems)
        if override is None:
            problems.add_environment(variable, reason)
        elif override.path in found:
            problems.add_environment(variable, f"says the same value as {found[override.path].variable}")
        else:
            found[override.path] = override
    problems.overridden = {override.dotted: override.variable for override in found.values()}
    return list(found.values())


def _override(variable: str, text: str, problems: Problems) -> tuple[str, Override | None]:
    """Return the override, or the reason why there is none."""
    path = tuple(variable.removeprefix(PREFIX).lower().split(_SEPARATOR))
    reason, wanted = _type_at(path, problems)
    if wanted is None:
        return reason, None
    try:
        root = compose(text) if len(text) <= _MOST_CHARACTERS else None
    except YamlFault as fault:
        return f"YAML: {fault.reason}", None
    if root is None:
        root = compose("''" if text else "null")  # set to nothing
    if not isinstance(root, ScalarNode):
        return f"{'.'.join(path)} is a single value; a list or mapping is given", None
    root.value = root.value.replace("${", "$${")  # what stands in the environment is not looked up there again
    return "", Override(variable, path, root, _is_secret(wanted))


def _type_at(path: Sequence[str], problems: Problems) -> tuple[str, types.Type | None]:
    """Return the type of the value at `path`, or why none."""
    wanted: types.Type = FILE_TYPE
    for number, part in enumerate(path):
        here = _bare(wanted)
        where = ".".join(path[:number]) or "the file"
        if isinstance(here, types.StructType):
            fields = {field.encode_name: field.type for field in here.fields if field.name != "place"}
            if part not in fields:
                return f"{where} has no key {problems.quoted(part)}{_near(part, path[:number], fields, problems)}", None
            wanted = fields[part]
        elif isinstance(here, types.DictType) and part:
            wanted = here.value_type
        else:
            return f"{where} {_kind(here)}; the environment sets single values alone", None
    if isinstance(_bare(wanted), _COLLECTIONS):
        return f"{'.'.join(path)} {_kind(_bare(wanted))}; the environment sets single values alone", None
    return "", wanted


def _near(part: str, above: Sequence[str], names: Collection[str], problems: Problems) -> str:
    return problems.suggestion(part, [name for name in names if name]) if above or part else ""


def _kind(wanted: types.Type) -> str:
    if isinstance(wanted, types.VarTupleType):
        return "is a list"
    return "is a section" if isinstance(wanted, types.StructType | types.DictType) else "is a single value"


def _bare(wanted: types.Type) -> types.Type:
    """Return the type without its annotations and without null."""
    while True:
        if isinstance(wanted, types.Metadata):
            wanted = wanted.type
        elif isinstance(wanted, types.UnionType):
            members = [member for member in wanted.types if not isinstance(member, types.NoneType)]
            if len(members) > 1:
                return wanted
            wanted = members[0]
        else:
            return wanted


def _is_secret(wanted: types.Type) -> bool:
    bare = _bare(wanted)
    return isinstance(bare, types.CustomType) and bare.cls is Secret


def apply_overrides(root: MappingNode, overrides: Iterable[Override], filename: str) -> Iterator[str]:
    """Put overrides into the tree; yield where each came from."""
    for override in overrides:
        before = _put(root, override)
        value = "set" if override.is_secret else _shown(override.node)
        written = f" (over {filename}:{before})" if before else ""
        yield f"{override.dotted}: {value}, from {override.variable} in the environment{written}"


def _shown(node: ScalarNode) -> str:
    text: str = node.value.replace("$${", "${")
    return text if text.isprintable() and text else repr(text)


def _put(root: MappingNode, override: Override) -> int:
    """Return the line of what it replaces, or 0."""
    at: Any = root
    for part in override.path[:-1]:
        index = _index_of(at, part)
        if index is None or is_nothing(at.value[index][1]):
            section = MappingNode(COLLECTION, [], at.start_mark, at.end_mark)
            if index is None:
                at.value.append((_key(part, at), section))
            else:
                at.value[index] = (at.value[index][0], section)
            at = section
        else:
            at = at.value[index][1]
        if not isinstance(at, MappingNode):  # a problem of the file, which its reading will find
            return 0
    part, node = override.path[-1], override.node
    index = _index_of(at, part)
    if index is None:
        at.value.append((_key(part, at), ScalarNode(node.tag, node.value, at.start_mark, at.end_mark)))
        return 0
    key, old = at.value[index]
    at.value[index] = (key, ScalarNode(node.tag, node.value, old.start_mark, old.end_mark))
    return line_of(old)


def _index_of(node: MappingNode, part: str) -> int | None:
    for index, (key, _) in enumerate(node.value):
        if isinstance(key, ScalarNode) and key.value.lower() == part:
            return index
    return None


def _key(part: str, at: Node) -> ScalarNode:
    return ScalarNode("quoted", part, at.start_mark, at.end_mark)
