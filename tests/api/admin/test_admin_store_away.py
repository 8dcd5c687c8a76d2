"""Admin routes while the store of run-time records is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

from admin_kit import Admin, opened, running_redis
from kit import DEADLINE_SECONDS
from store.grants_kit import RedisServer


async def test_what_cannot_be_known_is_not_denied(tmp_path: Path) -> None:
    """503 that says so: no 404 for what may be there, no change that is not kept; and it heals by itself."""
    with running_redis(tmp_path) as server:
        async with opened(tmp_path, {"kind": "redis", "url": server.url}) as stage:
            await away_and_back(Admin(stage), server)


async def away_and_back(admin: Admin, server: RedisServer) -> None:
    await admin.put("plans/kept", {"name": "Kept"}, 201)
    server.stop()
    for method, path, body in (
        ("GET", "plans/kept", None),
        ("GET", "users/unheard-of", None),
        ("PUT", "plans/other", {}),
        ("POST", "keys", {"user": 1}),
        ("POST", "ai/models/id-free/link-user", {"userId": 1}),
        ("DELETE", "keys/none", None),
    ):
        reply = await admin.call(method, path, body)
        assert (reply.status, reply.json()["error"]) == (503, "store_unavailable"), (method, path, reply)
        assert reply.header("retry-after") == "1"
    assert (await admin.chat("listed")).status == 200
    server.start()
    await healed(admin)
    await admin.put("plans/other", {}, 201)


async def healed(admin: Admin) -> None:
    """Nothing tells that the store is back but the routes themselves."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await admin.call("GET", "plans")).status != 200:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)
