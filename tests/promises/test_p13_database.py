"""P13: the ledger's database may be away or silent: answers go on, reports say so in seconds, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, GatewayProcess, Reply, Wire, ask, config, request_bytes
from kit.mariadb import private_mariadb
from kit.postgres import private_postgres
from kit.stage import endpoint, model
from promise_kit import gateway, upstream_with

from gateway.usage import UsageQuery
from gateway.usage.sql.reader import Reader

SECONDS = 15.0  # five, and what a busy machine takes
DRAIN_SECONDS = 2.0
SERVERS = {"postgresql": private_postgres, "mariadb": private_mariadb}


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with SERVERS[request.param]() as server:
        yield server
        server.thaw()


async def chat(at: GatewayProcess, name: str) -> Reply:
    async with Wire.open(at.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name), key=KEYS["user"]))
        return await wire.reply()


async def test_a_silent_database_holds_up_nobody(server: Any, tmp_path: Path) -> None:
    """Frozen under a gateway at work, for longer than any time-out; thawed, all is well and every row is there once."""
    url = server.new_database()
    async with upstream_with() as upstream:
        models = [
            model("m", [endpoint(upstream, "a")]),
            model("counted", [endpoint(upstream, "b")], limits={"requests": 1_000, "period": "month"}),
            model("later", [endpoint(upstream, "c")], limits={"requests": 1_000, "period": "month"}),
        ]
        settings = config(models, usage={"url": url.reveal()}, server={"drain_seconds": DRAIN_SECONDS})
        async with gateway(tmp_path, settings) as running:
            assert [(await chat(running, name)).status for name in ("m", "counted")] == [200, 200]
            await until(running, "ok")
            server.freeze()
            began = time.monotonic()
            for target in ("/api/ai/usage", "/api/ai/usage?group=endpoint", "/api/ai/usage/export.csv"):
                refused_for_now(await running.get(target, key=KEYS["user"]), code=("error",))
            refused_for_now(await chat(running, "later"), code=("error", "code"))
            assert time.monotonic() - began < 3 * SECONDS
            for _ in range(20):
                assert [(await chat(running, name)).status for name in ("m", "counted")] == [200, 200]
            await until(running, "degraded")
            server.thaw()
            await until(running, "ok")
            assert (await chat(running, "later")).status == 200
            assert [(await chat(running, name)).status for name in ("m", "counted")] == [200, 200]
            assert len(upstream.endpoint("c").requests) == 1
            # It is silent again, and the gateway has to end.
            server.freeze()
            assert (await chat(running, "m")).status == 200
            asked = asyncio.create_task(running.get("/api/ai/usage", key=KEYS["user"]))
            running.signal(signal.SIGTERM)
            began = time.monotonic()
            assert await running.wait(60) == 0
            assert time.monotonic() - began < DRAIN_SECONDS + SECONDS
            await asyncio.gather(asked, return_exceptions=True)
        server.thaw()
        async with gateway(tmp_path, settings) as after:
            await until(after, "ok")
            reply = await after.get("/api/ai/usage", key=KEYS["user"])
            assert reply.json()["totals"]["requests"] == 46
    reader = Reader(url)
    exported = [record async for record in reader.export(UsageQuery(date.min, date.max))]
    await reader.close()
    assert len({record.request_id for record in exported}) == len(exported) == 46
    assert {record.outcome for record in exported} == {"ok"}


def refused_for_now(reply: Reply, *, code: tuple[str, ...]) -> None:
    found: Any = reply.json()
    for name in code:
        found = found[name]
    assert (reply.status, found) == (503, "store_unavailable")
    assert reply.header("retry-after") == "1"


async def until(at: GatewayProcess, status: str) -> None:
    """Waits until /readyz says so; it serves all the while."""
    async with asyncio.timeout(40):
        while True:
            reply = await at.get("/readyz")
            assert reply.status == 200
            if reply.json()["status"] == status:
                return
            await asyncio.sleep(0.05)
