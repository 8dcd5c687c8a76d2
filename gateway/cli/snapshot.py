"""Read the embedded store beside the gateway that holds it.

As it is at one moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from gateway.errors import StoreUnavailable
from gateway.store.base import (
    Change,
    ChangeListener,
    CooldownListener,
    Kind,
    SharedCooldown,
    StoreStatus,
    natural_order,
    storable,
)
from gateway.store.embedded import BUSY_SECONDS, FILE_NAME


class Snapshot:
    """A read-only `RecordStore` of documents in memory.

    By kind and id.
    """

    identity = ""

    def __init__(self, documents: Mapping[tuple[str, str], bytes] | None = None) -> None:
        self._documents = dict(documents or {})

    @classmethod
    def of_directory(cls, directory: Path) -> Snapshot:
        """Read the documents of this directory's gateway. Raises StoreUnavailable.

        Nothing where none has run.

        It asks for no lock that a gateway would miss.
        """
        file = directory / FILE_NAME
        try:
            if not file.exists():
                return cls()
            address = f"{file.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as database:
                rows = database.execute("SELECT kind, id, document FROM records").fetchall()
        except (sqlite3.Error, OSError) as error:
            reason = str(error) if os.access(file, os.R_OK) else "it belongs to the user that runs the gateway"
            raise StoreUnavailable(f"{file} cannot be read: {reason}.") from None
        return cls({(kind, record_id): document for kind, record_id, document in rows})

    @property
    def available(self) -> bool:
        return True

    @property
    def receives_changes(self) -> bool:
        return True

    def on_identity(self, listener: Callable[[str], None]) -> None:
        """It stays what it is."""

    async def start(self) -> None:
        """Nothing to begin."""

    async def close(self) -> None:
        """Nothing is open."""

    def surely_lacks(self, kind: Kind, record_id: str) -> bool:
        return (kind, storable(record_id)) not in self._documents

    async def get(self, kind: Kind, record_id: str) -> bytes | None:
        return self._documents.get((kind, storable(record_id)))

    async def get_many(self, kind: Kind, record_ids: Sequence[str]) -> list[bytes | None]:
        return [await self.get(kind, record_id) for record_id in record_ids]

    async def ids(self, kind: Kind) -> list[str]:
        return sorted((record_id for of, record_id in self._documents if of == kind), key=natural_order)

    async def put(self, kind: Kind, record_id: str, document: bytes) -> NoReturn:
        _refuse()

    async def delete(self, kind: Kind, record_id: str) -> NoReturn:
        _refuse()

    async def update(self, kind: Kind, record_id: str, change: Change) -> NoReturn:
        _refuse()

    async def append_audit(self, entry: bytes) -> NoReturn:
        _refuse()

    async def audit(self, most: int) -> list[bytes]:
        return []

    async def cooldowns(self, most: int) -> list[bytes]:
        return []

    def push_cooldown(self, record: bytes) -> None:
        """Do nothing: no endpoint cools here."""

    def share_cooldown(self, cooldown: SharedCooldown) -> None:
        """There is no other worker."""

    def on_cooldown(self, listener: CooldownListener) -> None:
        """There is no other worker."""

    def on_change(self, listener: ChangeListener) -> None:
        """Nothing changes."""

    def status(self) -> StoreStatus:
        return StoreStatus("embedded", True, True, None)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self._documents)} documents>"


def _refuse() -> NoReturn:
    raise StoreUnavailable("This is a copy of the store, for reading only.")
