"""`${VAR}`, `${VAR:-default}` and `${file:PATH}` inside text; `$${` stands for a literal `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.config.problems import Refused, shown
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint

_MAX_FILE_BYTES = 1 << 20
# Of all values of a file together: a line can name a large one many times.
MOST_EXPANDED_CHARACTERS = 16 << 20

# `$${` first, so that it is not read as a `$` and an opening.
_OPENING = re.compile(r"\$\$\{|\$\{(?P<inner>[^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>.*))?", re.DOTALL)
_FILE_PREFIX = "file:"


class Expander:
    """Expands references in the values of one file, in one environment."""

    def __init__(self, environ: Mapping[str, str], base_dir: Path) -> None:
        self._environ = environ
        self._base_dir = base_dir
        self._room = MOST_EXPANDED_CHARACTERS
        self._texts: dict[str, str] = {}  # of files, by the name that is written
        self.files: dict[str, Fingerprint | None] = {}

    def expand(self, text: str) -> str:
        """Expand references in a text; raise `Refused` for missing ones.

        It names the variable or file that is missing; never with a value in its text.

        Notes in `files` which ones were looked for, and what they were like just before.
        """
        return _OPENING.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        inner = match["inner"]
        if inner is None:
            raise Refused("a `${` that is not closed, or has braces inside (write `$${` for a literal one)")
        is_file = inner.startswith(_FILE_PREFIX)
        value = self._file_text(inner.removeprefix(_FILE_PREFIX)) if is_file else self._variable(inner)
        self._room -= len(value)
        if self._room < 0:
            raise Refused(f"all `${{…}}` together stand for more than {MOST_EXPANDED_CHARACTERS:,} characters")
        return value

    def _variable(self, inner: str) -> str:
        reference = _VARIABLE.fullmatch(inner)
        if reference is None:
            raise Refused(
                "a `${…}` that is neither ${NAME}, ${NAME:-default} nor ${file:PATH} (`$${` is a literal `${`)"
            )
        value = self._environ.get(reference["name"])
        if reference["has_default"]:
            return value or reference["default"]  # as in a shell, an empty variable takes the default too
        if value is None:
            raise Refused(f"the environment variable {reference['name']} is not set")
        return value

    def _file_text(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = self._text_of(name)
        return self._texts[name]

    def _text_of(self, name: str) -> str:
        try:
            path = self._base_dir / name
            self.files[str(path)] = fingerprint(path)
            return self._read(path).decode().rstrip("\r\n")
        except OSError as error:
            raise Refused(f"the file {shown(name)} cannot be read: {error.strerror or 'not a usable name'}") from None
        except ValueError:  # a NUL in the name, or bytes that are not UTF-8
            raise Refused(f"the file {shown(name)} cannot be read as UTF-8 text") from None

    @staticmethod
    def _read(path: Path) -> bytes:
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise OSError(0, "not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise OSError(0, f"larger than {_MAX_FILE_BYTES:,} bytes")
        return data


def has_reference(text: str) -> bool:
    """Whether `text` holds a `${…}`, an escaped `$${` aside."""
    return "${" in text.replace("$${", "")
