"""Count what several processes have on one disk, without a server.

Each has a small file with its count, which it holds locked as long as it lives: a count whose lock is free is a dead
process's, and is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
from pathlib import Path

_PREFIX, _SIZE = "share-", 8
_NUMBER = struct.Struct("<q")


class Shares:
    """This process's count (`own`), and those of all together (`total`).

    Its file is made at the first count; without a directory it counts for itself alone.
    """

    __slots__ = ("_descriptor", "_directory", "_map", "_path", "own")

    def __init__(self, directory: Path) -> None:
        self.own = 0
        self._directory = directory
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        self._path: Path | None = None

    def add(self, size: int) -> None:
        """Count more, or less."""
        self.own += size
        if self._map is None:
            with contextlib.suppress(OSError):
                self._make()
        if self._map is not None:
            _NUMBER.pack_into(self._map, 0, self.own)

    def total(self) -> int:
        """Sum the counts of all living processes."""
        found = self.own
        try:
            others = [each for each in self._directory.glob(f"{_PREFIX}*") if each != self._path]
        except OSError:
            return found
        return found + sum(map(_count_in, others))

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, _NUMBER.pack(self.own))
        # Seen under its name only once it is locked, lest another take it for a dead process's.
        self._path = Path(name).with_name(_PREFIX + Path(name).name.removeprefix(".new-"))
        os.rename(name, self._path)
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, _SIZE)

    def __repr__(self) -> str:
        return f"<Shares: {self.own:,} bytes of our own>"


def _count_in(path: Path) -> int:
    """Return the count in a process's file; remove a dead one's."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        data = os.pread(descriptor, _SIZE, 0)
        return max(0, _NUMBER.unpack(data)[0]) if len(data) == _SIZE else 0
    except OSError:
        return 0
    else:
        return 0
    finally:
        os.close(descriptor)
