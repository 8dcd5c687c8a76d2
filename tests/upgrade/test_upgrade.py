"""SIGUSR2: a successor takes the listening socket over, and no request fails; seen with real processes under load."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from agree.agree_kit import rewrite
from kit import DONE, KEYS, Wire, ask, events, raw, request_bytes
from kit.answers import delta, full
from kit.books import stored
from store.grants_kit import RedisServer
from upgrade_kit import Crowd, Dynasty, is_alive

UPGRADES = 2
STREAMS = 5


@asynccontextmanager
async def streams_under_way(dynasty: Dynasty, release: asyncio.Event) -> AsyncIterator[list[Wire]]:
    """Streams of which the first event has come, and the second comes after `release`."""
    dynasty.upstream.endpoint("streamed").always(events(delta("one"), release, delta("two"), DONE))
    request = request_bytes("POST", "/v1/chat/completions", ask("streamed", stream=True), key=KEYS["user"])
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire.open(dynasty.port)) for _ in range(STREAMS)]
        for wire in wires:
            await wire.send(request)
            await wire.head()
            assert await wire.event() == delta("one")
        yield wires


async def upgraded_under_load(dynasty: Dynasty, workers: int) -> int:
    """Upgrades several times. Returns how many requests were answered, each of them well."""
    answered = 0
    async with Crowd.around(dynasty, staying=6, fleeting=3) as crowd:
        for number in range(1, UPGRADES + 1):
            release = asyncio.Event()
            async with streams_under_way(dynasty, release) as streams:
                before = dynasty.pids[-1]
                await dynasty.begin_upgrade()
                await dynasty.count("retiring", number * workers)
                release.set()
                for stream in streams:
                    assert (await stream.body()).body == delta("two") + DONE
                    answered += 1
            await dynasty.ended(before)
            await dynasty.count("listening", number + 1)
            await crowd.more(30)
    assert set(crowd.outcomes) == {"200"}, crowd.outcomes
    assert crowd.moves, "clients that stay were told to move"
    return answered + crowd.outcomes["200"]


async def test_no_request_fails_with_the_embedded_store(tmp_path: Path) -> None:
    """Two upgrades in a row; the ledger has each request once, none of them interrupted."""
    async with Dynasty.found(tmp_path) as dynasty:
        answered = await upgraded_under_load(dynasty, workers=1)
        assert not is_alive(dynasty.pids[0])
        assert is_alive(dynasty.pids[-1])
    rows = stored(tmp_path)
    assert len(rows) == len({row["request_id"] for row in rows}) == answered
    assert {row["outcome"] for row in rows} == {"ok"}


async def test_no_request_fails_with_several_workers(redis_server: RedisServer, tmp_path: Path) -> None:
    """With Redis both generations serve for a while; the journals of the one that retires are left to it."""
    async with Dynasty.found(tmp_path, redis_server, workers=2) as dynasty:
        answered = await upgraded_under_load(dynasty, workers=2)
    rows = stored(tmp_path)
    assert len(rows) == len({row["request_id"] for row in rows}) == answered
    assert {row["outcome"] for row in rows} == {"ok"}


async def test_with_redis_nobody_waits_for_the_streams_of_the_old_process(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with Dynasty.found(tmp_path, redis_server) as dynasty:
        release = asyncio.Event()
        async with streams_under_way(dynasty, release) as streams:
            await dynasty.begin_upgrade()
            await dynasty.count("retiring", 1)
            assert (await dynasty.founder.get("/healthz")).status == 200
            assert dynasty.founder.is_running
            release.set()
            for stream in streams:
                assert (await stream.body()).body == delta("two") + DONE


async def test_a_connection_that_stays_is_served_once_more_and_told_to_go(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """The last answer says so; one on which nothing comes is closed after a moment, without an answer to nothing."""
    async with Dynasty.found(tmp_path, redis_server) as dynasty:
        request = request_bytes("POST", "/v1/chat/completions", ask("quick"), key=KEYS["user"])
        async with Wire.open(dynasty.port) as busy, Wire.open(dynasty.port) as idle:
            for wire in (busy, idle):
                await wire.send(request)
                assert (await wire.reply()).header("connection") is None
            await dynasty.begin_upgrade()
            await dynasty.count("retiring", 1)
            await busy.send(request)
            reply = await busy.reply()
            assert (reply.status, reply.header("connection")) == (200, "close")
            assert await busy.ended() == b""
            assert await idle.ended() == b""
        assert await dynasty.founder_ended() == 0


async def test_a_stream_is_cut_honestly_when_the_drain_is_over(redis_server: RedisServer, tmp_path: Path) -> None:
    """As by SIGTERM: `stream_incomplete`, a clean end, and a row in the ledger."""
    async with Dynasty.found(tmp_path, redis_server, drain_seconds=0.5) as dynasty:
        async with streams_under_way(dynasty, asyncio.Event()) as streams:
            await dynasty.begin_upgrade()
            for stream in streams:
                assert b'"code":"stream_incomplete"' in await stream.event()
                assert await stream.event() == b""
        await dynasty.ended(dynasty.pids[0])
    assert [row["outcome"] for row in stored(tmp_path)] == ["interrupted"] * STREAMS


async def test_a_stop_shortens_the_retirement(redis_server: RedisServer, tmp_path: Path) -> None:
    """SIGTERM to the old process refuses what still comes to it; a second one does not wait for its streams."""
    async with Dynasty.found(tmp_path, redis_server) as dynasty:
        async with streams_under_way(dynasty, asyncio.Event()) as streams:
            await dynasty.begin_upgrade()
            await dynasty.count("retiring", 1)
            dynasty.founder.signal(signal.SIGTERM)
            await dynasty.count("draining", 1)
            dynasty.founder.signal(signal.SIGTERM)
            for stream in streams:
                assert b'"code":"stream_incomplete"' in await stream.event()
        assert await dynasty.founder_ended() == 0
        assert (await dynasty.founder.get("/healthz")).status == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_successor_that_cannot_start_changes_nothing(
    redis_server: RedisServer, tmp_path: Path, workers: int
) -> None:
    """A broken file: it is told, the process that runs serves on, and the next upgrade is carried out."""
    async with Dynasty.found(tmp_path, redis_server, workers=workers) as dynasty:
        whole = (tmp_path / "gateway.yaml").read_text()
        rewrite(tmp_path, "server: {prot: 1}\n")
        failing = await dynasty.begin_upgrade()
        told = await dynasty.founder.log(lambda line: line["event"] == "successor failed, this process serves on")
        assert (told["successor"], told["exit_code"]) == (dynasty.pids.pop(), 1)
        assert not is_alive(failing)
        assert dynasty.founder.noise, "what is wrong with the file"
        dynasty.founder.noise.clear()
        assert (await dynasty.founder.get("/healthz")).status == 200
        rewrite(tmp_path, whole)
        await dynasty.begin_upgrade()
        assert await dynasty.founder_ended() == 0
        assert (await dynasty.founder.get("/healthz")).status == 200


async def test_a_new_file_holds_for_the_successor_workers_included(redis_server: RedisServer, tmp_path: Path) -> None:
    """From one process to two: what is read only at the start is read at this one."""
    async with Dynasty.found(tmp_path, redis_server) as dynasty:
        text = (tmp_path / "gateway.yaml").read_text()
        rewrite(tmp_path, text.replace('"server": {', '"server": {"workers": 2, '))
        await dynasty.begin_upgrade()
        await dynasty.count("listening", 2)
        await dynasty.ended(dynasty.pids[0])
        assert (await dynasty.founder.get("/healthz")).status == 200


async def test_a_killed_process_leaves_its_successor_in_charge(tmp_path: Path) -> None:
    """`kill -9` of the old one while its successor waits: the request that died with it becomes `interrupted`."""
    async with Dynasty.found(tmp_path) as dynasty:
        held = dynasty.upstream.endpoint("held")
        held.always(raw(asyncio.Event(), full(200, b"{}")))
        async with Wire.open(dynasty.port) as wire:
            await wire.send(request_bytes("POST", "/v1/chat/completions", ask("held"), key=KEYS["user"]))
            await held.request()
            await dynasty.begin_upgrade()
            await dynasty.count("retiring", 1)
            dynasty.founder.signal(signal.SIGKILL)
            await wire.ended()
        assert (await dynasty.founder.get("/healthz")).status == 200
        await dynasty.count("replayed the journal of a process that ended", 1)
    assert [row["outcome"] for row in stored(tmp_path)] == ["interrupted"]


async def test_a_stop_while_the_successor_starts_ends_both(redis_server: RedisServer, tmp_path: Path) -> None:
    """Whoever says stop means the gateway, not one of its processes."""
    async with Dynasty.found(tmp_path, redis_server, workers=2) as dynasty:
        successor = await dynasty.begin_upgrade()
        dynasty.founder.signal(signal.SIGTERM)
        assert await dynasty.founder.wait() == 0
        assert not is_alive(successor)


async def test_the_service_manager_is_told(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd's protocol: ready, and who is in charge by now."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with Dynasty.found(tmp_path, redis_server) as dynasty:
            assert manager.recv(1000) == b"READY=1"
            successor = await dynasty.begin_upgrade()
            await dynasty.ended(dynasty.pids[0])
            told = {manager.recv(1000), manager.recv(1000)}
            assert told == {b"READY=1", f"MAINPID={successor}".encode()}


async def test_a_killed_supervisor_takes_its_workers_with_it(redis_server: RedisServer, tmp_path: Path) -> None:
    """They drain as by SIGTERM: a stream that runs ends well, then nobody listens any more."""
    async with Dynasty.found(tmp_path, redis_server, workers=2) as dynasty:
        (workers,) = [line["workers"] for line in dynasty.founder.logs if line["event"] == "listening"]
        release = asyncio.Event()
        async with streams_under_way(dynasty, release) as streams:
            dynasty.founder.signal(signal.SIGKILL)
            await dynasty.count("draining", 2)
            release.set()
            for stream in streams:
                assert (await stream.body()).body == delta("two") + DONE
        for pid in workers:
            await dynasty.ended(pid)
        assert await dynasty.founder.wait() == -signal.SIGKILL
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", dynasty.port)) == errno.ECONNREFUSED
    assert [row["outcome"] for row in stored(tmp_path)] == ["ok"] * STREAMS
