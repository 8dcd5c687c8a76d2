"""Measures the gateway's source files without importing any of them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

GATEWAY = Path(__file__).parents[2] / "gateway"
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Measured(NamedTuple):
    """One function: its place, the lines of its body, and its cyclomatic complexity, nested functions apart."""

    place: str
    lines: int
    complexity: int


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(GATEWAY.rglob("*.py")))


def inside(path: Path) -> str:
    """The path as the house knows it: `proxy/pipeline.py`."""
    return str(path.relative_to(GATEWAY))


@cache
def functions() -> tuple[Measured, ...]:
    return tuple(_measured())


def _measured() -> Iterator[Measured]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                place = f"{inside(path)}:{node.lineno} {node.name}"
                yield Measured(place, _body_lines(node), 1 + sum(map(_branches, _own_nodes(node))))


def _body_lines(node: Function) -> int:
    """Lines of the body without its docstring."""
    first = node.body[1] if len(node.body) > 1 and ast.get_docstring(node) is not None else node.body[0]
    return (node.end_lineno or 0) - first.lineno + 1


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, BRANCHES))


def summaries() -> Iterator[tuple[str, str]]:
    """Each docstring's place and its first paragraph, in one line."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and (text := ast.get_docstring(node)):
                place = f"{inside(path)} {getattr(node, 'name', '')}".rstrip()
                yield place, " ".join(text.split("\n\n")[0].split())


def files_by_folder() -> Counter[str]:
    return Counter(inside(path.parent) for path in modules())


def repeated_names() -> Counter[str]:
    names = Counter(path.name for path in modules() if path.name != "__init__.py")
    return Counter({name: count for name, count in names.items() if count > 1})


def lines_by_file() -> Counter[str]:
    return Counter({inside(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()})
