"""API keys."""

from __future__ import annotations

import msgspec

from gateway.admin_records import keys
from gateway.admin_records.passing_on import refuse_token
from gateway.admin_records.record_bodies import KeyBody, RotationBody
from gateway.admin_records.redaction import KeyMade, KeyShown, key_shown
from gateway.api.admin.typed import answer, desk, done, manage, named_id, page, paging, raw_body, typed
from gateway.api.router import Hit
from gateway.http.reply import Reply


async def list_keys(hit: Hit) -> Reply:
    wanted = paging(hit)
    return page(await keys.listed(desk(hit), wanted.after, wanted.most))


async def mint_key(hit: Hit) -> Reply:
    at, raw = desk(hit), await raw_body(hit)
    if (given := named_id(raw, "id")) is not None:
        at.refuse_if_in_file("key", given)
    made = await keys.mint(at, typed(raw, KeyBody), hit.caller)
    return answer(made, 201, headers=(("cache-control", "no-store"),))


async def revoke_key(hit: Hit) -> Reply:
    await keys.revoke(desk(hit), hit.params["id"])
    return done()


async def rotate_key(hit: Hit) -> Reply:
    at, raw = desk(hit), await raw_body(hit)
    refuse_token(hit.caller.key)
    at.refuse_if_in_file("key", hit.params["id"])
    key, text = await keys.rotate(at, hit.caller, hit.params["id"], typed(raw or b"{}", RotationBody).grace_seconds)
    made = KeyMade(**msgspec.structs.asdict(key_shown(key, "store")), key=text)
    return answer(made, 201, headers=(("cache-control", "no-store"),))


ROUTES = [
    manage("GET", "keys", list_keys, "All keys, without their hashes", answer=list[KeyShown]),
    manage(
        "POST",
        "keys",
        mint_key,
        "Make a key, with at most the scopes of the key that asks; it is shown this once",
        body=KeyBody,
        answer=KeyMade,
        statuses=(201,),
    ),
    manage("DELETE", "keys/{id}", revoke_key, "Revoke a key, and those that it made"),
    manage(
        "POST",
        "keys/{id}/rotate",
        rotate_key,
        "Give a key a new text, shown this once; the old one holds for the grace",
        body=RotationBody,
        answer=KeyMade,
        statuses=(201,),
    ),
]
