"""Segments: the journal's files, and how their owner is known.

`OWNER-NUMBER.journal`: the owner is one opened journal (a random name: process ids repeat in containers), which holds a
lock on each of its files for as long as it lives. A file whose lock is free belongs to a dead process. The locks are
`flock`, so the directory must be on a local disk, and a journal must be opened after the last `fork`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gateway.config.private_files import open_private

SUFFIX = ".journal"
SET_ASIDE_SUFFIX = ".damaged"
_NAME = re.compile(r"(?P<owner>[0-9a-f]{16})-(?P<number>[0-9]{8,})\.journal")
_sync_data = getattr(os, "fdatasync", os.fsync)  # not on every system


class _Name(NamedTuple):
    owner: str
    number: int


class Segment:
    """One open and locked file.

    `size_bytes` is what has been written to it whole.
    """

    __slots__ = ("fd", "number", "path", "size_bytes", "synced_bytes")

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.number = _name_of(path).number
        self.size_bytes = os.fstat(fd).st_size
        self.synced_bytes = 0

    @classmethod
    def create(cls, directory: Path, owner: str, number: int) -> Segment:
        """Create a file, locked before it is named. Raises OSError.

        By its name others look for abandoned ones.
        """
        path = directory / f"{owner}-{number:08d}{SUFFIX}"
        unnamed = path.with_suffix(".new")
        fd = open_private(unnamed, os.O_RDWR | os.O_APPEND | os.O_EXCL)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unnamed, path)
            _sync_directory(directory)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                unnamed.unlink()
            raise
        return cls(fd, path)

    @classmethod
    def claim(cls, path: Path) -> Segment | None:
        """Open and lock an abandoned file, or return None.

        None where its owner lives or another process was faster.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd, path)

    def write(self, data: bytes) -> None:
        """All of the data or nothing of it. Raises OSError."""
        try:
            written = os.write(self.fd, data)
        except OSError:
            self.cut(self.size_bytes)
            raise
        if written != len(data):
            self.cut(self.size_bytes)
            raise cut_short(written, data)
        self.size_bytes += written

    def cut(self, size_bytes: int) -> None:
        """Truncate what was written after.

        Where even this fails it is damage, which readers step over.
        """
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, size_bytes)
        with contextlib.suppress(OSError):
            self.size_bytes = os.fstat(self.fd).st_size
        self.synced_bytes = min(self.synced_bytes, self.size_bytes)

    def read(self, offset: int, most_bytes: int) -> bytes:
        return os.pread(self.fd, most_bytes, offset)

    def sync(self) -> None:
        """Has the disk keep what was written before this call. Raises OSError."""
        size_bytes = self.size_bytes
        if size_bytes == self.synced_bytes:
            return
        descriptor = os.dup(self.fd)  # the file may be closed by another thread while the disk is busy
        try:
            _sync_data(descriptor)
        finally:
            os.close(descriptor)
        self.synced_bytes = size_bytes

    def is_lost(self) -> bool:
        """Whether someone deleted the file while it was being written to."""
        return os.fstat(self.fd).st_nlink == 0

    def delete(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.close()

    def set_aside(self) -> Path:
        """Rename the file out of replay; return its new path.

        It is kept for people to look at.
        """
        kept = self.path.with_suffix(SET_ASIDE_SUFFIX)
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(kept)
        self.close()
        return kept

    def close(self) -> None:
        """Release the lock.

        The number of a closed file is soon another file's: it is forgotten.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __repr__(self) -> str:
        return f"<Segment {self.path.name}, {self.size_bytes} bytes{', closed' if self.fd < 0 else ''}>"


def cut_short(written: int, data: bytes) -> OSError:
    return OSError(f"only {written} of {len(data)} bytes were written: the disk is full")


def other_owners(directory: Path, ours: str) -> list[str]:
    """Everyone else whose segments lie in the directory, dead or alive."""
    return sorted({_name_of(path).owner for path in _segments_in(directory)} - {ours})


def claim_all(directory: Path, owner: str) -> list[Segment] | None:
    """Lock a dead owner's segments, oldest first.

    None where it lives, or another process replays it.
    """
    found = _paths_of(directory, owner)
    claimed: list[Segment] = []
    for path in found:
        segment = Segment.claim(path)
        if segment is None:
            break
        claimed.append(segment)
    # Listed again: the owner may have begun another segment before it died, or a faster replay may have deleted some.
    if claimed and len(claimed) == len(found) and found == _paths_of(directory, owner):
        return claimed
    close_all(claimed)
    return None


def close_all(segments: Iterable[Segment]) -> None:
    for segment in segments:
        segment.close()


def _paths_of(directory: Path, owner: str) -> list[Path]:
    mine = (path for path in _segments_in(directory) if _name_of(path).owner == owner)
    return sorted(mine, key=lambda path: _name_of(path).number)


def _segments_in(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]


def _name_of(path: Path) -> _Name:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"not a segment of a journal: {path.name}")
    return _Name(found["owner"], int(found["number"]))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
