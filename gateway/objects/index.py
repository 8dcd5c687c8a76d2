"""The interface of the index of objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, Protocol, TypeAlias

from gateway.objects.record import Listing, ObjectRecord, Place, Unsettled

Order: TypeAlias = Literal["asc", "desc"]
Filter: TypeAlias = Callable[[ObjectRecord], bool]


class ObjectIndex(Protocol):
    """Whose an object is, and which account keeps it.

    Every method that awaits raises StoreUnavailable where it cannot tell (never "unknown" instead), within 0.25 s;
    what writes raises LedgerUnavailable where neither the store nor the journal takes it.
    """

    async def remember(self, records: Iterable[ObjectRecord]) -> frozenset[str]:
        """Remember objects, safe from `kill -9` once it returns.

        One that its owner has already is replaced (body, final, about, account; `created` and `model` stay where the
        new one has none). An id that is another's stays the first owner's: logged, counted and returned. While the
        store is away that is found out at the handover, and nothing is returned.
        """

    async def find(self, ids: Collection[str]) -> dict[str, ObjectRecord]:
        """Find objects by id, anyone's, without bodies.

        What is not in the answer is unknown. The caller compares owners.
        """

    async def forget(self, object_id: str) -> None:
        """Forget an object, after its upstream has deleted it."""

    def touch(self, records: Iterable[ObjectRecord]) -> None:
        """Note the use of found objects, without waiting.

        At most a write a day for each.
        """

    async def listed(
        self,
        owner: str,
        kind: str,
        *,
        limit: int,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
        where: Filter | None = None,
    ) -> Listing:
        """Return a page of an owner's objects by created, then id.

        `after`, `before`: ids that bound the page; one that is not in this list makes it empty. With `before` alone
        the page is what comes right before it.
        """

    # -- encrypted_content

    async def remember_content(self, hashes: Iterable[str], *, owner: str, account: str) -> None:
        """Remember at which account content was made, for 30 days."""

    async def find_content(self, hashes: Collection[str]) -> dict[str, Place]:
        """Find where content was made; unknown hashes are left out."""

    # -- homes

    async def home(self, owner: str) -> str | None:
        """Return the account label of a user's home, or None."""

    async def set_home(self, owner: str, account: str, *, instead_of: str | None = None) -> str:
        """Choose a home, and return the one that holds.

        The first choice wins over all workers, unless it is `instead_of`, whose account has left.
        """

    # -- work that is booked when it ends

    async def begin(self, work: Unsettled) -> None:
        """Remember work to be settled, safe from `kill -9`."""

    async def unsettled(self) -> list[Unsettled]:
        """Return all work that is not settled, the oldest first."""

    async def find_unsettled(self, object_id: str) -> Unsettled | None:
        """Return an object's unsettled work, or None."""

    async def settled(self, object_id: str) -> bool:
        """Forget settled work; True for the one caller that did.

        The row is booked first: the ledger takes a request's end once.
        """

    async def claim(self, seconds: float) -> bool:
        """Take or renew the lease on asking for running work.

        One worker of all has it at a time.
        """

    # -- life

    async def start(self) -> None:
        """Hand over what dead processes have left behind; begin nothing else."""

    @property
    def waiting_bytes(self) -> int:
        """What the store has not taken from the journal yet."""

    async def close(self) -> None:
        """Hand over what can be; the rest stays in the journal."""
