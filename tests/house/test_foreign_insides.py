"""Of other people's libraries only what their documentation names is used: a patch release may move all the rest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "gateway"
# An underscore before a name that is documented all the same.
DOCUMENTED = {
    "_exit",  # os
    *("_asdict", "_fields", "_make", "_replace"),  # named tuples
    "_mapping",  # SQLAlchemy's rows
}
# What aiohttp's documentation imports.
OF_AIOHTTP = {"aiohttp", "aiohttp.web", "aiohttp.hdrs", "aiohttp.abc"}

TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HOUSE.rglob("*.py"))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.AST) -> Iterator[str]:
    """Private names that are made here: of functions, of classes' fields, and what is set on `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
                yield from (each.attr for each in ast.walk(target) if is_of_self(each))


def is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def foreign(tree: ast.AST, ours: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each private attribute that is none of ours, by dot or by `getattr` and its like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_of_self(node):
            name = node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
        ):
            name = str(getattr(node.args[1], "value", ""))
        else:
            continue
        if is_private(name) and name not in ours | DOCUMENTED:
            yield node.lineno, name


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def of_room(path: Path) -> set[str]:
    """The private names that the files of a folder make."""
    return {name for other, tree in TREES.items() if other.parent == path.parent for name in defined(tree)}


def test_no_private_attribute_of_a_foreign_class_is_used() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": name
        for path, tree in TREES.items()
        for line, name in foreign(tree, of_room(path))
    }
    assert found == {}


def test_what_is_private_of_self_was_made_by_us() -> None:
    """A subclass of a foreign class has that one's private attributes as well, and must not touch them."""
    ours = {name for tree in TREES.values() for name in defined(tree)}
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}": node.attr
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_of_self(node) and is_private(node.attr)
        if node.attr not in ours | DOCUMENTED
    }
    assert found == {}


def test_nothing_is_imported_from_the_insides_of_a_library() -> None:
    """No module with an underscore, of nobody; and of aiohttp only what its documentation imports."""
    for path, tree in TREES.items():
        for module in imports(tree):
            first, *parts = module.split(".")
            assert first == "gateway" or not any(map(is_private, parts)), f"{path}: {module}"
            if first == "aiohttp" and len(parts) > 0 and parts[0].islower():
                assert f"aiohttp.{parts[0]}" in OF_AIOHTTP, f"{path}: {module}"


@pytest.mark.parametrize(
    "line", ["request._message", "getattr(request, '_message')", "a.b()._c", "transport._sock.fileno()", "self.x._y"]
)
def test_an_offence_would_be_found(line: str) -> None:
    assert list(foreign(ast.parse(line), set()))
