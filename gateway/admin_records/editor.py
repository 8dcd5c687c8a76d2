"""Change records: the caller, the stores, and the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
import orjson
from structlog.typing import FilteringBoundLogger

from gateway.admin_records.redaction import AuditEntry
from gateway.config import Settings
from gateway.config.documents import InvalidDocument, Parsed, RecordKind, parse_document
from gateway.errors import DefinedInFile, InvalidRequest, StoreUnavailable
from gateway.store.base import Catalogue, GrantStore, RecordStore
from gateway.types import Id, id_from_text, id_text, utc_text

Action = Literal["create", "replace", "update", "delete"]
Kind = Literal["model", "user", "organisation", "plan", "link", "key", "feature", "cooldown"]

# Far beyond what is real, and little enough for every column, log line and message.
MOST_ID_BYTES = 1024


class Actor(NamedTuple):
    """Whose key asks, which user it acts as, and by which request."""

    key: Id
    user: Id
    request_id: str


@dataclass(frozen=True, slots=True)
class Desk:
    """For one request. `store` answers from gateway.yaml (`file`) and `records` together."""

    actor: Actor
    file: Settings
    store: GrantStore
    records: RecordStore
    clock: Callable[[], datetime]
    log: FilteringBoundLogger

    async def catalogue(self) -> Catalogue:
        """Return all models; raise StoreUnavailable where some may be missing."""
        catalogue = await self.store.catalogue()
        if not catalogue.is_complete:
            raise StoreUnavailable("The models made at run time cannot be looked up at the moment; ask again.")
        return catalogue

    def refuse_if_in_file(self, kind: str, record_id: Id) -> None:
        """Raise DefinedInFile. `kind` is a word of `Settings.lines`."""
        where = self.file.lines.where(kind, id_text(record_id))
        if where is not None:
            raise DefinedInFile(f"{where} defines the {kind} `{id_text(record_id)}`; it can only be changed there.")

    async def written_down(
        self,
        action: Action,
        kind: Kind,
        record_id: Id,
        *,
        before: msgspec.Struct | None,
        after: msgspec.Struct | None,
    ) -> None:
        """Write the audit entry of a change, without failing it.

        The log has it in any case.
        """
        actor = self.actor
        entry = AuditEntry(
            time=utc_text(self.clock()),
            requestId=actor.request_id,
            key=actor.key,
            user=actor.user,
            action=action,
            kind=kind,
            id=record_id,
            before=_plain(before),
            after=_plain(after),
        )
        fields = msgspec.to_builtins(entry)
        self.log.info("audit", **{("at" if name == "time" else name): value for name, value in fields.items()})
        try:
            await self.records.append_audit(msgspec.json.encode(entry))
        except StoreUnavailable:
            self.log.error("audit entry is in the log only", request_id=actor.request_id)

    async def trail(self, most: int) -> list[AuditEntry]:
        """The audit entries, newest first."""
        decode = msgspec.json.Decoder(AuditEntry).decode
        return [decode(entry) for entry in await self.records.audit(most)]


def _plain(struct: msgspec.Struct | None) -> dict[str, object] | None:
    if struct is None:
        return None
    plain: dict[str, object] = msgspec.to_builtins(struct)
    return plain


def as_id(text: str) -> Id:
    """Return a path's text as an id.

    Raises InvalidRequest for one that cannot be an id.
    """
    refuse_long_id(text)
    return id_from_text(text)


def refuse_long_id(text: str, name: str = "id") -> None:
    """Raise InvalidRequest for an id that is longer than anything may have."""
    if len(text) > MOST_ID_BYTES or len(text.encode("utf-8", "replace")) > MOST_ID_BYTES:
        raise InvalidRequest(f"{name}: must be of at most {MOST_ID_BYTES:,} bytes")


def id_for(path_text: str, given: Id | msgspec.UnsetType, known: Id | None) -> Id:
    """Return the id of a record put at a path.

    In the type that the body gives it, else in that of the `known` one.

    Raises InvalidRequest where the body gives another id, or one that is too long.
    """
    refuse_long_id(path_text)
    if isinstance(given, msgspec.UnsetType):
        return known if known is not None and id_text(known) == path_text else as_id(path_text)
    if id_text(given) != path_text:
        raise InvalidRequest("id: another than that of the path")
    return given


def checked(kind: RecordKind, record_id: Id, document: dict[str, Any]) -> Parsed:
    """Parse a document; raise InvalidRequest with every reason.

    Each names its field.
    """
    try:
        return parse_document(kind, id_text(record_id), encoded(document)).record
    except InvalidDocument as invalid:
        raise InvalidRequest("; ".join(invalid.reasons)) from None


def stored(kind: RecordKind, record_id: str, document: bytes | None) -> Parsed | None:
    """Parse a stored document; one that cannot be used is absent."""
    if document is None:
        return None
    try:
        return parse_document(kind, record_id, document).record
    except InvalidDocument:
        return None


def encoded(document: dict[str, Any]) -> bytes:
    """Encode text; raise InvalidRequest where UTF-8 cannot.

    A path may bring such.
    """
    try:
        return orjson.dumps(document)
    except TypeError:
        raise InvalidRequest("text that is not valid Unicode") from None
