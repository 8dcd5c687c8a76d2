"""Changes that the journal holds and the store has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from gateway.objects.changes import Drop, Operation, Put, PutContent
from gateway.objects.record import ObjectRecord, Place, merged

MOST_BYTES = 16 * 1024 * 1024  # held in memory; what comes beyond is read back from the journal
_OPERATION_BYTES = 1_000  # of an operation without its body, roughly


class Pending:
    """Changes in order, and what they say of each id.

    `overflowed`: some are in the journal alone, and nothing is known here of their ids.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.overflowed = False
        self.added = 0  # operations so far, by which a list knows what it waits for
        self._most_bytes = most_bytes
        self._bytes = 0
        self._waiting: deque[Operation] = deque()
        self._records: dict[str, tuple[ObjectRecord | None, int]] = {}  # None: deleted; with the number of the change
        self._places: dict[str, tuple[Place, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self.overflowed

    @property
    def taken(self) -> int:
        """The number of the last change that the store has taken."""
        return self.added - len(self._waiting)

    def add(self, operations: Iterable[Operation]) -> None:
        """Add changes that the journal has."""
        for operation in operations:
            size_bytes = _size_of(operation)
            if self.overflowed or self._bytes + size_bytes > self._most_bytes:
                self.overflowed = True
                continue
            self._bytes += size_bytes
            self.added += 1
            self._waiting.append(operation)
            self._note(operation)

    def next(self, most: int) -> list[Operation]:
        return [self._waiting[index] for index in range(min(most, len(self._waiting)))]

    def remove(self, operations: list[Operation]) -> None:
        """The store has taken the first changes."""
        for operation in operations:
            self._waiting.popleft()
            self._bytes -= _size_of(operation)
        taken = self.taken
        for operation in operations:
            if isinstance(operation, Put):
                _forget(self._records, operation.record.id, taken)
            elif isinstance(operation, Drop):
                _forget(self._records, operation.id, taken)
            elif isinstance(operation, PutContent):
                for each in operation.hashes:
                    _forget(self._places, each, taken)

    def knows(self, object_id: str) -> bool:
        return object_id in self._records

    def record(self, object_id: str) -> ObjectRecord | None:
        found = self._records.get(object_id)
        return None if found is None else found[0]

    def place(self, content_hash: str) -> Place | None:
        found = self._places.get(content_hash)
        return None if found is None else found[0]

    def _note(self, operation: Operation) -> None:
        if isinstance(operation, Put):
            record = operation.record.without_body()
            self._records[record.id] = merged(self.record(record.id), record), self.added
        elif isinstance(operation, Drop):
            self._records[operation.id] = None, self.added
        elif isinstance(operation, PutContent):
            self._places.update(dict.fromkeys(operation.hashes, (operation.place, self.added)))

    def __repr__(self) -> str:
        return f"<Pending: {len(self)} changes{', more in the journal' if self.overflowed else ''}>"


def _forget(
    known: dict[str, tuple[ObjectRecord | None, int]] | dict[str, tuple[Place, int]], key: str, taken: int
) -> None:
    found = known.get(key)
    if found is not None and found[1] <= taken:
        del known[key]


def _size_of(operation: Operation) -> int:
    body = operation.record.body if isinstance(operation, Put) else None
    return _OPERATION_BYTES + (len(body) if body else 0)
