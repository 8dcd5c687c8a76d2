"""Find run-time keys in a store that is not in use.

A gateway that is switched from one store to the other does not know them any more.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from gateway.config import Settings
from gateway.config.private_files import open_private
from gateway.store.embedded import FILE_NAME

COPIED_NAME = "copied"
_BUSY_SECONDS = 0.2


def warning_of(settings: Settings) -> str | None:
    """Name keys left in an embedded store, and what to run.

    Nothing is asked over the network; a copy leaves a note of what it has copied.
    """
    if settings.store.kind != "redis":
        return None
    directory = Path(settings.store.path)
    hashes = key_hashes(directory)
    if not hashes or _noted(directory) == _digest(hashes):
        return None
    count = f"{len(hashes):,} key{'s' if len(hashes) != 1 else ''}"
    return (
        f"store.kind is redis, but {count} made at run time {'is' if len(hashes) == 1 else 'are'} in the embedded "
        f"store in {directory}; `gateway store copy embedded redis -c {settings.source}` copies what is there"
    )


def note_copied(directory: Path) -> None:
    """Note which keys of an embedded store have been copied, beside it."""
    with suppress(OSError):
        descriptor = open_private(directory / COPIED_NAME, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "w") as file:
            file.write(_digest(key_hashes(directory)) + "\n")


def key_hashes(directory: Path) -> list[str]:
    """Return the SHA-256 of each run-time key that can be read."""
    file = directory / FILE_NAME
    with suppress(sqlite3.Error, OSError):
        if file.exists():
            address = f"{file.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as database:
                rows = database.execute("SELECT id FROM records WHERE kind = 'key' ORDER BY id")
                return [row[0] for row in rows]
    return []


def _digest(hashes: list[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _noted(directory: Path) -> str:
    try:
        return (directory / COPIED_NAME).read_text("ascii", "replace").strip()
    except OSError:
        return ""
