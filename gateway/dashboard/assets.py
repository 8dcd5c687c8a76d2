"""The files of `static/`, read once and compressed once."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).with_name("static")
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HASH_CHARACTERS = 12


class Asset(NamedTuple):
    """A file as it is served."""

    content_type: str
    body: bytes
    compressed: bytes


class Assets:
    """All files by their path; `version` hashes them all."""

    def __init__(self, directory: Path = STATIC) -> None:
        self._files: dict[str, Asset] = {}
        digest = hashlib.sha256()
        for file in sorted(directory.rglob("*")):
            content_type = TYPES.get(file.suffix)
            if content_type is not None and file.is_file():
                name, body = file.relative_to(directory).as_posix(), file.read_bytes()
                digest.update(f"{name}\0{len(body)}\0".encode() + body)
                self._files[name] = Asset(content_type, body, gzip.compress(body, mtime=0))
        self.version = digest.hexdigest()[:_HASH_CHARACTERS]

    def find(self, name: str) -> Asset | None:
        return self._files.get(name)

    def names(self) -> list[str]:
        return list(self._files)

    def url(self, name: str) -> str:
        """Return the address of a file, which changes with any of them."""
        return f"/dashboard/static/{self.version}/{name}"

    def __repr__(self) -> str:
        return f"<Assets: {len(self._files)} files, {self.version}>"
