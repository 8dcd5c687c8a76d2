"""Read this process's journal where memory had no room.

What had ended by then is read back (see `journal.journal`).
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.usage.handover import Handover
from gateway.usage.journal.journal import Gap, Journal
from gateway.usage.journal.lines import scan
from gateway.usage.journal.pairing import READ_BYTES, Pairing, Tail
from gateway.usage.journal.records import Admission, CarriedAdmission, Record
from gateway.usage.journal.segments import Segment
from gateway.usage.sql.rows import Row


class Following:
    """Follow the journal from a gap to its end.

    Then rows come from memory again.
    """

    def __init__(self, journal: Journal, handover: Handover) -> None:
        self._journal = journal
        self._handover = handover
        self._gap: Gap | None = None
        self._pairing = Pairing()
        self._tails: dict[int, Tail] = {}

    @property
    def is_behind(self) -> bool:
        return self._gap is not None

    @property
    def found_damage(self) -> bool:
        """Whether a present segment was read damaged."""
        return any(tail.damaged for tail in self._tails.values())

    def rows(self, gap: Gap) -> Iterator[list[Row]]:
        """Return newly settled rows; at the end, close the gap.

        Some of them at once.
        """
        if self._gap is not gap:
            self._gap, self._pairing = gap, Pairing(gap.open)
        for segment in self._journal.segments.all():
            if segment.number < gap.segment:
                continue
            for records in self._tail_of(segment).read():
                yield self._paired(records, segment.number)
        yield self._unwritten()
        yield self._close()

    def _tail_of(self, segment: Segment) -> Tail:
        tail = self._tails.setdefault(segment.number, Tail(segment))
        if self._gap is not None and segment.number == self._gap.segment:
            tail.offset = max(tail.offset, self._gap.offset)
        return tail

    def _paired(self, records: list[Record], segment: int) -> list[Row]:
        # Those that are carried are known, or settled already.
        return self._pairing.rows((each for each in records if not isinstance(each, CarriedAdmission)), segment)

    def _unwritten(self) -> list[Row]:
        """Return rows that the disk refuses to take.

        They go to the database without it.
        """
        self._journal.retry_retained()
        with self._journal.lock:
            return self._paired(scan(self._journal.take_retained()).records, self._journal.segments.current.number)

    def _close(self) -> list[Row]:
        """Read the rest with appends held, if it is little.

        Where it is not, the next round goes on.
        """
        with self._journal.lock:
            if self._unread_bytes() > READ_BYTES or self._journal.retained():
                return []
            current = self._journal.segments.current
            tail = self._tail_of(current)
            rows = [row for records in tail.read() for row in self._paired(records, current.number)]
            if self._unread_bytes() == 0:
                # Settled, and not found: the disk did not give the end back.
                lost = self._handover.ended_among(self._pairing.request_ids())
                rows += self._pairing.interrupted(lost)
                self._journal.gap = self._gap = None
                self._pairing = Pairing()
            return rows

    def _unread_bytes(self) -> int:
        tails = [
            self._tail_of(each)
            for each in self._journal.segments.all()
            if self._gap and each.number >= self._gap.segment
        ]
        return sum(tail.segment.size_bytes - tail.offset for tail in tails)

    # -- segments that go

    def held_back_by(self, segment: int) -> list[Admission]:
        return self._pairing.held_back_by(segment)

    def moved_to(self, segment: int, admissions: list[Admission]) -> None:
        self._pairing.moved_to(segment, admissions)

    def damage_in(self, segment: Segment) -> int:
        """Forget a complete segment; return its damaged records.

        As far as it was read.
        """
        tail = self._tails.pop(segment.number, None)
        if tail is None:
            return 0
        was_read_whole = self._gap is not None and segment.number >= self._gap.segment
        return tail.damaged + (was_read_whole and tail.is_torn())
