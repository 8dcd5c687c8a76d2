"""Keys that users make for themselves: within what their own key may, counted with it, gone with it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kit.books import until
from kit.gateway import KEYS
from own_kit import ADMIN, BOUND, call, chat, made, opened


async def test_a_key_of_ones_own(tmp_path: Path) -> None:
    """Made, listed without its text, used, rotated, changed, revoked."""
    async with opened(tmp_path) as stage:
        one = await made(stage, name="phone")
        text = one.pop("key")
        assert (one["name"], one["last4"], one["scopes"], one["lastUsed"]) == ("phone", text[-4:], ["ai:use"], None)
        assert await chat(stage, text) == (200, None)
        mine: dict[str, Any] = {}

        async def is_written_down() -> bool:
            mine.update({each["id"]: each for each in (await call(stage, "GET", "/api/ai/keys")).json()})
            return mine[one["id"]]["lastUsed"] is not None

        await until(is_written_down)
        assert set(mine) == {"maker", "bound", one["id"]}
        assert mine["maker"]["lastUsed"] is None
        assert text not in json.dumps(mine)
        path = f"/api/ai/keys/{one['id']}"
        assert (await call(stage, "PATCH", path, {"name": "old phone", "models": ["b"]})).json()["name"] == "old phone"
        assert await chat(stage, text) == (403, "model_not_accessible")
        assert await chat(stage, text, "b") == (200, None)
        turned = (await call(stage, "POST", f"{path}/rotate")).json()
        assert (turned["id"], turned["models"]) == (one["id"], ["b"])
        assert await chat(stage, text, "b") == (401, "invalid_api_key")
        assert await chat(stage, turned["key"], "b") == (200, None)
        assert (await call(stage, "DELETE", path)).json() == {"success": True}
        assert await chat(stage, turned["key"], "b") == (401, "invalid_api_key")
        assert (await call(stage, "DELETE", path)).status == 404


async def test_another_users_key_is_not_there(tmp_path: Path) -> None:
    """Unknown and foreign are one answer; what the file defines is changed there."""
    async with opened(tmp_path) as stage:
        one = await made(stage)
        for method, rest, body in (("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("POST", "/rotate", None)):
            answers = [
                await call(stage, method, f"/api/ai/keys/{name}{rest}", body, key=KEYS["stranger"])
                for name in (one["id"], "nobody's", "maker")
            ]
            assert {(each.status, each.json()["error"]) for each in answers} == {(404, "not_found")}
            listed = await call(stage, method, f"/api/ai/keys/maker{rest}", body)
            assert (listed.status, listed.json()["error"]) == (409, "defined_in_file")


async def test_a_key_gives_no_more_than_it_has(tmp_path: Path) -> None:
    """Scopes are refused; models and limits are passed on, and what is made shares the limits."""
    async with opened(tmp_path) as stage:
        refused = await call(stage, "POST", "/api/ai/keys", {"scopes": ["ai:manage"]})
        assert (refused.status, refused.json()["error"]) == (403, "insufficient_scope")
        child = (await made(stage, key=BOUND, models=["a", "b"]))["key"]
        assert await chat(stage, child, "b") == (403, "model_not_accessible")
        grandchild = (await made(stage, key=child))["key"]
        assert [await chat(stage, key) for key in (child, BOUND, grandchild)] == [(200, None)] * 3
        assert [(await chat(stage, key))[1] for key in (child, BOUND, grandchild)] == ["insufficient_quota"] * 3


async def test_shared_limits_survive_a_restart(tmp_path: Path) -> None:
    """What a made key used, revoked or not, still counts for its maker."""
    async with opened(tmp_path) as stage:
        child = await made(stage, key=BOUND)
        assert [await chat(stage, child["key"]) for _ in range(3)] == [(200, None)] * 3
        await call(stage, "DELETE", f"/api/ai/keys/{child['id']}")
    async with opened(tmp_path) as stage:
        assert (await chat(stage, BOUND))[1] == "insufficient_quota"


async def test_what_a_key_made_dies_with_it(tmp_path: Path) -> None:
    """Revoked, it takes its children with it, and theirs; rotated, it leaves them alone."""
    async with opened(tmp_path) as stage:
        child = await made(stage)
        grandchild = await made(stage, key=child["key"])
        turned = (await call(stage, "POST", f"/api/ai/keys/{child['id']}/rotate")).json()
        assert await chat(stage, child["key"]) == (401, "invalid_api_key")
        assert await chat(stage, grandchild["key"]) == (200, None)
        assert await chat(stage, turned["key"]) == (200, None)
        await call(stage, "DELETE", f"/api/ai/keys/{child['id']}")
        assert await chat(stage, turned["key"]) == (401, "invalid_api_key")
        assert await chat(stage, grandchild["key"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("most", [0, 2])
async def test_self_service_has_a_cap(tmp_path: Path, most: int) -> None:
    async with opened(tmp_path, self_service={"keys": most, "max_days": 7}) as stage:
        for _ in range(most):
            assert (await made(stage))["expires"] is not None
        refused = await call(stage, "POST", "/api/ai/keys", {})
        assert (refused.status, refused.json()["error"]) == (409, "too_many_keys")


async def test_the_cap_holds_for_those_that_come_together(tmp_path: Path) -> None:
    """Of a dozen at once no more than three are made, and what is refused is not there."""
    async with opened(tmp_path, self_service={"keys": 3}) as stage:
        asked = [call(stage, "POST", "/api/ai/keys", {"name": "mine"}) for _ in range(12)]
        statuses = Counter([reply.status for reply in await asyncio.gather(*asked)])
        assert set(statuses) <= {201, 409}
        listed = (await call(stage, "GET", "/api/ai/keys")).json()
        assert len([key for key in listed if key["name"] == "mine"]) == statuses[201] <= 3


async def test_self_service_keys_end_in_time(tmp_path: Path) -> None:
    async with opened(tmp_path, self_service={"max_days": 7}) as stage:
        late = await call(stage, "POST", "/api/ai/keys", {"expires": "2999-01-01"})
        assert (late.status, late.json()["error"]) == (400, "invalid_request")


async def test_an_admin_rotates_with_a_grace(tmp_path: Path) -> None:
    """Both hold meanwhile; the list shows one."""
    async with opened(tmp_path) as stage:
        one = (await call(stage, "POST", "/api/admin/keys", {"user": 42, "id": "ci"}, key=ADMIN)).json()
        turned = await call(stage, "POST", "/api/admin/keys/ci/rotate", {"grace_seconds": 3600}, key=ADMIN)
        assert turned.status == 201
        assert [(await chat(stage, key))[0] for key in (one["key"], turned.json()["key"])] == [200, 200]
        listed = (await call(stage, "GET", "/api/admin/keys", key=ADMIN)).json()
        assert [each["last4"] for each in listed if each["id"] == "ci"] == [turned.json()["key"][-4:]]
        too_long = await call(stage, "POST", "/api/admin/keys/ci/rotate", {"grace_seconds": 31 * 86400}, key=ADMIN)
        assert too_long.status == 400
        await call(stage, "DELETE", "/api/admin/keys/ci", key=ADMIN)
        assert [(await chat(stage, key))[0] for key in (one["key"], turned.json()["key"])] == [401, 401]


async def test_me(tmp_path: Path) -> None:
    """Who one is, also while AI is off, and whom one acts for."""
    users = [{"id": 42, "tier": "paid", "name": "Ada"}]
    async with opened(tmp_path, users=users, usage={"currency": "USD"}, features={"ai": False}) as stage:
        assert (await call(stage, "GET", "/api/ai/me")).json() == {
            "user": 42,
            "name": "Ada",
            "tier": "paid",
            "scopes": ["ai:use", "usage:read"],
            "features": {"ai": False},
            "currency": "USD",
        }
        acting = await call(stage, "GET", "/api/ai/me", key=KEYS["panel"], x_gateway_user="42")
        assert acting.json()["name"] == "Ada"
        assert (await call(stage, "GET", "/api/ai/keys")).json() == {"error": "feature_disabled"}
