"""Records that a panel wrote in Redis, in its own language's way, are shown and changed like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from admin_kit import Admin, opened, running_redis

# As Lua's cjson and PHP's json_encode write them.
WRITTEN = {
    "gw:user:7": '{"tier":"paid","organisations":{},"plans":[10.0],"grants":[{"id":3.0,"model":"free","limits":[]}]}',
    "gw:user:8": '{"tier":"paid"}',
    "gw:user:9": "[]",
    "gw:org:5": '{"grants":{}}',
    "gw:plan:10": '{"name":"Ten","grants":[{"model":"free","limits":{"rpm":5.0}}]}',
}


async def test_they_are_shown_and_changed(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        with server.client() as panel:
            panel.mset(WRITTEN)
        async with opened(tmp_path, {"kind": "redis", "url": server.url}) as stage:
            await walk(Admin(stage))


async def walk(admin: Admin) -> None:
    listed = {each["id"]: each for each in await admin.get("users") if each["source"] == "store"}
    assert set(listed) == {7, 8, 9}
    seven: dict[str, Any] = await admin.get("users/7")
    assert seven == listed[7]
    assert (seven["organisations"], seven["plans"]) == ([], [10])
    assert [(each["id"], each["model"], each["limits"]) for each in seven["grants"]] == [(3, "id-free", {})]
    assert '"id":3,' in (await admin.call("GET", "users/7")).body.decode(), "and not 3.0"
    assert (await admin.get("users/8"))["grants"] == []
    assert (await admin.get("organisations/5"))["grants"] == []
    assert (await admin.get("plans/10"))["grants"][0]["limits"] == {"rpm": 5}
    changed = await admin.put("users/7/ai/3", {"limits": {"rpm": 1}})
    assert changed["link"] == {"id": 3, "modelId": "id-free", "limits": {"rpm": 1}}
    made = await admin.post("users/8/ai/new", {"modelId": "id-free"})
    assert (await admin.get("users/8"))["grants"][0]["id"] == made["link"]["id"]
    await admin.post("ai/models/id-free/link-org", {"orgId": 5})
    await admin.delete("ai/models/id-free/unlink-org/5")
    assert (await admin.put("users/9", {"name": "Nine"}))["name"] == "Nine"
