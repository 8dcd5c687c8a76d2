"""Ids: in the type that they were made with, of people of whom there is no more than a key, and absurdly long ones."""

from __future__ import annotations

from typing import Any

import pytest
from admin_kit import Admin, fresh

LONG = {"digits": "9" * 5000, "letters": "a" * 5000}


@pytest.mark.parametrize("user", [880011, "880012", "someone-else"])
async def test_a_user_who_is_known_from_a_key_alone(admin: Admin, user: Any) -> None:
    """There is no record, and yet a user: of the lowest tier, without grants, by the id that the key has."""
    assert (await admin.call("GET", f"users/{user}")).status == 404
    await admin.new_key(user)
    shown = await admin.get(f"users/{user}")
    assert shown == {
        "id": user, "name": None, "tier": "free", "organisations": [], "plans": [], "grants": [], "source": "store",
    }  # fmt: skip
    assert (await admin.put(f"users/{user}", {"id": user, "tier": "paid"}, 201))["id"] == user
    assert (await admin.get(f"users/{user}"))["tier"] == "paid"


async def test_a_user_of_a_key_of_the_file(admin: Admin) -> None:
    shown = await admin.get("users/stranger")
    assert (shown["id"], shown["tier"], shown["source"]) == ("stranger", "free", "file")


async def test_the_audit_has_the_types_of_the_records(admin: Admin) -> None:
    """A path cannot tell 7 from "7"; what is taken away was known by one of them."""
    await admin.put("plans/660066", {"id": "660066"}, 201)
    await admin.delete("plans/660066")
    await admin.post("keys", {"user": "660067", "id": "660068"})
    await admin.delete("keys/660068")
    made = await admin.new_model(id="660069")
    await admin.delete(f"ai/models/{made[0]['id']}")
    gone = [each["id"] for each in await admin.get("audit") if each["action"] == "delete"][:3]
    assert gone == ["660069", "660068", "660066"]


@pytest.mark.parametrize("kind", LONG)
async def test_ids_of_five_thousand_characters_are_refused_clearly(admin: Admin, kind: str) -> None:
    """Python refuses to make a number of so many digits: that is no reason for a 500."""
    long = LONG[kind]
    for target in (f"explain?user={long}", f"explain?key={long}", f"explain?user=42&model={long}"):
        assert "at most" in await admin.refused("GET", target, status=400, code="invalid_request")
    for target in (f"users/{long}", f"keys/{long}", f"ai/models/{long}"):
        method = "DELETE" if target.startswith("keys") else "GET"
        await admin.refused(method, target, status=404, code="not_found")
    link = {"modelId": "id-free"}
    for method, target, body in (
        ("PUT", f"users/{long}", {}),
        ("POST", f"users/{long}/ai/new", link),
        ("POST", "ai/models/id-free/link-user", {"userId": long}),
        ("POST", "keys", {"user": long}),
        ("POST", "keys", {"user": 42, "id": long}),
        ("POST", "ai/models", {"id": long, "name": fresh("x"), "endpoints": [{"id": 1, "url": "https://a.example"}]}),
    ):
        assert "at most" in await admin.refused(method, target, body, status=400, code="invalid_request")
    for whose in ("user", "org"):
        reply = await admin.stage.get(f"/api/soc/usage/{whose}/{long}", key="sk-admin-0123456789abcdefghijkl")
        assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


async def test_names_are_no_longer_than_ids(admin: Admin) -> None:
    """They go out in a header of each answer."""
    endpoints = [{"id": 1, "url": "https://a.example"}]
    for fields in ({"name": "a" * 5000}, {"name": fresh("named"), "aliases": ["a" * 5000]}):
        body = {"endpoints": endpoints} | fields
        assert "at most" in await admin.refused("POST", "ai/models", body, status=400, code="invalid_request")


async def test_numbers_of_five_thousand_digits_in_a_body(admin: Admin) -> None:
    for field, target in (("userId", "ai/models/id-free/link-user"), ("user", "keys")):
        body = b'{"%b": %b}' % (field.encode(), b"9" * 5000)
        assert (await admin.call("POST", target, body)).status == 400
