"""Hand finished rows to the writer in memory.

From the event loop; the journal is not read for them.

Each record is taken into this account under the journal's lock, together with its writing: whatever is in a segment is
known here, too, and a segment may go once everything in it is stored. Memory is bounded: beyond `most` finished rows
(the database is away) they are in the journal alone, and are read back from there, from the gap on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gateway.usage.journal.journal import Journal
from gateway.usage.journal.lines import scan, to_line
from gateway.usage.journal.records import Admission, Settlement
from gateway.usage.sql.rows import Row, row_of

MOST_FINISHED = 10_000  # under 10 MB


class Request(msgspec.Struct, gc=False):
    """One request on its way through the ledger.

    `segment`: the newest that is known to hold its admission.
    """

    admission: Admission
    segment: int
    settlement: Settlement | None = None  # None while it is under way


def _deferred(request_id: str) -> Settlement:
    return Settlement(request_id, None, None, 0, "ok", deferred=True)


class Gap(NamedTuple):
    """Where the journal alone has ends, and the open requests.

    Those under way there.
    """

    segment: int
    offset: int
    open: dict[str, tuple[Admission, int]]


class Handover:
    """Hand rows from the event loop to the writer.

    `admit` and `settle` are for the event loop's thread, everything else is for the writer's.
    """

    def __init__(self, journal: Journal, *, most: int = MOST_FINISHED, serves_on: bool = False) -> None:
        self.settled_rows = 0
        self.gap: Gap | None = None
        self._journal = journal
        self._write = journal.admit_or_retain if serves_on else journal.admit
        self._most = most
        self._open: dict[str, Request] = {}  # by id
        self._finished: deque[Request] = deque()

    def __len__(self) -> int:
        """How many finished rows wait in memory."""
        return len(self._finished)

    @property
    def open_requests(self) -> int:
        return len(self._open)

    @property
    def is_empty(self) -> bool:
        return not self._open and not self._finished and self.gap is None

    # -- on the request's way

    def admit(self, admission: Admission) -> None:
        """Raise JournalUnavailable, unless the gateway serves on without a journal."""
        line = to_line(admission)
        journal = self._journal
        with journal.lock:
            self._write(line)
            self._open[admission.request_id] = Request(admission, journal.current.number)

    def settle(self, settlement: Settlement) -> None:
        line = to_line(settlement)
        journal, finished = self._journal, self._finished
        with journal.lock:
            self.settled_rows += 1
            request = self._open.pop(settlement.request_id, None)
            if request is not None and self.gap is None:
                if len(finished) < self._most:
                    request.settlement = settlement
                    finished.append(request)
                else:
                    self._open_gap(request)
            journal.settle(line, is_elsewhere=self.gap is None)

    def defer(self, request_id: str) -> None:
        """End a request without a row; `book` writes it."""
        line = to_line(_deferred(request_id))
        with self._journal.lock:
            self._open.pop(request_id, None)
            self._journal.settle(line, is_elsewhere=True)

    def book(self, admission: Admission, settlement: Settlement) -> None:
        """Write a whole row at once, of work that went on.

        Idempotent by request id, over processes too: the database takes the first.
        """
        line = to_line(admission) + to_line(settlement)
        with self._journal.lock:
            self.settled_rows += 1
            if self.gap is None:
                request = Request(admission, self._journal.current.number, settlement)
                if len(self._finished) < self._most:
                    self._finished.append(request)
                else:
                    self._open_gap(request)
            self._journal.settle(line, is_elsewhere=self.gap is None)

    def _open_gap(self, ending: Request) -> None:
        current = self._journal.current
        under_way = {
            request.admission.request_id: (request.admission, request.segment) for request in self._open.values()
        }
        under_way[ending.admission.request_id] = ending.admission, ending.segment
        self.gap = Gap(current.number, current.size_bytes, under_way)

    # -- behind it

    def take(self, most: int) -> list[Row]:
        """Take the oldest finished rows.

        They are kept nowhere else from then on.
        """
        finished = self._finished
        taken = [finished.popleft() for _ in range(min(most, len(finished)))]
        return [row_of(each.admission, each.settlement) for each in taken if each.settlement is not None]

    def held_back_by(self, segment: int) -> list[Admission] | None:
        """Return the open admissions up to this segment.

        They would be lost with it and the ones before it.

        None: a finished row would be, too, so that the segment has to stay for now.
        """
        with self._journal.lock:
            if self.gap is not None or any(request.segment <= segment for request in self._finished):
                return None
            return [request.admission for request in self._open.values() if request.segment <= segment]

    def moved_to(self, segment: int, admissions: Iterable[Admission]) -> None:
        """The admissions are in this segment, too."""
        with self._journal.lock:
            for admission in admissions:
                request = self._open.get(admission.request_id)
                if request is not None:
                    request.segment = segment

    def drop_retained(self) -> None:
        """Drop retained lines of rows that are stored.

        Of what the disk refused, only the admissions under way are still needed.
        """
        if not self._journal.retained():
            return
        with self._journal.lock:
            if self._finished or self.gap is not None:
                return
            for record in scan(self._journal.take_retained()).records:
                if record.request_id in self._open and isinstance(record, Admission):
                    self._journal.retain(to_line(record))

    def ended_among(self, request_ids: Iterable[str]) -> list[str]:
        """Return those that are under way no longer.

        For the holder of the journal's lock.
        """
        return [request_id for request_id in request_ids if request_id not in self._open]
