"""What pyproject.toml admits, what CI installs (lock.txt) and the oldest it tests (minimum.txt) belong together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
OPTIONAL = [
    Requirement(text) for name in ("dev", "postgres", "mysql") for text in PROJECT["optional-dependencies"][name]
]
LOCK = (ROOT / "requirements" / "lock.txt").read_text()


def pinned(text: str) -> dict[str, str]:
    """Canonical name → version of each `name==version` line."""
    lines = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def lowest(requirement: Requirement) -> str:
    (bound,) = [each.version for each in requirement.specifier if each.operator == ">="]
    return bound


def test_the_lock_has_what_pyproject_asks_for() -> None:
    """A dependency that was added, or a bound that was raised, and a lock that was forgotten."""
    versions = pinned(LOCK)
    for requirement in (*NEEDED, *OPTIONAL):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), str(requirement)


def test_everything_in_the_lock_is_held_by_hashes_and_nothing_says_where_to_fetch_it() -> None:
    entries = re.split(r"^(?=[\w.-]+(?:\[[\w,-]+\])?==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(re.findall("==[^ ]", re.sub("#.*|;.*", "", LOCK)))
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_the_minimum_set_is_what_pyproject_calls_the_minimum() -> None:
    """So that a bound is never a guess: CI runs with exactly these."""
    oldest = pinned((ROOT / "requirements" / "minimum.txt").read_text())
    assert set(oldest) == {canonicalize_name(each.name) for each in NEEDED}
    for requirement in NEEDED:
        assert Version(oldest[canonicalize_name(requirement.name)]) == Version(lowest(requirement)), str(requirement)


@pytest.mark.parametrize("name", ["image", "build"])
def test_what_the_image_installs_is_the_locks(name: str) -> None:
    """Versions alike where both have a package, every file by its hash, and every extra but `dev` in the image."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    mine, locked = pinned(text), pinned(LOCK)
    common = mine.keys() & locked.keys()
    assert {each: mine[each] for each in common} == {each: locked[each] for each in common}
    assert text.count("--hash=sha256:") >= len(mine)
    if name == "image":
        extras = [text for extra, texts in PROJECT["optional-dependencies"].items() if extra != "dev" for text in texts]
        for requirement in (*NEEDED, *map(Requirement, extras)):
            assert canonicalize_name(requirement.name) in mine, str(requirement)
