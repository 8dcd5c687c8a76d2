"""A file's fingerprint, which changes whenever the file does."""

from __future__ import annotations

import os
from pathlib import Path

Fingerprint = tuple[int, int, int]


def fingerprint(path: str | Path) -> Fingerprint | None:
    """What changes whenever the file does; None while there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: no name that a file can have
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
