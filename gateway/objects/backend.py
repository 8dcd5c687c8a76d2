"""The interface of the stores behind the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from gateway.objects.changes import Operation
from gateway.objects.record import ObjectRecord, Place, Unsettled


class Slice(NamedTuple):
    """Consecutive objects of a list, bodies included.

    `last`: where the next slice begins; None at the end. Records may be fewer than asked for all the same.
    """

    records: list[ObjectRecord]
    last: str | None


class Backend(Protocol):
    """A store of objects. What awaits raises StoreUnavailable."""

    # Whether other processes write too: what is remembered here may have changed there.
    is_shared: bool
    # How long a list may wait until earlier changes have reached the store.
    patience_seconds: float

    @property
    def is_settling(self) -> bool:
        """Whether others may still hand over what they remembered.

        While the store was away: what is not found may exist all the same.
        """

    def on_back(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the store may be asked again."""

    async def apply(self, operations: Sequence[Operation]) -> list[ObjectRecord]:
        """Apply changes in order, durably; return the objects that are another's.

        May be applied again, as a whole or in part.
        """

    async def get(self, ids: Collection[str]) -> dict[str, ObjectRecord]: ...

    async def touch(self, records: Sequence[ObjectRecord]) -> None:
        """Count the time for which objects are remembered from now."""

    async def slice(self, owner: str, kind: str, start: str | None, *, descending: bool, count: int) -> Slice | None:
        """Return what follows `start`; None where that is not in the list."""

    async def places(self, hashes: Collection[str]) -> dict[str, Place]: ...

    async def home(self, owner: str) -> str | None: ...

    async def set_home(self, owner: str, account: str, instead_of: str | None) -> str: ...

    async def unsettled(self) -> list[Unsettled]: ...

    async def find_unsettled(self, object_id: str) -> Unsettled | None: ...

    async def take_unsettled(self, object_id: str) -> bool: ...

    async def claim(self, holder: str, seconds: float) -> bool: ...

    async def close(self) -> None: ...
