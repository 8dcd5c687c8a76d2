"""Requests as they run, told as server-sent events to those who may read usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agree.agree_kit import running_redis
from dashboard.test_dashboard_sessions import cookie_of
from kit import KEYS, Stage, Wire, ask, request_bytes
from kit.answers import delta, events, upstream_error
from kit.gateway import GatewayProcess
from kit.stage import spare_models

OWNER = "sk-owner-0123456789abcdefghijk"
PATH = "/api/admin/ai/requests"


def keys() -> list[dict[str, Any]]:
    return [
        {"id": "owner", "user": "root", "key": OWNER, "scopes": ["ai:use", "ai:manage", "usage:read"]},
        {"id": "user", "user": 42, "key": KEYS["user"]},
        {"id": "stranger", "user": "stranger", "key": KEYS["stranger"]},
    ]


class Reader:
    """Reads the stream's events."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def event(self) -> dict[str, Any] | None:
        """The next event that is no heartbeat; None at the stream's clean end."""
        while True:
            raw = await self.wire.event()
            if not raw:
                return None
            if raw.startswith(b"data: "):
                return dict(json.loads(raw.removeprefix(b"data: ")))

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The next event with these fields."""
        while True:
            event = await self.event()
            assert event is not None, f"the stream ended before {wanted}"
            if wanted.items() <= event.items():
                return event


@asynccontextmanager
async def reading(port: int, query: str = "", *, key: str | None = OWNER, cookie: str = "") -> AsyncIterator[Reader]:
    async with Wire.open(port) as wire:
        headers = [("cookie", cookie)] if cookie else []
        await wire.send(request_bytes("GET", PATH + query, key=key, headers=headers))
        head = await wire.head()
        assert (head.status, head.header("content-type")) == (200, "text/event-stream; charset=utf-8")
        reader = Reader(wire)
        assert await reader.event() == {"type": "begun"}
        yield reader


async def test_a_request_is_seen_to_run_and_to_end(tmp_path: Path) -> None:
    """Who asked for what, where it went, how it ended and what it used; none of its words."""
    async with (
        Stage.open(tmp_path, keys=keys(), routing={"unknown_model": "reject"}) as stage,
        reading(stage.port) as reader,
    ):
        one, go = stage.model("pair"), asyncio.Event()
        one.a.replies(upstream_error(500))
        one.b.replies(events(delta("planted words"), go, delta("."), b"data: [DONE]\n\n"))
        async with stage.asking(one.chat(stream=True)) as wire:
            running = await reader.until(type="request", outcome="running", endpoint=f"{one.name}.b")
            assert (running["user"], running["key"], running["model"]) == (42, "user", one.name)
            assert (running["route"], running["outcome"]) == ("/v1/chat/completions", "running")
            go.set()
            await wire.reply()
        ended = await reader.until(type="request", id=running["id"], outcome="ok")
        assert (ended["status"], ended["attempts"], ended["streamed"]) == (200, 2, True)
        assert ended["milliseconds"] >= ended["firstByteMs"] > 0
        assert "planted" not in json.dumps([running, ended])
        await stage.post(ask("nothing-of-this-name"), key=KEYS["stranger"])
        refused = await reader.until(type="request", outcome="refused")
        assert (refused["asked"], refused["status"], refused["user"]) == ("nothing-of-this-name", 404, "stranger")


async def test_what_runs_already_is_told_first(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, keys=keys()) as stage:
        one, go = stage.model(), asyncio.Event()
        one.a.replies(events(delta("a"), go, b"data: [DONE]\n\n"))
        async with stage.asking(one.chat(stream=True)) as wire:
            await one.a.request()
            for _ in range(2):  # somebody else's reading takes nothing away
                async with reading(stage.port) as reader:
                    await reader.until(outcome="running", model=one.name)
            go.set()
            await wire.reply()


async def test_a_reader_names_what_it_wants(tmp_path: Path) -> None:
    """By model (name or id), user and outcome; an outcome that does not exist is refused."""
    async with Stage.open(tmp_path, keys=keys()) as stage:
        one, other = stage.model(), stage.model()
        query = f"?model=id-{one.name}&user=42&outcome=ok"
        async with reading(stage.port, query) as reader:
            await stage.post(other.chat())
            await stage.post(one.chat(), key=KEYS["stranger"])
            await stage.post(one.chat())
            event = await reader.event()
            assert event is not None
            assert (event["model"], event["user"], event["outcome"]) == (one.name, 42, "ok")
        wrong = await stage.get(f"{PATH}?outcome=good", key=OWNER)
        assert (wrong.status, wrong.json()["error"]) == (400, "invalid_request")
        assert (await stage.get(PATH, key=KEYS["user"])).status == 403
        assert (await stage.get(PATH, key=None)).status == 401


@pytest.mark.parametrize("by", ["key", "session"])
async def test_it_ends_with_its_reader(tmp_path: Path, by: str) -> None:
    """With the key that is revoked, and with a session whose key it was."""
    async with Stage.open(tmp_path, keys=keys()) as stage:
        body = {"user": 7, "scopes": ["ai:use", "usage:read"]}
        async with Wire.open(stage.port) as wire:
            await wire.send(request_bytes("POST", "/api/admin/keys", body, key=OWNER))
            made = (await wire.reply()).json()
        cookie = ""
        if by == "session":
            async with Wire.open(stage.port) as wire:
                own = [("sec-fetch-site", "same-origin")]
                await wire.send(request_bytes("POST", "/dashboard/session", {"key": made["key"]}, headers=own))
                cookie = cookie_of(await wire.reply())
        async with reading(stage.port, key=None if cookie else made["key"], cookie=cookie) as reader:
            async with Wire.open(stage.port) as wire:
                await wire.send(request_bytes("DELETE", f"/api/admin/keys/{made['id']}", key=OWNER))
                assert (await wire.reply()).status == 200
            assert await reader.event() is None


async def test_it_ends_with_a_key_that_a_reload_takes_away(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, keys=keys()) as stage, reading(stage.port) as reader:
        whole = json.loads((tmp_path / "gateway.yaml").read_text())
        whole["keys"] = [key for key in whole["keys"] if key["id"] != "owner"]
        (tmp_path / "gateway.yaml").write_text(json.dumps(whole))
        stage.gateway.process.send_signal(1)
        assert await reader.event() is None


async def test_it_ends_when_the_gateway_drains(tmp_path: Path) -> None:
    """At once, and cleanly: nobody waits for a reader."""
    async with Stage.open(tmp_path, may_end=True, keys=keys(), server={"drain_seconds": 60}) as stage:
        async with reading(stage.port) as reader:
            stage.gateway.process.terminate()
            assert await reader.event() is None
        async with asyncio.timeout(30):
            assert await stage.gateway.process.wait() == 0


async def test_a_slow_reader_loses_events_and_is_told(tmp_path: Path) -> None:
    """What it does not take is dropped, the oldest first, and counted; others are served as ever."""
    with running_redis(tmp_path) as server:
        store = {"kind": "redis", "url": server.url}
        async with Stage.open(tmp_path, keys=keys(), store=store) as stage:
            one = stage.model()
            async with reading(stage.port) as reader:
                await stage.post(one.chat())
                seen = await reader.until(outcome="ok")
                reader.wire.stop_reading()
                for worker in range(8):  # as much as eight other workers would tell in a moment
                    told = [seen | {"id": f"{worker}-{number}", "asked": "x" * 200} for number in range(4000)]
                    batch = {"worker": f"another-{worker}", "requests": told, "lost": 0}
                    server.client().publish("gw:live", json.dumps(batch))
                assert (await stage.post(one.chat())).status == 200
                reader.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
                assert (await reader.until(type="lost"))["requests"] > 1000


async def test_a_reader_that_leaves_costs_nothing_more(tmp_path: Path) -> None:
    """Its request ends with it, so that nobody is listened for."""
    async with Stage.open(tmp_path, keys=keys()) as stage:
        async with reading(stage.port):
            pass
        line = await stage.gateway.log(lambda each: each.get("path") == PATH)
        assert line["status"] == 499


async def test_two_workers_on_redis_are_both_seen(tmp_path: Path) -> None:
    """Whichever of them is asked: what runs on the other, and how it ends."""
    with running_redis(tmp_path) as server:
        async with Stage.open(tmp_path, spare_models, keys=keys(), store={"kind": "redis", "url": server.url}) as stage:
            one, go = stage.model(), asyncio.Event()
            whole = json.loads((tmp_path / "gateway.yaml").read_text())
            beside = tmp_path / "beside"
            beside.mkdir()
            async with GatewayProcess.start(whole | {"usage": {"journal": str(beside / "j")}}, beside) as other:
                one.a.replies(events(delta("a"), go, b"data: [DONE]\n\n"))
                async with stage.asking(one.chat(stream=True)) as wire:
                    await one.a.request()
                    async with reading(other.port) as reader, reading(stage.port) as beside_it:
                        running = await reader.until(outcome="running", model=one.name)
                        assert (await beside_it.until(outcome="running"))["id"] == running["id"]
                        go.set()
                        await wire.reply()
                        await reader.until(id=running["id"], outcome="ok")
                        await beside_it.until(id=running["id"], outcome="ok")


async def test_garbage_from_others_is_passed_over(tmp_path: Path) -> None:
    """Whoever writes to Redis may publish on our channels."""
    with running_redis(tmp_path) as server:
        store = {"kind": "redis", "url": server.url}
        async with Stage.open(tmp_path, keys=keys(), store=store) as stage, reading(stage.port) as reader:
            one = stage.model()
            for channel in ("gw:live", "gw:live:asked"):
                for message in (b"", b"{}", b"[1]", b"\xff", b'{"worker": 1}', b'{"worker": "w", "requests": [{}]}'):
                    server.client().publish(channel, message)
            await stage.post(one.chat())
            await reader.until(outcome="ok", model=one.name)
