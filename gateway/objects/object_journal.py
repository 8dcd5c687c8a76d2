"""The journal of objects: what the store has not taken yet.

Segments as the ledger's (a file lock says whose they are), in a directory of their own. Each change is one `write`,
safe from `kill -9` once it has returned; a loss of power may cost what the system had not written out. When the store
has taken everything, the file is cut to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.config.private_files import make_private_directory
from gateway.errors import JournalUnavailable, LedgerUnavailable
from gateway.objects.changes import DECODER, Operation, to_line
from gateway.usage.journal.lines import scanned
from gateway.usage.journal.segments import SUFFIX, Segment, claim_all, close_all, other_owners

MAX_BYTES = 256 * 1024 * 1024
_READ_BYTES = 128 * 1024  # read and parsed on the event loop


class ObjectJournal:
    """One process's segment, and those of the dead that it has adopted."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Raise JournalUnavailable where no journal can be kept."""
        self.directory = directory
        self._owner = os.urandom(8).hex()
        self._max_bytes = max_bytes
        self._adopted: list[Segment] = []
        try:
            make_private_directory(directory)
            self._segment = Segment.create(directory, self._owner, 1)
        except OSError as error:
            raise JournalUnavailable(f"no journal can be kept in {directory}: {error.strerror or error}") from error

    @property
    def size_bytes(self) -> int:
        return self._segment.size_bytes

    @property
    def has_adopted(self) -> bool:
        return bool(self._adopted)

    def append(self, operations: Sequence[Operation]) -> None:
        """Raise LedgerUnavailable where the disk takes nothing."""
        line = b"".join(map(to_line, operations))
        if self._segment.size_bytes + len(line) > self._max_bytes:
            raise LedgerUnavailable("The journal of objects is full; try again in a moment.")
        try:
            self._segment.write(line)
        except OSError as error:
            raise LedgerUnavailable("The journal of objects cannot be written at the moment.") from error

    def clear(self) -> None:
        """Cut the segment to nothing: the store has taken all of it."""
        if self._segment.size_bytes:
            self._segment.cut(0)
        if self._segment.is_lost():
            self._begin_anew()

    def _begin_anew(self) -> None:
        with suppress(OSError):
            make_private_directory(self.directory)
            following = Segment.create(self.directory, self._owner, self._segment.number + 1)
            self._segment.close()
            self._segment = following

    def operations(self) -> Iterator[list[Operation]]:
        """Read this process's operations back, in order."""
        yield from _operations(self._segment)

    # -- what others have left

    def others_hold_any(self) -> bool:
        """Whether another process's journal holds what its store has not taken."""
        with suppress(OSError), os.scandir(self.directory) as entries:
            return any(
                entry.stat().st_size > 0
                for entry in entries
                if entry.name.endswith(SUFFIX) and not entry.name.startswith(self._owner)
            )
        return False

    def adopt(self) -> bool:
        """Lock the segments of processes that are dead; whether there are any."""
        with suppress(OSError):
            for owner in other_owners(self.directory, self._owner):
                self._adopted += claim_all(self.directory, owner) or []
        return self.has_adopted

    def adopted_operations(self) -> Iterator[list[Operation]]:
        for segment in self._adopted:
            yield from _operations(segment)

    def delete_adopted(self) -> None:
        """Delete what was adopted: the store has taken all of it."""
        for segment in self._adopted:
            segment.delete()
        self._adopted.clear()

    def close(self) -> None:
        """Close the files; what is not handed over awaits the next process."""
        close_all(self._adopted)
        if self._segment.size_bytes:
            self._segment.close()
        else:
            self._segment.delete()

    def __repr__(self) -> str:
        return f"<ObjectJournal {self._owner}, {self.size_bytes} bytes>"


def _operations(segment: Segment) -> Iterator[list[Operation]]:
    """Yield the intact operations, in parts."""
    position, size = 0, _READ_BYTES
    while data := segment.read(position, size):
        found = scanned(data, DECODER)
        if found.records:
            yield found.records
        if found.consumed == 0:  # a line longer than what was read, or the torn end
            if len(data) < size:
                return
            size *= 2
        position += found.consumed
