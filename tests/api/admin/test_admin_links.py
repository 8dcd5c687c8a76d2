"""Links from users, organisations and plans to models: made, changed and taken away while requests come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from admin_kit import Admin, fresh, segment

OWNERS = {"user": ("userId", "users"), "org": ("orgId", "organisations"), "plan": ("planId", "plans")}


async def member(admin: Admin, kind: str) -> tuple[Any, str]:
    """A new owner of this kind, and the key of somebody whom its links serve."""
    owner, user = fresh(kind), fresh("member")
    if kind == "user":
        return owner, await admin.new_key(owner)
    await admin.put(f"{OWNERS[kind][1]}/{owner}", {}, 201)
    await admin.put(f"users/{user}", {OWNERS[kind][1]: [owner]}, 201)
    return owner, await admin.new_key(user)


@pytest.mark.parametrize("kind", OWNERS)
async def test_a_link_from_the_models_side(admin: Admin, kind: str) -> None:
    """201 and access at once; a second time 200 with new limits; once it is taken away, no access, and a 404."""
    owner, key = await member(admin, kind)
    assert (await admin.chat("free", key)).status == 403
    field = OWNERS[kind][0]
    made = await admin.post(f"ai/models/id-free/link-{kind}", {field: owner})
    assert made["success"] is True
    assert (made["link"]["modelId"], made["link"]["limits"]) == ("id-free", None)
    assert (await admin.chat("free", key)).status == 200
    updated = await admin.post(f"ai/models/id-free/link-{kind}", {field: owner, "limits": {"rpm": 1}}, 200)
    assert updated["link"] == made["link"] | {"limits": {"rpm": 1}}
    same = await admin.post(f"ai/models/id-free/link-{kind}", {field: owner}, 200)
    assert same["link"]["limits"] == {"rpm": 1}
    await admin.delete(f"ai/models/id-free/unlink-{kind}/{owner}")
    assert (await admin.chat("free", key)).status == 403
    await admin.refused("DELETE", f"ai/models/id-free/unlink-{kind}/{owner}", status=404, code="not_found")


@pytest.mark.parametrize("kind", OWNERS)
async def test_a_link_from_its_owners_side(admin: Admin, kind: str) -> None:
    """`new` makes one; its limits and its model change under the same id; what is not given stays; DELETE ends it."""
    owner, key = await member(admin, kind)
    at = f"{OWNERS[kind][1]}/{owner}/ai"
    link = (await admin.post(f"{at}/new", {"modelId": "id-free", "limits": {"tokens": 10, "period": "day"}}))["link"]
    assert link["limits"] == {"tokens": 10, "period": "day"}
    moved = (await admin.put(f"{at}/{link['id']}", {"modelId": "id-planned"}))["link"]
    assert moved == link | {"modelId": "id-planned"}
    assert (await admin.chat("free", key)).status == 403
    assert (await admin.chat("planned", key)).status == 200
    freed = (await admin.post(f"{at}/{link['id']}", {"limits": None}, 200))["link"]
    assert freed == moved | {"limits": None}
    second = (await admin.post(f"{at}/new", {"modelId": "id-free"}))["link"]
    assert second["id"] != link["id"]
    shown = await admin.get(f"{OWNERS[kind][1]}/{owner}")
    assert [grant["model"] for grant in shown["grants"]] == ["id-planned", "id-free"]
    message = await admin.refused(
        "PUT", f"{at}/{link['id']}", {"modelId": "id-free"}, status=409, code="already_exists"
    )
    assert "link" in message
    for each in (link["id"], second["id"]):
        await admin.delete(f"{at}/{each}")
    await admin.refused("DELETE", f"{at}/{link['id']}", status=404, code="not_found")
    assert (await admin.chat("planned", key)).status == 403


async def test_limits_of_a_link_hold_at_once(admin: Admin) -> None:
    """One request a minute is one request a minute from the next request on."""
    owner, key = await member(admin, "user")
    await admin.post("ai/models/id-free/link-user", {"userId": owner, "limits": {"rpm": 1}})
    assert [(await admin.chat("free", key)).status for _ in range(2)] == [200, 429]


async def test_a_link_beside_the_file(admin: Admin) -> None:
    """A user of gateway.yaml gets a link of the store; the file's own come first and stay the operators'."""
    link = (await admin.post("ai/models/id-free/link-user", {"userId": 42}))["link"]
    assert (await admin.chat("free")).status == 200
    shown = await admin.get("users/42")
    assert (shown["id"], shown["name"], shown["tier"], shown["source"]) == (42, "Ada", "paid", "file")
    assert (shown["organisations"], shown["plans"]) == ([10], ["pro"])
    assert shown["grants"] == [
        {"id": 7, "model": "id-listed", "limits": None, "source": "file"},
        {"id": link["id"], "model": "id-free", "limits": None, "source": "store"},
    ]
    assert shown in await admin.get("users")
    changed = await admin.put(f"users/42/ai/{link['id']}", {"limits": {"rpm": 100}})
    assert changed["link"]["limits"] == {"rpm": 100}
    await admin.delete(f"users/42/ai/{link['id']}")
    assert (await admin.chat("free")).status == 403
    assert (await admin.get("users/42"))["grants"] == shown["grants"][:1]


FILE_LINKS = {
    "linked again": ("POST", "ai/models/id-listed/link-user", {"userId": 42}),
    "unlinked": ("DELETE", "ai/models/id-listed/unlink-user/42", None),
    "changed": ("PUT", "users/42/ai/7", {"limits": {"rpm": 1}}),
    "taken away": ("DELETE", "users/42/ai/7", None),
    "the plan's": ("POST", "ai/models/id-planned/link-plan", {"planId": "pro"}),
}


@pytest.mark.parametrize("case", FILE_LINKS)
async def test_the_files_links_are_the_operators(admin: Admin, case: str) -> None:
    """409 that names the line of their owner."""
    method, path, body = FILE_LINKS[case]
    message = await admin.refused(method, path, body, status=409, code="defined_in_file")
    assert "gateway.yaml:" in message


async def test_what_is_not_there(admin: Admin) -> None:
    """Unknown models, links and a body without a model are told apart."""
    await admin.refused("POST", "ai/models/none/link-user", {"userId": 1}, status=404, code="not_found")
    await admin.refused("PUT", "users/42/ai/none", {"limits": None}, status=404, code="not_found")
    await admin.refused("POST", "users/42/ai/new", {"modelId": "none"}, status=404, code="model_not_found")
    assert "modelId" in await admin.refused("POST", "users/42/ai/new", {}, status=400, code="invalid_request")
    wrong = await admin.refused("POST", "ai/models/id-free/link-user", {"orgId": 1}, status=400, code="invalid_request")
    assert "orgId" in wrong or "userId" in wrong


async def test_many_admins_link_at_once(admin: Admin) -> None:
    """Twenty links to one user at the same time: none is lost."""
    owner = fresh("popular")
    await asyncio.gather(
        *(admin.post(f"ai/models/id-many-{number}/link-user", {"userId": owner}) for number in range(20))
    )
    shown = await admin.get(f"users/{owner}")
    assert {grant["model"] for grant in shown["grants"]} == {f"id-many-{number}" for number in range(20)}
    await asyncio.gather(*(admin.delete(f"ai/models/id-many-{n}/unlink-user/{owner}") for n in range(20)))
    await admin.refused("GET", f"users/{owner}", status=404, code="not_found")


async def test_two_admins_make_the_same_link_at_once(admin: Admin) -> None:
    """One of them made it, the others found it standing; there is one link."""
    owner = fresh("wanted")
    replies = await asyncio.gather(
        *(admin.call("POST", "ai/models/id-free/link-user", {"userId": owner}) for _ in range(8))
    )
    assert sorted(reply.status for reply in replies) == [200] * 7 + [201]
    assert len({reply.json()["link"]["id"] for reply in replies}) == 1
    assert len((await admin.get(f"users/{owner}"))["grants"]) == 1


async def test_a_number_is_the_same_as_its_text(admin: Admin) -> None:
    """Ids compare as text: user 77001 and "77001" are one, and the type it was made with is told."""
    await admin.post("ai/models/id-free/link-user", {"userId": 77001})
    await admin.post("ai/models/id-free/link-user", {"userId": "77001"}, 200)
    assert (await admin.get(f"users/{segment('77001')}"))["id"] == 77001
    await admin.delete("users/77001")
