"""Users, organisations and plans that are made, replaced and taken away while the gateway runs."""

from __future__ import annotations

import pytest
from admin_kit import Admin, fresh, segment
from kit import KEYS, Wire, request_bytes

PLURALS = ("users", "organisations", "plans")


@pytest.mark.parametrize("plural", PLURALS)
async def test_an_owners_life(admin: Admin, plural: str) -> None:
    """PUT makes it (201) and replaces it (200), it is shown and listed, and is gone once it is taken away."""
    owner = fresh("owner")
    made = await admin.put(f"{plural}/{owner}", {"name": "One"}, 201)
    assert (made["id"], made["name"], made["grants"], made["source"]) == (owner, "One", [], "store")
    replaced = await admin.put(f"{plural}/{owner}", {"name": "Two"})
    assert replaced == made | {"name": "Two"}
    assert await admin.get(f"{plural}/{owner}") == replaced
    assert replaced in await admin.get(plural)
    assert await admin.put(f"{plural}/{owner}", replaced) == replaced
    await admin.delete(f"{plural}/{owner}")
    for method in ("GET", "DELETE"):
        await admin.refused(method, f"{plural}/{owner}", status=404, code="not_found")


@pytest.mark.parametrize("plural", PLURALS)
async def test_grants_stay_unless_they_are_given(admin: Admin, plural: str) -> None:
    """A panel that changes a name takes no model away from anyone; one that gives grants replaces them."""
    owner = fresh("granted")
    grants = [{"model": "free", "limits": {"rpm": 5}}, {"id": "mine", "model": "id-planned"}]
    made = await admin.put(f"{plural}/{owner}", {"grants": grants}, 201)
    assert [(each["model"], each["limits"]) for each in made["grants"]] == [
        ("id-free", {"rpm": 5}),
        ("id-planned", None),
    ]
    assert made["grants"][1]["id"] == "mine"
    assert (await admin.put(f"{plural}/{owner}", {"name": "named"}))["grants"] == made["grants"]
    assert (await admin.put(f"{plural}/{owner}", {"grants": []}))["grants"] == []


async def test_what_a_user_is_counts_at_once(admin: Admin) -> None:
    """Organisations and plans open their models, in the types of their ids; the tier is one of the file's."""
    organisation, user = 88_001, fresh("member")
    await admin.put(f"organisations/{organisation}", {"grants": [{"model": "free"}]}, 201)
    key = await admin.new_key(user)
    assert (await admin.chat("free", key)).status == 403
    body = {"tier": "enterprise", "organisations": [organisation], "plans": ["pro"]}
    made = await admin.put(f"users/{user}", body, 201)
    assert {name: made[name] for name in body} == body
    assert (await admin.chat("free", key)).status == 200
    assert (await admin.chat("planned", key)).status == 200
    await admin.put(f"users/{user}", {})
    assert (await admin.get(f"users/{user}"))["tier"] == "free"
    assert (await admin.chat("free", key)).status == 403


BAD = {
    "tier": ({"tier": "gold"}, "tier"),
    "another id": ({"id": "another"}, "id"),
    "unknown model": ({"grants": [{"model": "none"}]}, "grants[0].model"),
    "granted twice": ({"grants": [{"model": "free"}, {"model": "id-free"}]}, "grants[1].model"),
    "two of one id": ({"grants": [{"id": 1, "model": "free"}, {"id": 1, "model": "open"}]}, "grants[1].id"),
    "a slip": ({"organizations": [1]}, "organizations"),
    "a wrong type": ({"plans": "pro"}, "plans"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_user_is_told_by_its_field(admin: Admin, case: str) -> None:
    """400 invalid_request with the field, and nothing is made."""
    body, named = BAD[case]
    owner = fresh("bad")
    assert named in await admin.refused("PUT", f"users/{owner}", body, status=400, code="invalid_request")
    await admin.refused("GET", f"users/{owner}", status=404, code="not_found")


@pytest.mark.parametrize("path", ["users/42", "organisations/10", "plans/pro"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_the_files_owners_are_the_operators(admin: Admin, path: str, method: str) -> None:
    """409 that names the line."""
    before = await admin.get(path)
    message = await admin.refused(method, path, {} if method == "PUT" else None, status=409, code="defined_in_file")
    assert "gateway.yaml:" in message
    assert await admin.get(path) == before


async def test_a_list_comes_in_pages(admin: Admin) -> None:
    """`limit` bounds a page, `x-next-after` leads to the next; together they are everybody, once each."""
    names = ["paged-0", "paged-1", "paged-ä/ö", "paged-ü&", "paged-☃"]
    for name in names:
        await admin.put(f"plans/{segment(name)}", {}, 201)
    seen: list[str] = []
    after = ""
    while True:
        reply = await admin.call("GET", f"plans?limit=2{after}")
        assert reply.status == 200
        seen += [each["id"] for each in reply.json() if each["source"] == "store"]
        following = reply.header("x-next-after")
        if following is None:
            break
        after = f"&after={following}"
    assert [each for each in seen if each.startswith("paged-")] == names
    assert len(seen) == len(set(seen))
    for limit in ("0", "1001", "x", "-1", "²"):
        target = f"plans?limit={limit if limit.isascii() else '%C2%B2'}"
        assert "limit" in await admin.refused("GET", target, status=400, code="invalid_request")


ODD_IDS = ("%FF", "%ED%A0%80", "%00", "a%0D%0Ab", "%20", "x" * 3000)


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_an_odd_id_in_a_path_is_no_mistake_of_ours(admin: Admin, odd: str) -> None:
    """Whatever a path holds, it is answered as unknown or refused, never with a 500."""
    await admin.refused("GET", f"users/{odd}", status=404, code="not_found")
    assert (await admin.call("PUT", f"users/{odd}", {})).status in (200, 201, 400)
    assert (await admin.call("DELETE", f"users/{odd}")).status in (200, 404)


async def test_raw_bytes_in_a_path(admin: Admin) -> None:
    """Bytes that are not UTF-8, as they are: answered all the same."""
    async with Wire.open(admin.stage.port) as wire:
        await wire.send(request_bytes("GET", "/api/admin/users/\xff", key=KEYS["user"]))
        assert (await wire.reply()).status in (400, 403)


@pytest.mark.parametrize("plural", PLURALS)
async def test_an_id_keeps_the_type_that_it_was_made_with(admin: Admin, plural: str) -> None:
    """Text of digits stays text, however often it is replaced by a path that cannot tell."""
    await admin.put(f"{plural}/770055", {"id": "770055"}, 201)
    assert (await admin.put(f"{plural}/770055", {"name": "again"}))["id"] == "770055"
    await admin.delete(f"{plural}/770055")
    assert (await admin.put(f"{plural}/770055", {}, 201))["id"] == 770055
