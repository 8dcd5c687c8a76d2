"""Append records to the journal, one `write` each.

On the request's own way, safe from `kill -9` once it has returned.

What was written survives the process; what the disk keeps through a loss of power is what `sync` had told it to keep.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from pathlib import Path

from gateway.config.private_files import make_private_directory
from gateway.errors import JournalUnavailable
from gateway.usage.journal.lines import RECORD_START
from gateway.usage.journal.segments import Segment

SEGMENT_BYTES = 16 * 1024 * 1024
RETAINED_LINES = 100_000
_NEVER_FINISHED = RECORD_START + b" " * 2_000  # left behind by a kill, it reads as a torn record


class Journal:
    """One process's segments.

    The newest is appended to, the older ones wait until all of theirs is in the database.

    What is on a request's way is for the event loop's thread, the rest may be called from any. `max_bytes` bounds all
    segments together: beyond it nothing is admitted, but what was admitted may still be settled.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        retained_lines: int = RETAINED_LINES,
        sync_each: bool = False,
    ) -> None:
        self.directory = directory
        self.owner = os.urandom(8).hex()
        self.max_bytes = max_bytes
        self.error: str | None = None  # why the last write failed; None where it did not
        self.lost_lines = 0  # retained ones beyond the bound: gone for good
        self._segment_bytes = segment_bytes
        self._retained_lines = retained_lines
        self._sync_each = sync_each
        self._turned_away_bytes = 0  # how long the record was that was last refused for the bound
        self.lock = threading.RLock()  # whoever keeps an account of the segments changes it together with them
        self._retained: deque[bytes] = deque()
        try:
            make_private_directory(directory)
            self.current = Segment.create(directory, self.owner, 1)
        except OSError as error:
            raise JournalUnavailable(f"no journal can be kept in {directory}: {_reason(error)}") from error
        self._segments = [self.current]
        self._older_bytes = 0  # of the complete segments

    @property
    def used_bytes(self) -> int:
        return self._older_bytes + self.current.size_bytes

    @property
    def admits(self) -> bool:
        """Whether the next record will probably be taken.

        As the last ones were, with the room that there is.
        """
        return self.error is None and self.used_bytes + self._turned_away_bytes <= self.max_bytes

    # -- on the request's way, for the holder of `lock`

    def admit(self, line: bytes) -> None:
        """Append within `max_bytes`. Raises JournalUnavailable."""
        if self._older_bytes + self.current.size_bytes + len(line) > self.max_bytes:
            self._turned_away_bytes = len(line)
            raise JournalUnavailable(f"the journal has reached its bound of {self.max_bytes} bytes")
        self._append(line)

    def settle(self, line: bytes, *, is_elsewhere: bool = False) -> None:
        """Append a settlement, or retain it. Never raises.

        In memory, until the disk takes it again.

        `is_elsewhere`: the row goes to the database from memory, and is not lost where there is no room for the line.
        """
        try:
            self._append(line)
        except JournalUnavailable:
            if not self.retain(line) and not is_elsewhere:
                self.lost_lines += 1

    def admit_or_retain(self, line: bytes) -> None:
        """Append an admission, or retain it in memory.

        For serving on without a journal: it dies with the process.
        """
        try:
            self.admit(line)
        except JournalUnavailable:
            if not self.retain(line):
                self.lost_lines += 1

    def _append(self, line: bytes) -> None:
        try:
            self.current.write(line)
            if self._sync_each:
                self.current.sync()
        except OSError as error:
            self.error = f"the journal cannot be written: {_reason(error)}"
            raise JournalUnavailable(self.error) from error
        self.error = None

    # -- behind it

    def carry(self, lines: bytes) -> None:
        """Append beyond the bound, because it lets older segments go. Raises JournalUnavailable."""
        with self.lock:
            self._append(lines)

    def retain(self, line: bytes) -> bool:
        """Retain the line in memory; False where there are too many.

        Until the disk takes it again.
        """
        with self.lock:
            has_room = len(self._retained) < self._retained_lines
            if has_room:
                self._retained.append(line)
            return has_room

    def retained(self) -> int:
        return len(self._retained)

    def retry_retained(self) -> int:
        """Append retained lines; return how many the disk took."""
        taken = 0
        with self.lock, contextlib.suppress(JournalUnavailable):
            while self._retained:
                self._append(self._retained[0])
                self._retained.popleft()
                taken += 1
        return taken

    def probe(self) -> None:
        """After a failed write: whether the disk takes records again. Raises JournalUnavailable.

        Without it, a gateway that is sent no requests because it is not well would never be found well again.
        """
        with self.lock:
            size_bytes = self.current.size_bytes
            self._append(_NEVER_FINISHED)
            self.current.cut(size_bytes)

    def take_retained(self) -> bytes:
        """Hand over the retained lines.

        To be brought to the database without the journal.
        """
        with self.lock:
            lines = b"".join(self._retained)
            self._retained.clear()
        return lines

    def segments(self) -> list[Segment]:
        """Oldest first. All but the last are complete."""
        with self.lock:
            return list(self._segments)

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
            raise JournalUnavailable(f"no new segment can be made: {_reason(error)}") from error
        with self.lock:
            self._segments.append(following)
            self.current = following
            self._older_bytes += current.size_bytes  # second: who asks without the lock must not count it twice
        with contextlib.suppress(OSError):  # moved to the database and deleted already
            current.sync()
        return True

    def sync(self) -> None:
        """Has the disk keep everything that was appended so far. Raises JournalUnavailable."""
        try:
            self.current.sync()
        except OSError as error:
            raise JournalUnavailable(f"the disk does not confirm the journal: {_reason(error)}") from error

    def forget(self, segment: Segment) -> None:
        """Forget a complete segment that its reader has removed.

        Deleted or set aside.
        """
        with self.lock:
            self._segments.remove(segment)
            self._older_bytes -= segment.size_bytes

    def close(self, *, keep: bool) -> None:
        """Close all segments; kept ones await replay.

        By the next process.
        """
        with self.lock:
            for segment in self._segments:
                if keep:
                    segment.close()
                else:
                    segment.delete()

    def __repr__(self) -> str:
        return f"<Journal {self.owner}, {self.used_bytes} of {self.max_bytes} bytes in {len(self._segments)} segments>"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
