"""API keys: made here, shown once, stored by their SHA-256."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gateway.access.authenticate import key_sha256
from gateway.access.makers import MOST_GENERATIONS
from gateway.admin_records.editor import Desk, as_id, checked, encoded, refuse_long_id, stored
from gateway.admin_records.passing_on import earlier, refuse_new_text, refuse_scopes, refuse_token
from gateway.admin_records.record_bodies import KeyBody
from gateway.admin_records.redaction import KeyMade, KeyShown, key_shown
from gateway.config.documents import fields_in
from gateway.errors import AlreadyThere, InvalidRequest, RecordNotFound
from gateway.store.base import hash_of_key, page
from gateway.types import ApiKey, Caller, Id, id_text, made_key_id, utc_text

_CURSOR_CHARACTERS = 16
_NO_HASH = "0" * 64
_LAST = 4  # characters of a key by which people know it again


async def listed(desk: Desk, after: str | None, most: int) -> tuple[list[KeyShown], str | None]:
    """List the file's keys, then a page of the store's.

    With what to give as `after` for the next, if any.
    """
    found = await page(desk.records, "key", after=after, most=most)
    own = [key_shown(key, "file") for key in desk.file.keys] if after is None else []
    made = [stored("key", digest, document) for digest, document in found.records]
    # Enough of a hash to go on behind it, and no more of it.
    following = None if found.next is None else f"{found.next[:_CURSOR_CHARACTERS]}~"
    shown = [key for key in made if isinstance(key, ApiKey) and key.replaced_by is None]
    return own + [key_shown(key, "store") for key in shown], following


async def mint(desk: Desk, body: KeyBody, caller: Caller | None) -> KeyMade:
    """Mint a key; raise InsufficientScope for scopes beyond its maker's.

    `caller`: None for the operator at the command line. What is limited in models, addresses, time or use passes that
    on.
    """
    name = secrets.token_hex(6)
    made = f"key-{name}" if isinstance(body.id, msgspec.UnsetType) else body.id
    desk.refuse_if_in_file("key", made)
    if caller is not None:
        refuse_scopes(body.scopes, caller)
    refuse_long_id(id_text(made))
    refuse_long_id(id_text(body.user), "user")
    document: dict[str, Any] = msgspec.to_builtins(body) | {"id": made, "scopes": body.scopes}
    if caller is not None and is_restricted(caller.key):
        document |= made_by(caller.key, name if isinstance(body.id, msgspec.UnsetType) else id_text(made))
        document["expires"] = end_by(caller.key, body.expires)
    if not isinstance(body.id, msgspec.UnsetType) and await hash_of_key(desk.records, id_text(document["id"])):
        raise AlreadyThere(f"There is a key with the id `{id_text(document['id'])}` already.")
    key, text = await put_new(desk, document)
    after = key_shown(key, "store")
    await desk.written_down("create", "key", key.id, before=None, after=after)
    return KeyMade(**msgspec.structs.asdict(after), key=text)


def is_restricted(key: ApiKey) -> bool:
    """Whether a key is limited in models, addresses, time or use."""
    limits = (key.models, key.expires, key.limits, key.made_by)
    return bool(key.ips) or any(each is not None for each in limits)


def made_by(maker: ApiKey, name: str) -> dict[str, Any]:
    """Return the fields that tie a key to its maker.

    Raises InvalidRequest or InsufficientScope.
    """
    refuse_token(maker)
    if len(maker.makers) + 1 >= MOST_GENERATIONS:
        raise InvalidRequest("This key was made by a key that was made by a key …: it cannot make another.")
    return {
        "id": made_key_id(maker.id, name),
        "made_by": maker.sha256,
        "makers": [id_text(maker.id), *maker.makers],
    }


def end_by(maker: ApiKey, given: str | None) -> str | None:
    """Return when a key made with this end ends. Raises InvalidRequest.

    A maker's end holds what it made as long as the maker is looked up; a text that was replaced is not.
    """
    if maker.replaced_by is None:
        return given
    asked = checked_key(_NO_HASH, {"id": "key", "user": "user", "expires": given}).expires
    end = earlier(asked, maker.expires)
    return None if end is None else utc_text(end, exact=True)


async def put_new(desk: Desk, document: dict[str, Any]) -> tuple[ApiKey, str]:
    """Store a new key; return it and its text. Raises InvalidRequest."""
    text = f"sk-ecli-{secrets.token_urlsafe(32)}"
    whole = document | {"created": utc_text(desk.clock()), "last4": text[-_LAST:]}
    key = checked_key(key_sha256(text), whole)
    await desk.records.put("key", key.sha256, encoded(whole))
    return key, text


async def rotate(desk: Desk, caller: Caller, key_id: str, grace_seconds: float) -> tuple[ApiKey, str]:
    """Give a key a new text; the old one has a grace.

    Returns it and the text. Raises RecordNotFound, DefinedInFile or InsufficientScope.
    """
    desk.refuse_if_in_file("key", key_id)
    sha256 = await hash_of_key(desk.records, key_id)
    document = None if sha256 is None else await desk.records.get("key", sha256)
    before = None if sha256 is None else stored("key", sha256, document)
    if sha256 is None or document is None or not isinstance(before, ApiKey) or before.replaced_by is not None:
        raise not_found(key_id)
    refuse_new_text(before, caller)
    fields = fields_in(document)
    key, text = await put_new(desk, fields | {"id": before.id})
    ends = desk.clock() + timedelta(seconds=grace_seconds)
    if before.expires is not None and before.expires < ends:
        ends = before.expires
    await desk.records.update("key", sha256, lambda old: _replaced(old, key.sha256, ends))
    await desk.written_down("update", "key", key.id, before=key_shown(before, "store"), after=key_shown(key, "store"))
    return key, text


def _replaced(document: bytes | None, by: str, ends: datetime) -> bytes | None:
    if document is None:  # revoked meanwhile
        return None
    return encoded(fields_in(document) | {"replaced_by": by, "expires": utc_text(ends, exact=True)})


async def revoke(desk: Desk, key_id: str) -> None:
    """Delete the key with this id.

    It stops working at once on this worker, within 1 s on all; so do those that it made.
    """
    desk.refuse_if_in_file("key", key_id)
    sha256 = await hash_of_key(desk.records, key_id)
    if sha256 is None:
        raise not_found(key_id)
    while sha256 is not None:  # a panel may have given an id twice, and one may have been rotated: none goes on working
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
        raise not_found(key_id)
    return found


def not_found(key_id: str) -> RecordNotFound:
    return RecordNotFound(f"No key has the id `{key_id}`.")


def checked_key(sha256: Id, document: dict[str, Any]) -> ApiKey:
    key = checked("key", sha256, document)
    assert isinstance(key, ApiKey)  # noqa: S101 - narrows the type; the kind decides it
    return key
