"""What is carried between stores, in one form for all places."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import orjson

from gateway.store.base import KINDS as RECORD_KINDS

Kind = Literal[
    "model", "user", "org", "plan", "key", "feature",
    "object", "content", "home", "work",
    "alert", "delivery", "episode", "receiver",
]  # fmt: skip
KINDS: tuple[Kind, ...] = (
    *RECORD_KINDS,
    "object",  # what an upstream keeps: owner, account, last seen body
    "content",  # by hash: where `encrypted_content` was made
    "home",  # of a user: the account of what is made without a model
    "work",  # batches and background responses that are not booked yet
    "alert",  # by name: so that none is made twice
    "delivery",  # an alert that a receiver has not taken yet
    "episode",  # what an alert began and none has ended
    "receiver",  # one that wants no more
)
NAMES: dict[str, tuple[str, str]] = {  # in words, one and many
    "model": ("model", "models"),
    "user": ("user", "users"),
    "org": ("organisation", "organisations"),
    "plan": ("plan", "plans"),
    "key": ("key", "keys"),
    "feature": ("feature", "features"),
    "object": ("object", "objects"),
    "content": ("content's place", "contents' places"),
    "home": ("home", "homes"),
    "work": ("unsettled work", "unsettled works"),
    "alert": ("alert", "alerts"),
    "delivery": ("alert's delivery", "alerts' deliveries"),
    "episode": ("alert's episode", "alerts' episodes"),
    "receiver": ("stopped receiver", "stopped receivers"),
    "audit": ("audit entry", "audit entries"),
}
AT_A_TIME = 500
_NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


class Entry(NamedTuple):
    """One thing that was made at run time.

    `value`: JSON; of records the document as it was written. `expires`: seconds since 1970, where the store itself
    forgets it then.
    """

    kind: Kind
    id: str
    value: bytes
    expires: float | None = None


Progress: TypeAlias = Callable[[str, int, int | None], None]  # the step, how many are done, of how many if it is known


class Depot(Protocol):
    """One end of a copy. What awaits raises StoreUnavailable."""

    @property
    def name(self) -> str:
        """What it is called in messages; never with a credential."""

    def batches(self) -> AsyncIterator[list[Entry]]:
        """Yield all entries, a few at a time."""

    async def get(self, entries: Sequence[Entry]) -> list[Entry | None]:
        """Return what is there under the same kinds and ids."""

    async def put(self, entries: Sequence[Entry]) -> None:
        """Write entries that are not there yet, durably."""

    async def delete(self, entries: Sequence[Entry]) -> None:
        """Delete entries as they were read."""

    async def count(self) -> int: ...

    def stored(self, entry: Entry) -> Entry:
        """Return an entry as this place would keep it."""

    async def audit(self) -> list[bytes]:
        """Newest first."""

    async def set_audit(self, entries: Sequence[bytes], instead_of: Sequence[bytes]) -> bool:
        """Replace the trail, newest first; False where it has changed meanwhile."""

    async def close(self) -> None: ...


def are_alike(wanted: Entry, found: Entry) -> bool:
    """Whether both say the same.

    When the store forgets it apart: clocks of two places agree to no millisecond.
    """
    if wanted.value == found.value or on_one_line(wanted.value) == on_one_line(found.value):
        return True
    is_folded = wanted.kind == "key" and wanted.expires is not None
    return is_folded and _without_expiry(wanted.value) == _without_expiry(found.value)


def on_one_line(document: bytes) -> bytes:
    """Write JSON without line ends.

    They stand between tokens alone: within a text they are escaped.
    """
    return document.strip().translate(_NO_LINE_ENDS)


def _without_expiry(document: bytes) -> object:
    with suppress(orjson.JSONDecodeError):
        fields: Any = orjson.loads(document)
        if isinstance(fields, dict):
            return {name: value for name, value in fields.items() if name != "expires"}
    return document


def counted(kind: str, number: int) -> str:
    """Write `1 key`, `2 keys`."""
    one, many = NAMES[kind]
    return f"{number:,} {one if number == 1 else many}"
