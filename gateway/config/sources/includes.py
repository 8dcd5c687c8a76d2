"""Find the files that `include` names, and join them.

Lists of records join, in the order of the files; any other section may come once. Folders that were looked into are
watched like the files, so that a new one is taken up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

import msgspec
from yaml.nodes import MappingNode, ScalarNode

from gateway.config.problems import Place, Problems, Refused, shown
from gateway.config.schema import GatewayFile
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint
from gateway.config.yaml.walk import is_nothing

MOST_FILES = 10_000
_MAGIC = re.compile(r"[*?\[]")

Seen = dict[str, Fingerprint | None]


class Part(NamedTuple):
    """A file as read: its values, and its top node."""

    file: GatewayFile
    root: MappingNode


class Included(NamedTuple):
    """A file to read: the path, and its name in problems."""

    path: Path
    name: str


def included_files(
    main: GatewayFile, own: Path | None, problems: Problems, base_dir: Path, seen: Seen
) -> list[Included]:
    """Return the files that `include` names, sorted within each pattern.

    `own`: gateway.yaml itself, which no pattern means. `seen` gets the files and folders that were looked at, as they
    were just before.
    """
    root = Path(os.path.realpath(base_dir))
    known = {os.path.realpath(own)} if own is not None else set()
    found: list[Included] = []
    for index, pattern in enumerate(main.include):
        if not pattern:
            continue  # no text, or an empty one: it has been told
        place = main.place.inside("include", index)
        try:
            for path in _matches(pattern, base_dir, seen):
                real = os.path.realpath(path)
                if not Path(real).is_relative_to(root):
                    raise Refused(f"{shown(path)} is not below the folder of this file")
                if real not in known:
                    known.add(real)
                    seen[path] = fingerprint(path)
                    found.append(Included(Path(path), _name(problems.filename, path, base_dir)))
                if len(found) > MOST_FILES:
                    raise Refused(f"more than {MOST_FILES:,} files")
        except Refused as refused:
            problems.add_at(place, str(refused))
        except OSError as error:
            problems.add_at(place, f"cannot be looked up: {error.strerror or 'not a usable name'}")
        except ValueError:  # a NUL in the name
            problems.add_at(place, "cannot be looked up: not a usable name")
    return found


def _matches(pattern: str, base_dir: Path, seen: Seen) -> Iterator[str]:
    """Yield the files of a pattern, sorted. Raises Refused."""
    *folders, last = [part for part in pattern.split("/") if part not in ("", ".")] or [""]
    if not last or "**" in pattern:
        raise Refused("no name or pattern of files, such as keys/*.yaml (`**` has no meaning here)")
    at = ["/" if pattern.startswith("/") else str(base_dir)]
    for part in folders:
        at = list(filter(os.path.isdir, _inside(at, part, seen)))
    paths = sorted(filterfalse(os.path.isdir, _inside(at, last, seen)))
    if not paths and not _MAGIC.search(pattern):
        raise Refused("there is no such file")
    yield from paths


def _inside(folders: Iterable[str], part: str, seen: Seen) -> Iterator[str]:
    for folder in folders:
        yield from _children(folder, part, seen)


def _children(folder: str, part: str, seen: Seen) -> list[str]:
    """Return what matches in a folder; a pattern passes over hidden names."""
    if not _MAGIC.search(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            return [path]
        seen.setdefault(path, None)  # it may come
        return []
    seen.setdefault(folder, fingerprint(folder))
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    is_hidden = part.startswith(".")
    return [
        os.path.join(folder, name) for name in names if fnmatchcase(name, part) and name.startswith(".") <= is_hidden
    ]


def _name(main: str, path: str, base_dir: Path) -> str:
    return os.path.join(os.path.dirname(main), os.path.relpath(path, base_dir))


def joined(parts: Sequence[Part], problems: Problems) -> GatewayFile:
    """Join files into one; note what comes twice."""
    whole = msgspec.structs.replace(parts[0].file)  # what stands in for a file that cannot be used is shared
    places: dict[str, Place] = {}
    for number, (file, root) in enumerate(parts):
        for section in dict.fromkeys(_sections(root)):  # a key given twice in one file has been told
            here = file.place.inside(section)
            if number and section == "include":
                problems.add_at(here, "only the file that the gateway is started with may include others")
            elif section not in places:
                places[section] = here
                setattr(whole, section, getattr(file, section))
            elif isinstance(getattr(file, section), tuple):
                setattr(whole, section, getattr(whole, section) + getattr(file, section))
            elif here.source != places[section].source:
                before = problems.where(places[section], here)
                problems.add_at(here, f"is given twice (first at {before}); only lists may be in several files")
    if len(parts) > 1:
        whole.place = _JoinedPlace(whole.place, places)
    return whole


def _sections(root: MappingNode) -> Iterator[str]:
    """Yield the known sections that the file says something of."""
    for key, value in root.value:
        name = key.value if isinstance(key, ScalarNode) else "place"
        if name != "place" and name in GatewayFile.__struct_fields__ and not is_nothing(value):
            yield name


class _JoinedPlace(Place):
    """The top of several files, which knows where each section is."""

    __slots__ = ("_sections",)

    def __init__(self, top: Place, sections: Mapping[str, Place]) -> None:
        super().__init__(top.node, top.path, top.source)
        self._sections = sections

    def inside(self, *parts: str | int) -> Place:
        section = self._sections.get(str(parts[0])) if parts else None
        return super().inside(*parts) if section is None else section.inside(*parts[1:])
