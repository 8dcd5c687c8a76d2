"""Take finished rows over in memory, for the writer's thread.

The journal is not read for them: it remembers what it has written (`journal.journal`).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.usage.journal.journal import Journal, to_line
from gateway.usage.journal.lines import scan
from gateway.usage.journal.records import Admission
from gateway.usage.sql.rows import Row, row_of


class Handover:
    """What the journal remembers, for the writer's thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        """How many finished rows wait in memory."""
        return len(self._journal.finished)

    @property
    def is_empty(self) -> bool:
        return not self._journal.open and not self._journal.finished and self._journal.gap is None

    def take(self, most: int) -> list[Row]:
        """Take the oldest finished rows.

        They are kept nowhere else from then on.
        """
        finished = self._journal.finished
        taken = [finished.popleft() for _ in range(min(most, len(finished)))]
        return [row_of(each.admission, each.settlement) for each in taken if each.settlement is not None]

    def held_back_by(self, segment: int) -> list[Admission] | None:
        """Return the open admissions up to this segment.

        They would be lost with it and the ones before it.

        None: a finished row would be, too, so that the segment has to stay for now.
        """
        with self._journal.lock:
            if self._journal.gap is not None or any(request.segment <= segment for request in self._journal.finished):
                return None
            return [request.admission for request in self._journal.open.values() if request.segment <= segment]

    def moved_to(self, segment: int, admissions: Iterable[Admission]) -> None:
        """The admissions are in this segment, too."""
        with self._journal.lock:
            for admission in admissions:
                request = self._journal.open.get(admission.request_id)
                if request is not None:
                    request.segment = segment

    def drop_retained(self) -> None:
        """Drop retained lines of rows that are stored.

        Of what the disk refused, only the admissions under way are still needed.
        """
        if not self._journal.retained():
            return
        with self._journal.lock:
            if self._journal.finished or self._journal.gap is not None:
                return
            for record in scan(self._journal.take_retained()).records:
                if record.request_id in self._journal.open and isinstance(record, Admission):
                    self._journal.retain(to_line(record))

    def ended_among(self, request_ids: Iterable[str]) -> list[str]:
        """Return those that are under way no longer.

        For the holder of the journal's lock.
        """
        return [request_id for request_id in request_ids if request_id not in self._journal.open]
