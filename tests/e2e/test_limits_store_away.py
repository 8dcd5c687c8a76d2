"""Limits whose totals must first be told by a database that says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from kit import FakeUpstream, Stage, ask, assert_error, config
from kit.stage import Record, endpoint, model

GENEROUS_SECONDS = 20.0
ADMIN_KEY = "sk-admin-key-0123456789abcdef"


@asynccontextmanager
async def silent_database() -> AsyncIterator[int]:
    """Takes connections and never says a word, as a stopped server does. Gives its port."""
    writers = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])
        for writer in writers:
            writer.close()


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("counted", [endpoint(upstream, "counted")], limits={"requests": 10})
    yield model("minute", [endpoint(upstream, "minute")], limits={"rpm": 10, "concurrency": 10})
    yield model("free", [endpoint(upstream, "free")])


async def test_a_silent_database_stops_no_limit_that_needs_none_of_it(tmp_path: Path) -> None:
    """A total that must be rebuilt is 503 before any endpoint is asked; all else is served meanwhile."""
    async with silent_database() as port:
        usage = {"url": f"postgresql://gateway:secret-word@127.0.0.1:{port}/usage"}
        keys = [*config([])["keys"], {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:manage"]}]
        async with Stage.open(tmp_path, models, usage=usage, keys=keys) as stage, asyncio.timeout(GENEROUS_SECONDS):
            waiting = [asyncio.create_task(stage.post(ask("counted"))) for _ in range(20)]
            for name in ("minute", "free"):
                assert (await stage.post(ask(name))).status == 200
            for reply in await asyncio.gather(*waiting):
                assert_error(reply, 503, "store_unavailable", "server_error")
                assert reply.header("retry-after") == "1"
            assert stage.upstream.endpoint("counted").requests == []
            endpoints = await stage.get("/api/admin/ai/endpoints", key=ADMIN_KEY)
            assert {each["state"] for each in endpoints.json()} == {"available"}
