"""The house stays one that a newcomer can read: short functions, small files and folders, names that say one thing."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from statistics import median

from house_kit import GATEWAY, files_by_folder, functions, lines_by_file, repeated_names


def over(measured: Counter[str], bound: int) -> dict[str, int]:
    return {name: count for name, count in measured.items() if count > bound}


def test_functions_are_short() -> None:
    assert median(each.lines for each in functions()) <= 6


def test_hardly_any_function_is_complex() -> None:
    found = [each for each in functions() if each.complexity > 12]
    assert len(found) <= 3, found


def test_files_are_short() -> None:
    assert over(lines_by_file(), 350) == {}


def test_folders_are_small() -> None:
    assert over(files_by_folder(), 14) == {}


def test_hardly_any_file_name_occurs_twice() -> None:
    assert len(repeated_names()) <= 5, repeated_names()


def test_the_top_of_the_house_is_almost_empty() -> None:
    assert files_by_folder()["."] <= 6


def test_the_list_of_a_rooms_files_names_files_that_are_there() -> None:
    """A room's docstring is its map: what it names must be found beside it, and all that is there must be named."""
    wrong = []
    for init in GATEWAY.rglob("*/__init__.py"):
        named = set(re.findall(r"\b([a-z_]+\.py)\b", ast.get_docstring(ast.parse(init.read_text())) or ""))
        there = {path.name for path in init.parent.glob("*.py")} - {"__init__.py"}
        if named and named != there:
            wrong.append(f"{init.parent.name}: {sorted(named ^ there)}")
    assert wrong == []


def test_what_the_map_of_the_house_names_is_there() -> None:
    text = ast.get_docstring(ast.parse((GATEWAY / "__init__.py").read_text())) or ""
    places = re.findall(r"\b((?:[a-z_]+/)+[a-z_]+\.py)\b", text)
    assert places
    assert [place for place in places if not (GATEWAY / place).exists()] == []


def test_what_a_room_offers_is_there() -> None:
    """A name in `__all__` that is not there is found out by whoever imports everything."""
    for init in GATEWAY.rglob("*/__init__.py"):
        module = importlib.import_module(".".join(init.parent.relative_to(GATEWAY.parent).parts))
        assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == [], module.__name__
