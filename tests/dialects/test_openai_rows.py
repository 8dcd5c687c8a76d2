"""The table of routes holds everything that the official library can ask for, or says why not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import openai as library
import pytest

from gateway.dialects.openai import KEPT_OPERATIONS, NOT_SERVED, OPERATIONS, why_not_served

RESOURCES = Path(library.__file__).parent / "resources"
VERBS = {"_get": "GET", "_post": "POST", "_delete": "DELETE", "_put": "PUT", "_patch": "PATCH", "_get_api_list": "GET"}
ROWS = {(row.method, re.sub(r"\{\w+\}", "{}", row.path)) for row in (*OPERATIONS, *KEPT_OPERATIONS)}
OURS = {("GET", "/models"), ("GET", "/models/{}")}  # answered here


def asked_by_the_library() -> Iterator[tuple[str, str]]:
    """Method and path of each request that one of the library's resources makes."""
    for file in RESOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                path = _path(node.args[0]) if node.args else None
                yield from () if path is None else [(_method(node), re.sub(r"\{\w+\}", "{}", path.partition("?")[0]))]


def _path(argument: ast.expr) -> str | None:
    if isinstance(argument, ast.Call) and argument.args:  # path_template("/files/{file_id}", file_id=file_id)
        argument = argument.args[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def _method(call: ast.Call) -> str:
    named = [word.value for word in call.keywords if word.arg == "method"]
    if named and isinstance(named[0], ast.Constant):
        return str(named[0].value).upper()
    assert isinstance(call.func, ast.Attribute)
    return VERBS[call.func.attr]


ASKED = sorted(set(asked_by_the_library()))


def test_the_library_was_read() -> None:
    assert len(ASKED) > 200
    assert ("POST", "/chat/completions") in ASKED
    assert ("GET", "/vector_stores/{}/files/{}/content") in ASKED


@pytest.mark.parametrize(("method", "path"), ASKED, ids=" ".join)
def test_each_request_of_the_library_has_a_row_or_a_reason(method: str, path: str) -> None:
    is_served = (method, path) in ROWS | OURS
    assert is_served != (why_not_served(method, path) is not None), f"{method} {path}"


def test_each_reason_is_for_something() -> None:
    """A prefix that hides nothing would hide the next thing that comes under it."""
    spelled = {f"{method} {path}" for method, path in ASKED}
    for stem in NOT_SERVED:
        assert any(each == stem or f" {stem}" in each or each.startswith(f"{stem}/") for each in spelled), stem


def test_no_row_is_there_twice() -> None:
    assert len(ROWS) == len(OPERATIONS) + len(KEPT_OPERATIONS)
    names = [row.name for row in (*OPERATIONS, *KEPT_OPERATIONS)]
    assert sorted(set(names)) == sorted(names)


def test_each_first_segment_says_whose_object_it_is() -> None:
    """What nobody is asked about could be anybody's."""
    for row in KEPT_OPERATIONS:
        assert not row.segments or row.segments[0].kind is not None, row.path
        assert len(row.segments) == row.path.count("{")
