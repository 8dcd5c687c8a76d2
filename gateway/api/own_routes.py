"""Show callers themselves, and let them keep their keys."""

from __future__ import annotations

import contextlib
from datetime import datetime

import msgspec

from gateway.admin_records import own_keys
from gateway.admin_records.record_bodies import OwnKeyBody, OwnKeyChange, RotationBody
from gateway.admin_records.redaction import Done, OwnKeyMade, OwnKeyShown
from gateway.api.admin.typed import answer, desk, done, raw_body, read, typed
from gateway.api.router import Hit, Route
from gateway.errors import QueryFailed, TooManyQueries
from gateway.http.reply import Reply
from gateway.types import SCOPES, Id, Scope

_NO_STORE = (("cache-control", "no-store"),)


class Me(msgspec.Struct, frozen=True):
    """The caller, as pages show it."""

    user: Id
    name: str | None
    tier: str
    scopes: list[Scope]
    features: dict[str, bool]
    currency: str | None


async def show_me(hit: Hit) -> Reply:
    runtime, caller = hit.runtime, hit.caller
    features = {name: await runtime.store.feature(name) for name in runtime.settings.features}
    scopes = [scope for scope in SCOPES if scope in caller.key.scopes]
    user = caller.user
    return answer(Me(user.id, user.name, user.tier, scopes, features, runtime.settings.usage.currency))


async def list_keys(hit: Hit) -> Reply:
    """List them, also while the ledger is away."""
    used: dict[str, datetime] = {}
    with contextlib.suppress(QueryFailed, TooManyQueries):
        used = await hit.runtime.ledger.reader.last_used(hit.caller.user.id)
    return answer(await own_keys.listed(desk(hit), hit.caller.user.id, used))


async def mint_key(hit: Hit) -> Reply:
    body = typed(await raw_body(hit) or b"{}", OwnKeyBody)
    return answer(await own_keys.mint(desk(hit), hit.caller, body), 201, headers=_NO_STORE)


async def change_key(hit: Hit) -> Reply:
    return answer(await own_keys.change(desk(hit), hit.caller, hit.params["id"], await read(hit, OwnKeyChange)))


async def rotate_key(hit: Hit) -> Reply:
    body = typed(await raw_body(hit) or b"{}", RotationBody)
    made = await own_keys.rotate(desk(hit), hit.caller, hit.params["id"], body.grace_seconds)
    return answer(made, 201, headers=_NO_STORE)


async def revoke_key(hit: Hit) -> Reply:
    await own_keys.revoke(desk(hit), hit.caller, hit.params["id"])
    return done()


ROUTES = [
    Route("GET", "/api/ai/me", show_me, "any", answer=Me, summary="Who the caller is, and what it may"),
    Route("GET", "/api/ai/keys", list_keys, answer=list[OwnKeyShown], summary="One's own keys"),
    Route(
        "POST",
        "/api/ai/keys",
        mint_key,
        body=OwnKeyBody,
        answer=OwnKeyMade,
        statuses=(201,),
        summary="Make a key for oneself; it is shown this once",
    ),
    Route(
        "PATCH", "/api/ai/keys/{id}", change_key, body=OwnKeyChange, answer=OwnKeyShown, summary="Change one's own key"
    ),
    Route("DELETE", "/api/ai/keys/{id}", revoke_key, answer=Done, summary="Revoke one's own key"),
    Route(
        "POST",
        "/api/ai/keys/{id}/rotate",
        rotate_key,
        body=RotationBody,
        answer=OwnKeyMade,
        statuses=(201,),
        summary="Give one's own key a new text; it is shown this once",
    ),
]
