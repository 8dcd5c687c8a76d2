"""The interfaces of stores: grants, and run-time documents.

`GrantStore` answers in records (a caller, a model); `RecordStore` keeps the documents behind those that may change
while the gateway runs: JSON in the shapes of gateway.yaml, by kind and id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import orjson

from gateway.pool import Cause
from gateway.types import ApiKey, Id, Model, Organisation, Plan, User, id_text

Kind = Literal["model", "user", "org", "plan", "key", "feature"]
KINDS: tuple[Kind, ...] = ("model", "user", "org", "plan", "key", "feature")

ENABLED, DISABLED = b"1", b"0"  # the documents of features

MOST_AUDIT_ENTRIES = 1000
MOST_COOLDOWN_RECORDS = 1000
COOLDOWN_RECORDS_KEPT_SECONDS = 24 * 3600

Change: TypeAlias = Callable[[bytes | None], bytes | None]
ChangeListener: TypeAlias = Callable[[Kind | None, str | None], None]


class Catalogue:
    """All models in order, found by id, public name or alias.

    `layers`: the file's models, then those made at run time. Where texts clash, an earlier layer holds over a later
    one; within one layer an id holds over a name and a name over an alias. So nothing made at run time takes over what
    gateway.yaml names.

    `is_complete` is False while the store of run-time models cannot be asked and none of them is remembered: a model
    that is not found may exist all the same.
    """

    __slots__ = ("_by_id", "_by_text", "_in_file", "is_complete", "models", "open_to_all")

    def __init__(self, *layers: Iterable[Model], is_complete: bool = True) -> None:
        self._by_id: dict[str, Model] = {}
        self._by_text: dict[str, Model] = {}
        self._in_file: frozenset[str] = frozenset()
        self.is_complete = is_complete
        for number, layer in enumerate(layers):
            self._add(tuple(layer))
            if number == 0:
                self._in_file = frozenset(self._by_id)
        self.models = tuple(self._by_id.values())
        self.open_to_all = tuple(model for model in self.models if model.is_global)

    def _add(self, models: tuple[Model, ...]) -> None:
        new = {id_text(model.id): model for model in models if id_text(model.id) not in self._by_id}
        self._by_id |= new
        names = {model.name: model for model in reversed(new.values())}
        aliases = {alias: model for model in reversed(new.values()) for alias in model.aliases}
        self._by_text = aliases | names | new | self._by_text

    def by_id(self, model_id: Id) -> Model | None:
        return self._by_id.get(id_text(model_id))

    def find(self, reference: Id) -> Model | None:
        """The model with this id, name or alias, in this order."""
        return self._by_text.get(id_text(reference))

    def is_in_file(self, model: Model) -> bool:
        """Whether gateway.yaml defines the model.

        The endpoints of other models may not lead to private addresses.
        """
        return id_text(model.id) in self._in_file

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self.models)} models, {len(self.open_to_all)} open to all>"


class GrantStore(Protocol):
    """What a store answers. Records are frozen; a change makes new ones.

    Where run-time records matter and can be neither read nor remembered, `key`, `user`, `organisation` and `plan` raise
    StoreUnavailable rather than saying that there is none.
    """

    async def catalogue(self) -> Catalogue:
        """The models, as they stand now."""

    async def key(self, sha256: str) -> ApiKey | None:
        """Return the key with this SHA-256, or None.

        In lower-case hex; expired or not.
        """

    async def user(self, user_id: Id) -> User:
        """Return the user; an unlisted one has the lowest tier.

        And no grants.
        """

    def user_id(self, text: str) -> Id:
        """Return the user id of a path's or header's text.

        In the type that the user is known by from the file.
        """

    async def organisation(self, organisation_id: str) -> Organisation | None: ...

    async def plan(self, plan_id: str) -> Plan | None: ...

    def age(self, kind: Kind, record_id: str) -> float | None:
        """Return the age of the run-time records used.

        Seconds since the store was asked for them; None where nothing of it is used.
        """

    async def feature(self, name: str) -> bool:
        """Whether a feature is on; on by default."""


class SharedCooldown(NamedTuple):
    """A cooldown that workers share.

    `cause` None: an admin ended it, and the endpoint is free again.
    """

    model_id: str
    endpoint_id: str
    cause: Cause | None
    until_epoch_ms: int


CooldownListener: TypeAlias = Callable[[SharedCooldown], None]


class StoreStatus(NamedTuple):
    """A store's status for `/readyz`.

    `detail` is what is wrong, None where nothing is; there is never a credential in it.
    """

    kind: Literal["embedded", "redis"]
    available: bool
    receives_changes: bool
    detail: str | None


class RecordStore(Protocol):
    """A store of run-time documents.

    Ids are text; a key's is its SHA-256 in lower-case hex, a feature's its name.

    Documents are bytes as they were written, by us or by a panel: `documents.parse_document` reads them. Every method
    that awaits raises StoreUnavailable where the store cannot be asked, within 0.25 s, and at once while it is known to
    be away. Listeners are called on the event loop, must not block, and must not raise.
    """

    @property
    def available(self) -> bool:
        """Whether asking makes sense now; while False, awaiting methods raise."""

    @property
    def identity(self) -> str:
        """Return a text that distinguishes this store from every other.

        One for all who share it at a time.
        """

    def on_identity(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the identity whenever it turns out to be another."""

    @property
    def receives_changes(self) -> bool:
        """Whether others' changes are received, so that caching is safe."""

    async def start(self) -> None:
        """Start background work, whether or not the store can be reached.

        A store that is away is no error: it is looked for from here on.
        """

    async def close(self) -> None:
        """End background work, close files and connections.

        What was pushed before is written first if it can be.
        """

    def surely_lacks(self, kind: Kind, record_id: str) -> bool:
        """Whether there is certainly no such document, without asking.

        False where that cannot be known.
        """

    async def get(self, kind: Kind, record_id: str) -> bytes | None: ...

    async def get_many(self, kind: Kind, record_ids: Sequence[str]) -> list[bytes | None]:
        """The documents in the order asked for."""

    async def put(self, kind: Kind, record_id: str, document: bytes) -> bytes | None:
        """Create or replace a document; return the one before."""

    async def delete(self, kind: Kind, record_id: str) -> bytes | None:
        """Return what was deleted, None where there was nothing."""

    async def update(self, kind: Kind, record_id: str, change: Change) -> bytes | None:
        """Replace a document by `change(document)` atomically; return the new one.

        `change` is given None where there is no document, and returns None to delete it. It must be pure: it may be
        called several times, and from another thread. What it raises comes out unchanged, and nothing is written.
        """

    async def ids(self, kind: Kind) -> list[str]:
        """Return all ids of a kind in `natural_order`.

        For models: those that are in the set of models.
        """

    async def append_audit(self, entry: bytes) -> None: ...

    async def audit(self, most: int) -> list[bytes]:
        """Newest first; 1,000 are kept."""

    def push_cooldown(self, record: bytes) -> None:
        """Keep a cooldown record for panels, without waiting or raising.

        Lost while the store is away.
        """

    async def cooldowns(self, most: int) -> list[bytes]:
        """Newest first; 1,000 are kept, for 24 hours."""

    def share_cooldown(self, cooldown: SharedCooldown) -> None:
        """Publish a cooldown to other workers, without waiting or raising.

        Those that start later too. Lost while the store is away.
        """

    def on_cooldown(self, listener: CooldownListener) -> None:
        """Call `listener` for other workers' cooldowns.

        As they come, and those in force whenever we connect anew.
        """

    def on_change(self, listener: ChangeListener) -> None:
        """Call `listener(kind, id)` after each change, our own included.

        An id of None stands for every record of the kind, a kind of None for everything: changes may have been
        missed.
        """

    def status(self) -> StoreStatus: ...


def natural_order(record_id: str) -> tuple[int, int, str]:
    """Return a sort key: numeric ids in order, then texts."""
    if record_id.isascii() and record_id.isdigit():
        return 0, int(record_id) if len(record_id) < 40 else 10**40, record_id
    return 1, 0, record_id


def storable(record_id: str) -> str:
    """Return the id, or an unused id for text outside UTF-8.

    Headers and paths may bring such.
    """
    return record_id if record_id.isascii() else record_id.encode("utf-8", "backslashreplace").decode()


class Page(NamedTuple):
    """A page of a listing.

    `next` is what to give as `after` for the page that follows; None at the end.
    """

    records: list[tuple[str, bytes]]
    next: str | None


_DOCUMENTS_AT_A_TIME = 500


async def page(store: RecordStore, kind: Kind, *, after: str | None = None, most: int = 100) -> Page:
    """Return a page of documents behind `after`, in `natural_order`.

    With their ids. Raises StoreUnavailable.
    """
    found = await store.ids(kind)
    if after is not None:
        found = [record_id for record_id in found if natural_order(record_id) > natural_order(after)]
    shown = found[:most]
    documents: list[bytes | None] = []
    for start in range(0, len(shown), _DOCUMENTS_AT_A_TIME):
        documents += await store.get_many(kind, shown[start : start + _DOCUMENTS_AT_A_TIME])
    records = [
        (record_id, document) for record_id, document in zip(shown, documents, strict=True) if document is not None
    ]
    return Page(records, shown[-1] if len(found) > most else None)


async def hash_of_key(store: RecordStore, key_id: str) -> str | None:
    """Find the SHA-256 of the run-time key with this `id`.

    None where there is none; of several the one that no other has replaced. Reads every key.
    """
    replaced = None
    async for sha256, fields in key_fields(store):
        given = fields.get("id")
        if (sha256 if given is None else str(given)) == key_id:
            if fields.get("replaced_by") is None:
                return sha256
            replaced = sha256
    return replaced


async def user_of_any_key(store: RecordStore, user_id: str) -> Id | None:
    """Find the user id that some run-time key names.

    As it is written there. Reads every key.
    """
    async for _, fields in key_fields(store):
        user = fields.get("user")
        if isinstance(user, int | str) and not isinstance(user, bool) and id_text(user) == user_id:
            return user
    return None


async def key_fields(store: RecordStore) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the SHA-256 and fields of each readable run-time key.

    None of one that cannot be read.
    """
    hashes = await store.ids("key")
    for start in range(0, len(hashes), _DOCUMENTS_AT_A_TIME):
        part = hashes[start : start + _DOCUMENTS_AT_A_TIME]
        for sha256, document in zip(part, await store.get_many("key", part), strict=True):
            if document is not None:
                yield sha256, _fields(document)


def _fields(document: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
