"""The house stays one that a newcomer can read: short functions, small files and folders, names that say one thing."""

from __future__ import annotations

from collections import Counter
from statistics import median

from house_kit import files_by_folder, functions, lines_by_file, repeated_names


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
