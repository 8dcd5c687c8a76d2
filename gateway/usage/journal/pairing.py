"""Pair admissions with settlements, in any order, into rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.usage.journal.lines import scan
from gateway.usage.journal.records import Admission, CarriedAdmission, Record, Settlement
from gateway.usage.journal.segments import Segment
from gateway.usage.sql.rows import Row, interrupted, row_of

READ_BYTES = 32 * 1024  # at once: about 150 records, under a millisecond of the interpreter's time
MOST_EARLY = 10_000


class Tail:
    """Reads a segment's records as they are written."""

    __slots__ = ("damaged", "offset", "segment")

    def __init__(self, segment: Segment, offset: int = 0) -> None:
        self.segment = segment
        self.offset = offset
        self.damaged = 0

    def read(self) -> Iterator[list[Record]]:
        """What has come since the last time, a few records at once."""
        end = self.segment.size_bytes
        wanted = READ_BYTES
        while self.offset < end:
            data = self.segment.read(self.offset, min(wanted, end - self.offset))
            found = scan(data)
            self.offset += found.consumed
            self.damaged += found.damaged
            yield found.records
            if found.consumed == 0:  # a record longer than what was read, or one that was never finished
                if len(data) < wanted:
                    return
                wanted *= 2

    def is_torn(self) -> bool:
        """Whether a dead segment's last record was cut off.

        Of one that is written to no longer.
        """
        return self.offset < self.segment.size_bytes


class Pairing:
    """The requests under way, by id.

    Each with the newest segment that holds its admission.
    """

    def __init__(self, under_way: dict[str, tuple[Admission, int]] | None = None) -> None:
        self._open = dict(under_way or {})
        self._early: dict[str, Settlement] = {}

    def __len__(self) -> int:
        return len(self._open)

    def rows(self, records: Iterable[Record], segment: int) -> list[Row]:
        """Take the records in. Returns the rows that they complete."""
        found = (self._row(record, segment) for record in records)
        return [row for row in found if row is not None]

    def _row(self, record: Record, segment: int) -> Row | None:
        if isinstance(record, Settlement):
            admitted = self._open.pop(record.request_id, None)
            if record.deferred:
                return None
            if admitted is not None:
                return row_of(admitted[0], record)
            self._keep_early(record)
            return None
        settlement = self._early.pop(record.request_id, None)
        if settlement is not None:
            return row_of(record, settlement)
        self._open[record.request_id] = record, segment
        return None

    def _keep_early(self, settlement: Settlement) -> None:
        """Keep a settlement whose admission has not come.

        It comes later (it was kept in memory, or carried) or never (it was damaged).
        """
        if len(self._early) >= MOST_EARLY:
            del self._early[next(iter(self._early))]
        self._early[settlement.request_id] = settlement

    def held_back_by(self, segment: int) -> list[Admission]:
        """Return the open admissions up to this segment.

        They would be lost with it.
        """
        return [admission for admission, newest in self._open.values() if newest <= segment]

    def moved_to(self, segment: int, admissions: Iterable[Admission]) -> None:
        """The admissions are in this segment, too."""
        for admission in admissions:
            self._open[admission.request_id] = admission, segment

    def request_ids(self) -> list[str]:
        return list(self._open)

    def interrupted(self, request_ids: Iterable[str] | None = None) -> list[Row]:
        """Return rows for requests whose process is dead.

        They will never be settled.
        """
        ids = self._open if request_ids is None else request_ids
        admissions = [self._open[request_id][0] for request_id in ids]
        return [row_of(admission, interrupted(admission)) for admission in admissions]


def carried(admission: Admission) -> CarriedAdmission:
    return CarriedAdmission(*(getattr(admission, name) for name in admission.__struct_fields__))
