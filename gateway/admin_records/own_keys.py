"""Keys that users make for themselves (contract §6, `self_service`)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gateway.access.makers import held, makers_of
from gateway.admin_records import keys
from gateway.admin_records.editor import Desk, encoded, stored
from gateway.admin_records.passing_on import refuse_scopes, refuse_token, refuse_widening
from gateway.admin_records.record_bodies import OwnKeyBody, OwnKeyChange
from gateway.admin_records.redaction import OwnKeyMade, OwnKeyShown, key_shown, own_key_shown
from gateway.config.documents import fields_in
from gateway.errors import InvalidRequest, TooManyKeys
from gateway.store.base import hash_of_key, key_fields
from gateway.types import ApiKey, Caller, Id, has_expired, id_text, utc_text


async def listed(desk: Desk, user: Id, last_used: Mapping[str, datetime]) -> list[OwnKeyShown]:
    """List a user's keys: the file's, then those made at run time."""
    own = [own_key_shown(key, "file", _used(last_used, key)) for key in desk.file.keys if _is_of(key, user)]
    made = [own_key_shown(await _held(desk, key), "store", _used(last_used, key)) for key in await _made(desk, user)]
    return own + sorted(made, key=lambda key: (key.created or "", id_text(key.id)))


async def mint(desk: Desk, caller: Caller, body: OwnKeyBody) -> OwnKeyMade:
    """Make a key for the caller, within what its own key may.

    Raises TooManyKeys, InsufficientScope or InvalidRequest.
    """
    refuse_scopes(body.scopes, caller)
    rules = desk.file.self_service
    if len(await _living(desk, caller.user.id)) >= rules.keys:
        raise _too_many(rules.keys)
    end = _end_within(desk, body.expires)
    document: dict[str, Any] = msgspec.to_builtins(body) | {
        "user": caller.user.id,
        "scopes": body.scopes,
        **keys.made_by(caller.key, secrets.token_hex(4)),
    }
    key, text = await keys.put_new(desk, document | {"expires": keys.end_by(caller.key, end)})
    await _withdraw_if_late(desk, key, rules.keys)
    await desk.written_down("create", "key", key.id, before=None, after=key_shown(key, "store"))
    return _with_text(await _held(desk, key), text)


async def _held(desk: Desk, key: ApiKey) -> ApiKey:
    """Return the key with what it has from its makers."""
    makers = await makers_of(key, desk.store, _any_key)
    return held(key, makers) if makers else key


async def _any_key(_maker: ApiKey) -> bool:
    return True


async def _living(desk: Desk, user: Id) -> list[ApiKey]:
    """List the living keys that a user has made."""
    now = desk.clock()
    return [key for key in await _made(desk, user) if key.makers and not has_expired(key.expires, now)]


async def _withdraw_if_late(desk: Desk, key: ApiKey, most: int) -> None:
    """Take back a key that came too late. Raises TooManyKeys."""
    others = [each for each in await _living(desk, key.user) if each.sha256 != key.sha256]
    before = [each for each in others if each.created is None or key.created is None or each.created <= key.created]
    if len(before) >= most:
        await desk.records.delete("key", key.sha256)
        raise _too_many(most)


def _too_many(most: int) -> TooManyKeys:
    return TooManyKeys(
        f"You have made {most} keys already; revoke one first."
        if most
        else "This gateway lets nobody make keys for themselves; ask your administrator for one."
    )


async def change(desk: Desk, caller: Caller, key_id: str, body: OwnKeyChange) -> OwnKeyShown:
    """Change one's key. Raises RecordNotFound, DefinedInFile, InvalidRequest or InsufficientScope."""
    before = await _own(desk, caller, key_id)
    changes = {name: value for name, value in msgspec.to_builtins(body).items() if value is not msgspec.UNSET}
    if not isinstance(body.scopes, msgspec.UnsetType):
        refuse_scopes(body.scopes, caller)
    if not isinstance(body.expires, msgspec.UnsetType):
        changes["expires"] = _end_within(desk, body.expires)

    def changed(document: bytes | None) -> bytes | None:
        if document is None:
            return None
        old = fields_in(document)
        fields = old | changes
        refuse_widening(keys.checked_key(before.sha256, old), keys.checked_key(before.sha256, fields), caller)
        return encoded(fields)

    after = stored("key", before.sha256, await desk.records.update("key", before.sha256, changed))
    if not isinstance(after, ApiKey):
        raise keys.not_found(key_id)
    await desk.written_down(
        "update", "key", after.id, before=key_shown(before, "store"), after=key_shown(after, "store")
    )
    return own_key_shown(await _held(desk, after), "store", None)


async def rotate(desk: Desk, caller: Caller, key_id: str, grace_seconds: float) -> OwnKeyMade:
    """Give one's key a new text.

    Raises RecordNotFound, DefinedInFile or InsufficientScope.
    """
    refuse_token(caller.key)  # before anything is told of what there is
    await _own(desk, caller, key_id)
    key, text = await keys.rotate(desk, caller, key_id, grace_seconds)
    return _with_text(await _held(desk, key), text)


async def revoke(desk: Desk, caller: Caller, key_id: str) -> None:
    """Revoke one's key, and those that it made. Raises RecordNotFound or DefinedInFile."""
    await _own(desk, caller, key_id)
    await keys.revoke(desk, key_id)


async def _own(desk: Desk, caller: Caller, key_id: str) -> ApiKey:
    """Return the caller's key with this id; another's is not found."""
    for key in desk.file.keys:
        if id_text(key.id) == key_id and _is_of(key, caller.user.id):
            desk.refuse_if_in_file("key", key_id)
    sha256 = await hash_of_key(desk.records, key_id)
    found = None if sha256 is None else stored("key", sha256, await desk.records.get("key", sha256))
    if not isinstance(found, ApiKey) or not _is_of(found, caller.user.id):
        raise keys.not_found(key_id)
    return found


async def _made(desk: Desk, user: Id) -> list[ApiKey]:
    found: list[ApiKey] = []
    async for sha256, fields in key_fields(desk.records):
        if str(fields.get("user")) == id_text(user) and fields.get("replaced_by") is None:
            key = stored("key", sha256, encoded(fields))
            if isinstance(key, ApiKey):
                found.append(key)
    return found


def _is_of(key: ApiKey, user: Id) -> bool:
    return id_text(key.user) == id_text(user)


def _end_within(desk: Desk, given: str | None) -> str | None:
    """Return when a key ends: as given, within `self_service.max_days`. Raises InvalidRequest."""
    days = desk.file.self_service.max_days
    if days is None:
        return given
    latest = desk.clock() + timedelta(days=days)
    if given is None:
        return utc_text(latest)
    end = keys.checked_key("0" * 64, {"id": "key", "user": "user", "expires": given}).expires
    if end is None or end > latest:
        raise InvalidRequest(f"expires: may be at most {days} days from now")
    return given


def _used(last_used: Mapping[str, datetime], key: ApiKey) -> str | None:
    moment = last_used.get(id_text(key.id))
    return utc_text(moment) if moment is not None else None


def _with_text(key: ApiKey, text: str) -> OwnKeyMade:
    return OwnKeyMade(**msgspec.structs.asdict(own_key_shown(key, "store", None)), key=text)
