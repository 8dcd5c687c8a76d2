"""API keys: made here, shown once, stored by their SHA-256."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.access.authenticate import key_sha256
from gateway.admin_records.editor import Desk, as_id, checked, encoded, refuse_long_id, stored
from gateway.admin_records.record_bodies import KeyBody
from gateway.admin_records.redaction import KeyMade, KeyShown, key_shown
from gateway.errors import AlreadyThere, InsufficientScope, RecordNotFound
from gateway.store.base import hash_of_key, page
from gateway.types import ApiKey, Id, id_text

_CURSOR_CHARACTERS = 16


async def listed(desk: Desk, after: str | None, most: int) -> tuple[list[KeyShown], str | None]:
    """List the file's keys, then a page of the store's.

    With what to give as `after` for the next, if any.
    """
    found = await page(desk.records, "key", after=after, most=most)
    own = [key_shown(key, "file") for key in desk.file.keys] if after is None else []
    made = [stored("key", digest, document) for digest, document in found.records]
    # Enough of a hash to go on behind it, and no more of it.
    following = None if found.next is None else f"{found.next[:_CURSOR_CHARACTERS]}~"
    return own + [key_shown(key, "store") for key in made if isinstance(key, ApiKey)], following


async def mint(desk: Desk, body: KeyBody, own_scopes: Iterable[str]) -> KeyMade:
    """Mint a key; raise InsufficientScope for scopes beyond `own_scopes`."""
    made = f"key-{secrets.token_hex(6)}" if isinstance(body.id, msgspec.UnsetType) else body.id
    desk.refuse_if_in_file("key", made)
    for scope in body.scopes:
        if scope not in own_scopes:
            raise InsufficientScope(f"This key cannot give the scope `{scope}`, which it does not have itself.")
    refuse_long_id(id_text(made))
    refuse_long_id(id_text(body.user), "user")
    text = f"sk-ecli-{secrets.token_urlsafe(32)}"
    document: dict[str, Any] = msgspec.to_builtins(body) | {"id": made, "scopes": body.scopes}
    key = checked_key(key_sha256(text), document)
    if not isinstance(body.id, msgspec.UnsetType) and await hash_of_key(desk.records, id_text(made)):
        raise AlreadyThere(f"There is a key with the id `{id_text(made)}` already.")
    await desk.records.put("key", key.sha256, encoded(document))
    after = key_shown(key, "store")
    await desk.written_down("create", "key", made, before=None, after=after)
    return KeyMade(**msgspec.structs.asdict(after), key=text)


async def revoke(desk: Desk, key_id: str) -> None:
    """Delete the key with this id.

    It stops working at once on this worker, within 1 s on all.
    """
    desk.refuse_if_in_file("key", key_id)
    sha256 = await hash_of_key(desk.records, key_id)
    if sha256 is None:
        raise _not_found(key_id)
    while sha256 is not None:  # a panel may have given an id twice: none of them goes on working
        key = stored("key", sha256, await desk.records.delete("key", sha256))
        before = key_shown(key, "store") if isinstance(key, ApiKey) else None
        await desk.written_down("delete", "key", before.id if before else as_id(key_id), before=before, after=None)
        sha256 = await hash_of_key(desk.records, key_id)


async def any_key(desk: Desk, key_id: str) -> ApiKey:
    """Return the key with this id. Raises RecordNotFound.

    Of the file or the store.
    """
    for key in desk.file.keys:
        if id_text(key.id) == key_id:
            return key
    sha256 = await hash_of_key(desk.records, key_id)
    found = None if sha256 is None else stored("key", sha256, await desk.records.get("key", sha256))
    if not isinstance(found, ApiKey):
        raise _not_found(key_id)
    return found


def _not_found(key_id: str) -> RecordNotFound:
    return RecordNotFound(f"No key has the id `{key_id}`.")


def checked_key(sha256: Id, document: dict[str, Any]) -> ApiKey:
    key = checked("key", sha256, document)
    assert isinstance(key, ApiKey)  # noqa: S101 - narrows the type; the kind decides it
    return key
