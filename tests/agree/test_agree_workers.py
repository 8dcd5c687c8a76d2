"""`server.workers: 2`: both serve, one dies and the other does not notice, and all of them hear the same signals."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agree_kit import gateway, rewrite, settings
from kit import DEADLINE_SECONDS, DONE, KEYS, FakeUpstream, GatewayProcess, Wire, ask, events, request_bytes
from kit.answers import delta
from kit.books import acting_for, rows, stored, until
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

WORKERS = 2
CLIENTS = 64


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("open", [endpoint(upstream, "open")])
    yield model("hundred", [endpoint(upstream, "hundred")], limits={"requests": 100, "period": "month"})
    yield model("streamed", [endpoint(upstream, "streamed")])


@asynccontextmanager
async def workers(directory: Path, upstream: FakeUpstream, redis: RedisServer) -> AsyncIterator[GatewayProcess]:
    """Two workers, each of whom is up. Redis is emptied before."""
    with redis.client() as client:
        client.flushall()
    whole = settings(list(models(upstream)), redis.url, server={"workers": WORKERS, "drain_seconds": 90})
    async with gateway(directory, whole) as running:
        await until_listening(running, 1)
        yield running


async def until_listening(at: GatewayProcess, times: int) -> None:
    """Waits until all workers listened so many times: at first, and with each that took the place of another."""

    async def all_here() -> bool:
        return sum(line["event"] == "listening" for line in at.logs) >= times

    await until(all_here)


class Held(NamedTuple):
    """A connection that stays with one worker."""

    wire: Wire
    pid: int


async def pid_behind(wire: Wire) -> int:
    return int((await detail_behind(wire))["pid"])


async def detail_behind(wire: Wire) -> dict[str, Any]:
    await wire.send(request_bytes("GET", "/readyz", key=KEYS["reader"]))
    return dict((await wire.reply()).json()["detail"])


async def connection_to_each(at: GatewayProcess, stack: AsyncExitStack, count: int = 1) -> dict[int, list[Wire]]:
    """`count` connections to each worker: opened until the kernel has given each of them as many."""
    found: dict[int, list[Wire]] = collections.defaultdict(list)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < WORKERS or min(map(len, found.values())) < count:
            wires = [await stack.enter_async_context(Wire.open(at.port)) for _ in range(8)]
            for wire, pid in zip(wires, await asyncio.gather(*map(pid_behind, wires)), strict=True):
                found[pid].append(wire)
    return {pid: wires[:count] for pid, wires in found.items()}


async def chat_on(wire: Wire, name: str) -> int:
    await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name), key=KEYS["user"]))
    return (await wire.reply()).status


async def test_a_count_holds_over_both_workers_and_the_ledger_has_each_request_once(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path
) -> None:
    """64 clients, half of them on each worker, against `requests: 100`: a hundred pass, and there are as many rows."""
    request = request_bytes(
        "POST", "/v1/chat/completions", ask("hundred"), key=KEYS["panel"], headers=acting_for("crowd")
    )
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        by_worker = await connection_to_each(at, stack, CLIENTS // WORKERS)
        passed: collections.Counter[int] = collections.Counter()
        refused: collections.Counter[int] = collections.Counter()
        all_here = asyncio.Barrier(CLIENTS)

        async def client(pid: int, wire: Wire) -> None:
            await all_here.wait()
            for _ in range(4):
                await wire.send(request)
                status = (await wire.reply()).status
                assert status in (200, 429)
                (passed if status == 200 else refused)[pid] += 1

        async with asyncio.TaskGroup() as clients:
            for pid, wires in by_worker.items():
                for wire in wires:
                    clients.create_task(client(pid, wire))
        warnings = [line["event"] for line in at.logs if line["level"] == "warning"]
        assert (passed.total(), refused.total()) == (100, CLIENTS * 4 - 100), warnings
        assert set(passed) == set(by_worker), "both workers serve"
        assert len(upstream.endpoint("hundred").requests) == 100
        assert len(await rows(at, "crowd", 100)) == 100
    found = stored(tmp_path)
    assert len(found) == len({row["request_id"] for row in found}) == 100


async def test_a_killed_worker_is_replaced_and_the_other_serves_on(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Clients of the other worker ask all the time and notice nothing; new connections are served throughout."""
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        (victim, _), (survivor, wires) = sorted((await connection_to_each(at, stack, 2)).items())
        statuses: list[int] = []
        replaced = asyncio.Event()

        async def ask_on(wire: Wire) -> None:
            while not replaced.is_set():
                statuses.append(await chat_on(wire, "open"))

        async with asyncio.TaskGroup() as clients:
            for wire in wires:
                clients.create_task(ask_on(wire))
            os.kill(victim, signal.SIGKILL)
            told = await at.log(lambda line: line["event"] == "worker died and is replaced")
            await until_listening(at, 2)
            replaced.set()
        assert (told["pid"], told["exit_code"], told["level"]) == (victim, -signal.SIGKILL, "error")
        assert set(statuses) == {200}
        fresh = await connection_to_each(at, stack)
        assert survivor in fresh
        assert victim not in fresh
        assert [await chat_on(wires[0], "open") for wires in fresh.values()] == [200] * WORKERS


async def test_sigterm_drains_all_and_streams_on_both_end_well(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Each stream arrives whole, the process ends with 0 before `drain_seconds` are over, the ledger has all rows."""
    release = asyncio.Event()
    upstream.endpoint("streamed").always(events(delta("one"), release, delta("two"), DONE))
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        streams = [wires[0] for wires in (await connection_to_each(at, stack)).values()]
        for wire in streams:
            body = ask("streamed", stream=True)
            await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"]))
            await wire.head()
            assert await wire.event() == delta("one")
        at.signal(signal.SIGTERM)

        async def all_draining() -> bool:
            return sum(line["event"] == "draining" for line in at.logs) == WORKERS

        await until(all_draining)
        release.set()
        assert [(await wire.body()).body for wire in streams] == [delta("two") + DONE] * WORKERS
        assert await at.wait() == 0
    assert [row["outcome"] for row in stored(tmp_path)] == ["ok"] * WORKERS


async def test_sighup_reloads_all(upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path) -> None:
    """On either worker the next request finds what the file says now, and so on one that was born after it."""
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        by_worker = await connection_to_each(at, stack)
        whole = settings(
            [model("renamed", [endpoint(upstream, "open")])], redis_server.url, server={"workers": WORKERS}
        )
        rewrite(tmp_path, whole)
        began = time.monotonic()
        at.signal(signal.SIGHUP)
        for wires in by_worker.values():

            async def served(wire: Wire = wires[0]) -> bool:
                return await chat_on(wire, "renamed") == 200

            await until(served, 1.0)
        assert time.monotonic() - began < 1.0
        os.kill(min(by_worker), signal.SIGKILL)
        await until_listening(at, 2)
        fresh = await connection_to_each(at, stack)
        assert [await chat_on(wires[0], "renamed") for wires in fresh.values()] == [200] * WORKERS


async def test_what_all_workers_would_say_is_one_line(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A start, a change of the file, a broken file and a stop: a line each."""
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        pids = set(await connection_to_each(at, stack))
        (told,) = [line for line in at.logs if line["event"] == "listening"]
        assert set(told["workers"]) == pids
        whole = settings([model("new", [endpoint(upstream, "open")])], redis_server.url, server={"workers": WORKERS})
        for text in (whole, "models: 7\n"):
            rewrite(tmp_path, text)
            for wires in (await connection_to_each(at, stack)).values():

                async def has_read(wire: Wire = wires[0], is_broken: bool = text is not whole) -> bool:
                    about = (await detail_behind(wire))["config"]
                    return about["models"] == 1 and bool(about["problems"]) == is_broken

                await until(has_read)
        at.signal(signal.SIGTERM)
        assert await at.wait() == 0
    counted = collections.Counter(line["event"] for line in at.logs if line["event"] != "request")
    broken = "configuration not reloaded: the file has problems"
    events = ["listening", "configuration reloaded", broken, "draining", "stopped"]
    assert {event: counted[event] for event in events} == dict.fromkeys(events, 1)
    assert max(counted.values()) == 1, counted


async def test_workers_without_redis_are_refused_at_the_start(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Exit code 1 and a line that says what to do, before any worker is there."""
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(settings(list(models(upstream)), server={"workers": WORKERS})))
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, told = await process.communicate()
    assert process.returncode == 1
    assert "gateway.yaml:" in told.decode()
    assert "server.workers" in told.decode()
    assert "kind: redis" in told.decode()
