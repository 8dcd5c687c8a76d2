"""Two workers and a Redis: a key that is taken away on one closes sockets on both; a limit holds over both."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio as redis
from agree.agree_kit import running_redis
from kit import DEADLINE_SECONDS, KEYS, GatewayProcess, config
from kit.sockets import SocketUpstream
from kit.stage import model
from websocket_kit import Client

from gateway.access.authenticate import key_sha256

MANY = 8
KEY = "sk-in-redis-0123456789abcdefghij"


async def test_keys_and_limits_hold_on_every_worker(tmp_path: Path) -> None:
    (home := tmp_path / "redis").mkdir()
    with running_redis(home) as server:
        async with SocketUpstream.start() as upstream:
            models = [model("tight", [upstream.endpoint()], limits={"requests": 5})]
            store = {"kind": "redis", "url": server.url}
            link = redis.from_url(server.url)
            try:
                await _check(config(models, store=store, server={"workers": 2}), tmp_path, link)
            finally:
                await link.aclose()


async def _check(settings: dict[str, Any], directory: Path, link: redis.Redis) -> None:
    record = {"id": "r", "user": 42, "scopes": ["ai:use"]}
    name = f"gw:key:{key_sha256(KEY)}"
    await link.set(name, json.dumps(record))
    async with GatewayProcess.start(settings, directory) as gateway, aiohttp.ClientSession() as session:
        target = f"http://127.0.0.1:{gateway.port}/v1/responses"
        headers = {"authorization": f"Bearer {KEY}"}
        clients = [Client(await session.ws_connect(target, headers=headers)) for _ in range(MANY)]
        for client in clients:
            await client.create("tight")
        ends = [(await client.end())[-1] for client in clients]
        assert sorted(end["type"] for end in ends) == ["error"] * 3 + ["response.completed"] * 5
        assert {end["error"]["code"] for end in ends if end["type"] == "error"} <= {
            "insufficient_quota",
            "rate_limit_exceeded",
        }
        await link.set(name, json.dumps(record | {"revoked": True}))
        began = asyncio.get_running_loop().time()
        await link.publish("gw:changed", json.dumps({"kind": "key", "id": key_sha256(KEY)}))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [await client.closed() for client in clients] == [1008] * MANY
        assert asyncio.get_running_loop().time() - began < 1.0 + 0.5
        assert KEYS["user"] not in gateway.output()
