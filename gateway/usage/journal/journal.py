"""Write down that a request began, and how it ended.

On the request's own way: each record is one `write`, safe from `kill -9` once it has returned. What was written
survives the process; what the disk keeps through a loss of power is what `sync` had told it to keep.

Under the same lock it is taken into memory, from where the writer takes it (`usage.handover`): whatever is in a segment
is known here, too, and a segment may go once everything in it is stored. Memory is bounded: beyond `most_finished` rows
(the database is away) they are in the journal alone, and are read back from there, from the gap on.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import NamedTuple, NoReturn
from zlib import crc32

import msgspec

from gateway.errors import JournalUnavailable
from gateway.usage.journal.lines import RECORD_START, without_surrogates
from gateway.usage.journal.own_segments import SEGMENT_BYTES, OwnSegments, reason_of
from gateway.usage.journal.records import Admission, Record, Settlement
from gateway.usage.journal.segments import cut_short

MOST_FINISHED = 10_000  # under 10 MB
RETAINED_LINES = 100_000
_NEVER_FINISHED = RECORD_START + b" " * 2_000  # left behind by a kill, it reads as a torn record

_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, gc=False):
    """One request on its way through the ledger.

    `segment`: the newest that is known to hold its admission.
    """

    admission: Admission
    segment: int
    settlement: Settlement | None = None  # None while it is under way


class Gap(NamedTuple):
    """Where the journal alone has ends, and the open requests.

    Those under way there.
    """

    segment: int
    offset: int
    open: dict[str, tuple[Admission, int]]


class Journal:
    """Append to one process's segments, and remember what is in them.

    `admit`, `settle`, `defer` and `book` are for the event loop's thread, the rest may be called from any. `max_bytes`
    bounds all segments together: beyond it nothing is admitted, but what was admitted may still be settled.
    `serves_on`: requests are served while it cannot be written, too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        retained_lines: int = RETAINED_LINES,
        most_finished: int = MOST_FINISHED,
        sync_each: bool = False,
        serves_on: bool = False,
    ) -> None:
        """Raise JournalUnavailable where no journal can be kept."""
        self.max_bytes = max_bytes
        self.error: str | None = None  # why the last write failed; None where it did not
        self.lost_lines = 0  # retained ones beyond the bound: gone for good
        self.settled_rows = 0
        self.open: dict[str, Request] = {}  # by id
        self.finished: deque[Request] = deque()
        self.gap: Gap | None = None
        self.segments = OwnSegments(directory, segment_bytes)
        self.lock = self.segments.lock
        self._retained: deque[bytes] = deque()
        self._retained_lines = retained_lines
        self._most_finished = most_finished
        self._sync_each = sync_each
        self._serves_on = serves_on
        self._turned_away_bytes = 0  # how long the record was that was last refused for the bound

    # -- on the request's way

    def admit(self, admission: Admission) -> None:
        """Write that a request begins, before its upstream is asked.

        Raises JournalUnavailable, unless the gateway serves on: then it is retained, and dies with the process.
        """
        line = to_line(admission)
        segments = self.segments
        with self.lock:
            try:
                if segments.older_bytes + segments.current.size_bytes + len(line) > self.max_bytes:
                    self._turn_away(line)
                self.append(line)
            except JournalUnavailable:
                if not self._serves_on:
                    raise
                self._retain_or_lose(line)
            self.open[admission.request_id] = Request(admission, segments.current.number)

    def settle(self, settlement: Settlement, *, before: bytes = b"") -> None:
        """Write how a request ended, before its answer's last byte.

        Never raises: what the disk does not take is retained. `before`: lines that are written with it.
        """
        line = before + to_line(settlement)
        finished = self.finished
        with self.lock:
            self.settled_rows += 1
            request = self.open.pop(settlement.request_id, None)
            if request is not None and self.gap is None:
                if len(finished) < self._most_finished:
                    request.settlement = settlement
                    finished.append(request)
                else:
                    self._open_gap(request)
            try:
                self.append(line)
            except JournalUnavailable:
                self._retain_or_lose(line, is_elsewhere=self.gap is None)

    def append(self, line: bytes) -> None:
        """Write all of the line or nothing. Raises JournalUnavailable.

        For the holder of the lock.
        """
        segment = self.segments.current
        try:
            written = os.write(segment.fd, line)
            if written != len(line):
                raise cut_short(written, line)
            segment.size_bytes += written
            if self._sync_each:
                segment.sync()
        except OSError as error:
            segment.cut(segment.size_bytes)
            self.error = f"the journal cannot be written: {reason_of(error)}"
            raise JournalUnavailable(self.error) from error
        self.error = None

    # -- besides

    def defer(self, request_id: str) -> None:
        """End a request without a row; `book` writes it."""
        line = to_line(Settlement(request_id, None, None, 0, "ok", deferred=True))
        with self.lock:
            self.open.pop(request_id, None)
            try:
                self.append(line)
            except JournalUnavailable:
                self.retain(line)

    def book(self, admission: Admission, settlement: Settlement) -> None:
        """Write a whole row at once, of work that went on.

        Idempotent by request id, over processes too: the database takes the first.
        """
        with self.lock:
            self.open[admission.request_id] = Request(admission, self.segments.current.number)
            self.settle(settlement, before=to_line(admission))

    def _open_gap(self, ending: Request) -> None:
        """Leave the ends from here on to the journal alone."""
        current = self.segments.current
        under_way = {
            request.admission.request_id: (request.admission, request.segment) for request in self.open.values()
        }
        under_way[ending.admission.request_id] = ending.admission, ending.segment
        self.gap = Gap(current.number, current.size_bytes, under_way)

    # -- where there is no room, or the disk refuses

    @property
    def admits(self) -> bool:
        """Whether the next record will probably be taken.

        As the last ones were, with the room that there is.
        """
        return self.error is None and self.segments.used_bytes + self._turned_away_bytes <= self.max_bytes

    def _turn_away(self, line: bytes) -> NoReturn:
        self._turned_away_bytes = len(line)
        raise JournalUnavailable(f"the journal has reached its bound of {self.max_bytes} bytes")

    def _retain_or_lose(self, line: bytes, *, is_elsewhere: bool = False) -> None:
        """Retain a line that the disk did not take.

        `is_elsewhere`: the row goes to the database from memory, and is not lost where there is no room for the line.
        """
        if not self.retain(line) and not is_elsewhere:
            self.lost_lines += 1

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
                self.append(self._retained[0])
                self._retained.popleft()
                taken += 1
        return taken

    def take_retained(self) -> bytes:
        """Hand over the retained lines.

        To be brought to the database without the journal.
        """
        with self.lock:
            lines = b"".join(self._retained)
            self._retained.clear()
        return lines

    def probe(self) -> None:
        """After a failed write: whether the disk takes records again. Raises JournalUnavailable.

        Without it, a gateway that is sent no requests because it is not well would never be found well again.
        """
        with self.lock:
            current = self.segments.current
            size_bytes = current.size_bytes
            self.append(_NEVER_FINISHED)
            current.cut(size_bytes)

    def carry(self, lines: bytes) -> None:
        """Append beyond the bound, because it lets older segments go. Raises JournalUnavailable."""
        with self.lock:
            self.append(lines)

    def __repr__(self) -> str:
        return f"<Journal {self.segments!r} of {self.max_bytes} bytes>"


def to_line(record: Record) -> bytes:
    """Encode a record; `lines` reads them back."""
    try:
        payload = _encode(record)
    except UnicodeEncodeError:  # half a surrogate pair: a header that was no UTF-8
        payload = _encode(without_surrogates(record))
    return b"\x1e%08x%b\n" % (crc32(payload), payload)  # `framed`, without a call: two lines a request
