"""Keep one process's segments: the newest is appended to.

The older ones wait until all of theirs is in the database.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from gateway.config.private_files import make_private_directory
from gateway.errors import JournalUnavailable
from gateway.usage.journal.segments import Segment

SEGMENT_BYTES = 16 * 1024 * 1024


class OwnSegments:
    """The segments of a living process, for any of its threads.

    `older_bytes` is the size of the complete ones. `lock` is held while bytes are appended, and by whoever keeps an
    account of the segments and changes it together with them.
    """

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Begin the first segment. Raises JournalUnavailable."""
        self.directory = directory
        self.owner = os.urandom(8).hex()
        self.lock = threading.RLock()
        self._segment_bytes = segment_bytes
        try:
            make_private_directory(directory)
            self.current = Segment.create(directory, self.owner, 1)
        except OSError as error:
            raise JournalUnavailable(f"no journal can be kept in {directory}: {reason_of(error)}") from error
        self._all = [self.current]
        self.older_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self.older_bytes + self.current.size_bytes

    def all(self) -> list[Segment]:
        """Oldest first. All but the last are complete."""
        with self.lock:
            return list(self._all)

    def rotate_if_due(self) -> bool:
        """Begin a new segment where the current one is full.

        Or its file was deleted by someone.

        Raises JournalUnavailable; then the current one goes on being used.
        """
        current = self.current
        if current.size_bytes < self._segment_bytes and not current.is_lost():
            return False
        try:
            make_private_directory(self.directory)
            following = Segment.create(self.directory, self.owner, current.number + 1)
        except OSError as error:
            raise JournalUnavailable(f"no new segment can be made: {reason_of(error)}") from error
        with self.lock:
            self._all.append(following)
            self.current = following
            self.older_bytes += current.size_bytes  # second: who asks without the lock must not count it twice
        with contextlib.suppress(OSError):  # moved to the database and deleted already
            current.sync()
        return True

    def sync(self) -> None:
        """Has the disk keep everything that was appended so far. Raises JournalUnavailable."""
        try:
            self.current.sync()
        except OSError as error:
            raise JournalUnavailable(f"the disk does not confirm the journal: {reason_of(error)}") from error

    def forget(self, segment: Segment) -> None:
        """Forget a complete segment that its reader has removed.

        Deleted or set aside.
        """
        with self.lock:
            self._all.remove(segment)
            self.older_bytes -= segment.size_bytes

    def close(self, *, keep: bool) -> None:
        """Close all segments; kept ones await replay.

        By the next process.
        """
        with self.lock:
            for segment in self._all:
                if keep:
                    segment.close()
                else:
                    segment.delete()

    def __repr__(self) -> str:
        return f"<OwnSegments {self.owner}, {self.used_bytes} bytes in {len(self._all)}>"


def reason_of(error: OSError) -> str:
    return error.strerror or str(error)
