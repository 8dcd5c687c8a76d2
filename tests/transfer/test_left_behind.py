"""A gateway whose `store.kind` was switched says that keys were left behind, until they are copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.cli_kit import command, write
from kit import GatewayProcess, Wire, config, request_bytes
from store.grants_kit import RedisServer
from transfer_kit import embedded

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
ADMIN = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage"]}
MODEL = {"id": 1, "name": "open", "global": True, "endpoints": [{"id": "a", "url": "https://a.example/v1"}]}


def settings(**store: Any) -> dict[str, Any]:
    return config([MODEL], keys=[ADMIN], store=store)


async def made(gateway: GatewayProcess) -> str:
    """A key, made by the admin route."""
    async with Wire.open(gateway.port) as wire:
        body = json.dumps({"user": 42, "id": "laptop"}).encode()
        await wire.send(request_bytes("POST", "/api/admin/keys", body, key=ADMIN_KEY))
        reply = await wire.reply()
    assert reply.status == 201, reply
    key: str = reply.json()["key"]
    return key


async def test_a_switch_to_redis_and_back_keeps_every_key(tmp_path: Path, redis_server: RedisServer) -> None:
    """What `check` and `serve` say is what is run; then the key works, and nothing is said any more."""
    async with GatewayProcess.start(settings(), tmp_path) as gateway:
        key = await made(gateway)
        assert (await gateway.get("/v1/models", key=key)).status == 200
    on_redis = settings(kind="redis", url=redis_server.url)
    async with GatewayProcess.start(on_redis, tmp_path) as gateway:
        assert (await gateway.get("/v1/models", key=key)).status == 401
        line = await gateway.log(lambda line: "left in the store" in line["event"])
        assert "gateway store copy embedded redis" in line["what"]
        checked = await command("check", cwd=tmp_path)
        assert checked.code == 0
        warning = checked.row("warning: store.kind is redis, but 1 key made at run time is in the embedded store in ")
        assert "`gateway store copy embedded redis -c gateway.yaml`" in warning
        copied = await command("store", "copy", "embedded", "redis", "-c", "gateway.yaml", cwd=tmp_path)
        assert copied.code == 0, copied.err
        assert (await gateway.get("/v1/models", key=key)).status == 200  # it heard of it
    assert "warning" not in (await command("check", cwd=tmp_path)).out
    async with embedded(tmp_path / "data") as store:  # whoever makes another one there is told again
        await store.records.put("key", "b" * 64, b'{"id":"b","user":42}')
    assert "but 2 keys made at run time are in" in (await command("check", cwd=tmp_path)).out


async def test_keys_left_in_redis_are_found_where_they_are_looked_for(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """`check --connect` asks a Redis that is written and not used; `check` asks nobody."""
    with redis_server.client() as client:
        client.set(f"gw:key:{'a' * 64}", '{"id":"a","user":42}')
    write(tmp_path, settings(kind="embedded", url=redis_server.url))
    quiet = await command("check", cwd=tmp_path)
    assert "warning" not in quiet.out
    told = await command("check", "--connect", cwd=tmp_path)
    words = "warning: store.kind is embedded, but 1 key made at run time is in Redis at 127.0.0.1:"
    assert "`gateway store copy redis embedded -c gateway.yaml`" in told.row(words)
    copied = await command("store", "copy", "redis", "embedded", cwd=tmp_path)
    assert copied.code == 0, copied.err
    assert "warning" not in (await command("check", "--connect", cwd=tmp_path)).out
