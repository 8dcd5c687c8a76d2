"""Running batches are looked after by one worker of all, and booked once, whoever of them is killed over it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from agree.agree_kit import running_redis
from batch_kit import CHAT, PRICE, Batching, Provider, jsonl, line
from kit import KEYS, FakeUpstream, GatewayProcess
from kit.books import until
from kit.gateway import config
from kit.stage import endpoint, model
from kit.upstream import Received
from store.grants_kit import RedisServer
from test_batches import output

QUICK = (str(Path(__file__).with_name("quick_gateway.py")),)
REPORT = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
LINES = 10_000


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@dataclass
class Fleet:
    """Gateways beside one Redis and one ledger."""

    gateways: list[GatewayProcess]
    upstream: FakeUpstream
    provider: Provider
    ledger: Path

    def of(self, place: int) -> Batching:
        async def never(_: bool) -> GatewayProcess:
            raise NotImplementedError

        return Batching(self.gateways[place], self.upstream, self.provider, never)

    def pids(self) -> list[int]:
        """Whoever of them asks upstreams."""
        found: list[int] = []
        for gateway in self.gateways:
            pid = gateway.process.pid
            workers = Path(f"/proc/{pid}/task/{pid}/children")
            found += list(map(int, workers.read_text().split())) if workers.exists() else []
            found.append(pid)
        return found

    def asks(self, request: Received) -> int:
        """The process at the other end of a connection."""
        port = request.connection.transport.get_extra_info("peername")[1]
        lines = [each.split() for each in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        socket = next(each[9] for each in lines if int(each[1].split(":")[1], 16) == port)
        for pid in self.pids():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                if descriptor.is_symlink() and os.readlink(descriptor) == f"socket:[{socket}]":
                    return pid
        raise AssertionError("none of the gateways holds this connection")

    def rows(self, request_id: str | None) -> list[tuple[int, str]]:
        """Tokens and source of each row of a request."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            asked = "select total_tokens, usage_source from ai_usage where request_id = ?"
            return [(int(tokens), str(source)) for tokens, source in connection.execute(asked, (request_id,))]

    async def booked(self, request_id: str | None) -> tuple[int, str]:
        """The one row of a request."""

        async def is_there() -> bool:
            return bool(self.rows(request_id))

        await until(is_there)
        (row,) = self.rows(request_id)
        return row

    async def used_tokens(self, place: int) -> int:
        """What the limits have counted."""
        reply = await self.gateways[place].get("/api/ai/my-models", key=KEYS["user"])
        return int(next(each["used"]["tokens"] for each in reply.json() if each["model"]["name"] == "m"))


@asynccontextmanager
async def fleet(directory: Path, server: RedisServer, *, gateways: int, workers: int) -> AsyncIterator[Fleet]:
    provider = Provider()
    upstream = await FakeUpstream.start(provider)
    ledger = directory / "usage.db"
    settings = config(
        [model("m", [endpoint(upstream, "a")], price=PRICE, limits={"tokens": 10**9})],
        store={"kind": "redis", "url": server.url, "prefix": f"{directory.name}:"},
        server={"workers": workers},
        usage={"url": f"sqlite:///{ledger}"},
    )
    async with AsyncExitStack() as running:
        started = []
        for number in range(gateways):
            (directory / str(number)).mkdir()
            start = GatewayProcess.start(settings, directory / str(number), QUICK)
            started.append(await running.enter_async_context(start))
        yield Fleet(started, upstream, provider, ledger)
    await upstream.close()


@pytest.mark.parametrize(("gateways", "workers"), [(1, 2), (2, 2)])
async def test_one_looks_and_it_is_booked_once(
    tmp_path: Path, redis_server: RedisServer, gateways: int, workers: int
) -> None:
    async with fleet(tmp_path, redis_server, gateways=gateways, workers=workers) as all_of:
        begun = [
            await all_of.of(number % gateways).begun(line(1, model="m"), line(2, model="m")) for number in range(5)
        ]
        batches = [each.json()["id"] for each in begun]
        holders: list[int] = []

        async def look(request: Received) -> None:
            if request.method == "GET" and request.route.startswith("batches/"):
                asks = all_of.asks(request)
                if holders[-1:] != [asks]:
                    holders.append(asks)
            await all_of.provider(request)

        all_of.upstream.endpoint("a").always(look)

        async def are_looked_at() -> bool:
            return all(all_of.provider.polls(each) >= 3 for each in batches)

        await until(are_looked_at)
        assert len(holders) <= 2, "it passes on where the holder stands still for longer than its lease, and no oftener"
        for each in batches:
            all_of.provider.ends(each, usage=REPORT)
        # Who reads it books it as well, on whichever worker, beside the one that looks after it.
        await asyncio.gather(
            *(all_of.of(turn % gateways).ask("GET", f"/batches/{each}") for each in batches for turn in range(4))
        )
        for each in begun:
            assert await all_of.booked(each.header("x-request-id")) == (1_100, "reported")

        async def are_counted() -> bool:
            return await all_of.used_tokens(0) == 5 * 1_100

        await until(are_counted)


@pytest.mark.parametrize(("gateways", "workers"), [(1, 2), (2, 1)])
async def test_whoever_asks_is_killed_over_ten_thousand_lines(
    tmp_path: Path, redis_server: RedisServer, gateways: int, workers: int
) -> None:
    """Once while it asks for the batch, once in the middle of its output: the next one books all of it, once."""
    async with fleet(tmp_path, redis_server, gateways=gateways, workers=workers) as all_of:
        content = jsonl(*(line(number, model="m") for number in range(LINES)))
        file = (await all_of.of(0).upload(content)).json()["id"]
        asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        begun = await all_of.of(0).ask("POST", "/batches", asked)
        assert begun.status == 200, begun.body
        batch = begun.json()["id"]
        kills = {f"batches/{batch}": 1, "content": 1}
        killed = asyncio.Event()

        async def deadly(request: Received) -> None:
            named = "content" if request.route.endswith("/content") else request.route
            if request.method != "GET" or not kills.get(named):
                await all_of.provider(request)
                return
            kills[named] -= 1
            if named == "content":
                whole = all_of.provider.files["a"][request.route.split("/")[1]]
                await request.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole))
                await request.send(whole[: len(whole) // 2])
                killed.set()
            victim = all_of.asks(request)
            all_of.gateways[:] = [each for each in all_of.gateways if each.process.pid != victim]
            os.kill(victim, signal.SIGKILL)
            await request.connection.closed  # and with it this task

        all_of.upstream.endpoint("a").always(deadly)
        if gateways > 1:  # who is killed there does not come back
            kills[f"batches/{batch}"] = 0
        all_of.provider.ends(batch, output=(output(number, 10, 5) for number in range(LINES)))
        await asyncio.wait_for(killed.wait(), 30)
        assert await all_of.booked(begun.header("x-request-id")) == (LINES * 15, "reported")
        assert kills == {f"batches/{batch}": 0, "content": 0}

        async def is_counted() -> bool:
            return await all_of.used_tokens(0) == LINES * 15

        await until(is_counted)
        assert json.loads(begun.body)["id"] == batch
