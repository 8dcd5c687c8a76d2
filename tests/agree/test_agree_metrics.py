"""`/metrics` with several workers: whichever of them is scraped, the numbers are those of all."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kit import KEYS, FakeUpstream, Wire, request_bytes
from kit.books import until
from observability.metrics_kit import Scrape
from store.grants_kit import RedisServer
from test_agree_workers import WORKERS, chat_on, connection_to_each, until_listening, workers

CHATS = {"route": "/v1/chat/completions", "model": "open", "status": "200"}


async def scrape_on(wire: Wire) -> Scrape:
    await wire.send(request_bytes("GET", "/metrics", key=KEYS["reader"]))
    reply = await wire.reply()
    assert reply.status == 200, reply
    return Scrape(reply.body.decode())


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """The name of a Unix socket has at most 107 bytes, which a test's own directory may use up."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def chats(told: Scrape) -> float:
    return told.total("gateway_requests_total", **CHATS)


async def test_a_scrape_of_either_worker_is_the_sum_of_both_and_no_death_makes_it_less(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `kill -9` of one, what it had told still counts, and its successor goes on from there."""
    monkeypatch.setenv("TMPDIR", str(short_tmp))
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        by_worker = await connection_to_each(at, stack)
        for asked, wires in zip((3, 4), by_worker.values(), strict=True):
            assert [await chat_on(wires[0], "open") for _ in range(asked)] == [200] * asked
        for wires in by_worker.values():
            told = await scrape_on(wires[0])
            assert (chats(told), told.total("gateway_workers")) == (7, WORKERS)
            assert told.total("gateway_own_share_seconds_count") == 7
            assert told.total("gateway_endpoint_state", model="open", state="available") == WORKERS
            assert told.total("gateway_store_up", kind="redis") == 1
        victim, survivor = by_worker
        os.kill(victim, signal.SIGKILL)
        await at.log(lambda line: line["event"] == "worker died and is replaced")
        assert chats(await scrape_on(by_worker[survivor][0])) == 7
        await until_listening(at, 2)

        async def all_there() -> bool:
            return (await scrape_on(by_worker[survivor][0])).total("gateway_workers") == WORKERS

        await until(all_there)
        fresh = await connection_to_each(at, stack)
        assert [await chat_on(wires[0], "open") for wires in fresh.values()] == [200] * WORKERS
        assert [chats(await scrape_on(wires[0])) for wires in fresh.values()] == [7 + WORKERS] * WORKERS
        assert len(os.listdir(short_tmp)) == 1
    assert os.listdir(short_tmp) == [], "the supervisor leaves nothing behind"


async def test_workers_that_cannot_meet_serve_all_the_same_and_say_so(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the directory's name is too long for a Unix socket: each worker tells of itself alone."""
    deep = tmp_path / ("x" * 120)
    os.mkdir(deep)
    monkeypatch.setenv("TMPDIR", str(deep))
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        for wires in (await connection_to_each(at, stack)).values():
            assert await chat_on(wires[0], "open") == 200
            told = await scrape_on(wires[0])
            assert (chats(told), told.total("gateway_workers")) == (1, 1)
        complaints = [line for line in at.logs if line["event"].startswith("/metrics of this worker")]
        assert [(line["level"], "too long" in line["error"]) for line in complaints] == [("error", True)] * WORKERS


async def test_where_there_is_no_temporary_directory_the_supervisor_says_so(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that takes no files costs the sum over the workers, and nothing else."""
    code = "import sys, tempfile; tempfile.tempdir = '/nowhere'; from gateway.cli import main; sys.exit(main())"
    monkeypatch.setattr("sys.executable", str(executable(tmp_path, code)))
    async with workers(tmp_path, upstream, redis_server) as at, AsyncExitStack() as stack:
        assert [line["level"] for line in at.logs if line["event"].startswith("no temporary directory")] == ["error"]
        for wires in (await connection_to_each(at, stack)).values():
            assert (await scrape_on(wires[0])).total("gateway_workers") == 1


def executable(directory: Path, code: str) -> Path:
    """What stands in for `python -m gateway`: a gateway that finds no temporary directory."""
    file = directory / "python"
    file.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c "{code}" "$@"\n')
    file.chmod(0o700)
    return file
