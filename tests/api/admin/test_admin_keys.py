"""API keys: made by routes, shown once, revoked at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from admin_kit import ADMIN_KEYS, Admin, fresh
from kit import KEYS

from gateway.access.authenticate import key_sha256


async def test_a_keys_life(admin: Admin) -> None:
    """A key works from when it is made until it is revoked, and not a request longer."""
    made = await admin.post("keys", {"user": 42, "scopes": ["ai:use"], "expires": "2099-01-01"})
    key = made.pop("key")
    assert len(key) >= 24
    assert (made["user"], made["scopes"], made["expires"]) == (42, ["ai:use"], "2099-01-01T00:00:00Z")
    assert (await admin.chat("listed", key)).status == 200
    await admin.delete(f"keys/{made['id']}")
    refused = await admin.chat("listed", key)
    assert (refused.status, refused.error()["code"]) == (401, "invalid_api_key")
    await admin.refused("DELETE", f"keys/{made['id']}", status=404, code="not_found")


async def test_a_key_is_shown_once(admin: Admin) -> None:
    """Neither lists nor audit nor log hold the key or its hash; the list has everything else."""
    made = await admin.post("keys", {"user": fresh("owner"), "id": fresh("key"), "limits": {"rpm": 7}})
    key = made.pop("key")
    assert made in await admin.get("keys")
    told = (await admin.call("GET", "keys")).body + (await admin.call("GET", "audit?limit=1000")).body
    told += admin.stage.gateway.output().encode()
    for hidden in (key, key_sha256(key), key_sha256(ADMIN_KEYS["admin"])):
        assert hidden.encode() not in told
    listed = {each["id"]: each for each in await admin.get("keys")}
    assert listed["user"] == {
        "id": "user", "user": 42, "scopes": ["ai:use"], "expires": None, "limits": None, "source": "file",
        "last4": KEYS["user"][-4:],
    }  # fmt: skip


async def test_limits_of_a_key_hold(admin: Admin) -> None:
    """They come besides those of the grant."""
    key = await admin.new_key(42, limits={"rpm": 1})
    assert [(await admin.chat("listed", key)).status for _ in range(2)] == [200, 429]


async def test_an_expired_key(admin: Admin) -> None:
    """`expires` is a time like in the file: without a zone it is UTC."""
    soon = (datetime.now(UTC) - timedelta(seconds=5)).replace(tzinfo=None).isoformat(timespec="seconds")
    assert (await admin.chat("listed", await admin.new_key(42, expires=soon))).status == 401


async def test_no_key_gives_what_it_does_not_have(admin: Admin) -> None:
    """A minted key has at most the scopes of the key that made it: 403, and nothing is made."""
    before = len(await admin.get("keys"))
    for key, scopes in (
        ("admin", ["act:as"]),
        ("admin", ["ai:use", "act:as"]),
        ("manager", ["ai:use"]),
        ("manager", None),
    ):
        body = {"user": 42} | ({} if scopes is None else {"scopes": scopes})
        reply = await admin.call("POST", "keys", body, key=ADMIN_KEYS[key])
        assert (reply.status, reply.json()["error"]) == (403, "insufficient_scope")
    assert len(await admin.get("keys")) == before
    minted = await admin.post("keys", {"user": "root", "scopes": ["ai:manage"]})
    reply = await admin.call("POST", "keys", {"user": 42}, key=minted["key"])
    assert reply.status == 403, "a key of a key is no way around it"
    reply = await admin.call("POST", "keys", {"user": 42, "scopes": ["ai:manage"]}, key=minted["key"])
    assert reply.status == 201


async def test_the_files_keys_are_the_operators(admin: Admin) -> None:
    """409 with the line, for revoking one and for taking its id."""
    assert "gateway.yaml:" in await admin.refused("DELETE", "keys/user", status=409, code="defined_in_file")
    body = {"user": 1, "id": "user"}
    assert "gateway.yaml:" in await admin.refused("POST", "keys", body, status=409, code="defined_in_file")
    assert (await admin.chat("listed")).status == 200


async def test_a_keys_id_is_its_own(admin: Admin) -> None:
    """A second key with the same id is refused."""
    made = await admin.post("keys", {"user": 1, "id": fresh("same")})
    await admin.refused("POST", "keys", {"user": 1, "id": made["id"]}, status=409, code="already_exists")


BAD = {
    "no user": ({}, "user"),
    "unknown scope": ({"user": 1, "scopes": ["all"]}, "scopes"),
    "no date": ({"user": 1, "expires": "tomorrow"}, "expires"),
    "a hash": ({"user": 1, "hash": "sha256:" + "0" * 64}, "hash"),
    "odd id": ({"user": 1, "id": " x"}, "id"),
    "odd user": ({"user": ""}, "user"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_key_is_told_by_its_field(admin: Admin, case: str) -> None:
    """400 invalid_request."""
    body, named = BAD[case]
    assert named in await admin.refused("POST", "keys", body, status=400, code="invalid_request")
