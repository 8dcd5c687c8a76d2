"""Keys and models in files of their own, beside a gateway that serves."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from kit import DEADLINE_SECONDS, FakeUpstream, GatewayProcess, Wire, as_openai, ask, config, request_bytes
from kit.stage import endpoint, model

ADMIN, NEW = "sk-admin-0123456789abcdefghijkl", "sk-new-0123456789abcdefghijklmn"


async def status(gateway: GatewayProcess, key: str, name: str = "inner") -> int:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name), key=key))
        return (await wire.reply()).status


async def becomes(gateway: GatewayProcess, key: str, wanted: int) -> None:
    ends = time.monotonic() + DEADLINE_SECONDS
    while (found := await status(gateway, key)) != wanted:
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.05)


async def test_files_that_come_change_and_go_are_taken_over_with_the_rest(tmp_path: Path) -> None:
    """A broken one changes nothing; what a file defines is refused with its name and line."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        (tmp_path / "more").mkdir()
        inner = {"models": [model("inner", [endpoint(upstream, "inner")])]}
        (tmp_path / "more" / "models.yaml").write_text(json.dumps(inner, indent=1))
        settings = config([model("outer", [endpoint(upstream, "outer")])], include=["more/*.yaml"])
        settings["keys"].append({"id": "admin", "user": "root", "key": ADMIN, "scopes": ["ai:use", "ai:manage"]})
        async with GatewayProcess.start(settings, tmp_path) as gateway:
            assert [await status(gateway, ADMIN), await status(gateway, NEW)] == [200, 401]
            new = tmp_path / "more" / "team.yaml"
            new.write_text(json.dumps({"keys": [{"id": "new", "user": 7, "key": NEW}]}))
            await becomes(gateway, NEW, 200)
            new.write_text(json.dumps({"keys": [{"id": "new", "user": 7, "key": NEW, "enabled": 3}]}))
            told = await gateway.log(lambda line: "the file has problems" in line["event"])
            assert told["problems"][0].startswith(f"{new}:1: keys[0].enabled: ")
            assert await status(gateway, NEW) == 200
            new.unlink()
            await becomes(gateway, NEW, 401)
            async with Wire.open(gateway.port) as wire:
                await wire.send(request_bytes("DELETE", "/api/admin/ai/models/id-inner", key=ADMIN))
                reply = await wire.reply()
            assert (reply.status, reply.json()["error"]) == (409, "defined_in_file")
            assert f"{tmp_path}/more/models.yaml:3 defines the model" in reply.json()["message"]
    finally:
        await upstream.close()
