"""A worker is killed at any moment: what it had acknowledged is known afterwards, by whoever comes next."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from subprocess import Popen

from objects_kit import Bench, worker
from store.grants_kit import RedisServer

from gateway.errors import StoreUnavailable
from gateway.objects.record import ObjectRecord

KILLS = int(os.environ.get("OBJECT_KILLS", "4"))


def until_killed(process: Popen[bytes], lines: int) -> list[bytes]:
    """Reads that many lines, kills the worker, and reads what it had still said before it died."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    said += process.stdout.read().splitlines(keepends=True)
    process.wait()
    return [line for line in said if line.endswith(b"\n")]


def ids_of(said: list[bytes], kind: bytes) -> set[str]:
    return {line[2:-1].decode() for line in said if line.startswith(kind)}


async def everything_is_there(bench: Bench, said: list[bytes]) -> None:
    index = await bench.open()
    put, perhaps_gone, gone, begun = (ids_of(said, kind) for kind in (b"p", b"t", b"d", b"b"))
    assert put
    found = set(await index.find(put))
    assert put - perhaps_gone <= found
    assert not gone & found
    listed = {each.id for each in (await index.listed("42", "file", limit=100_000)).records}
    assert put - perhaps_gone <= listed
    assert not gone & listed
    work = {each.id: each for each in await index.unsettled()}
    assert begun <= set(work)
    assert {each.reservation for each in work.values()} <= {b"\x00r"}
    await bench.close(index)


async def test_embedded(embedded_bench: Bench) -> None:
    said: list[bytes] = []
    for _ in range(KILLS):
        with worker(str(embedded_bench.directory)) as process:
            said += await asyncio.to_thread(until_killed, process, int(10 ** random.uniform(0, 3.5)))
        await everything_is_there(embedded_bench, said)


async def test_redis(redis_bench: Bench, redis_server: RedisServer) -> None:
    said: list[bytes] = []
    for _ in range(KILLS):
        with worker(str(redis_bench.directory), redis_server.url, "gw:") as process:
            said += await asyncio.to_thread(until_killed, process, int(10 ** random.uniform(0, 3)))
        await everything_is_there(redis_bench, said)


async def test_killed_while_redis_is_away(redis_bench: Bench, redis_server: RedisServer) -> None:
    """Only the journal has it, and the next process of this machine hands it over."""
    said: list[bytes] = []
    for _ in range(KILLS):
        redis_server.stop()
        with worker(str(redis_bench.directory), redis_server.url, "gw:") as process:
            said = await asyncio.to_thread(until_killed, process, int(10 ** random.uniform(1, 3)))
        redis_server.start()  # empty again: it saves nothing
        await everything_is_there(redis_bench, said)


async def test_killed_beside_others_that_find_it(redis_bench: Bench, redis_server: RedisServer) -> None:
    """A worker that runs on takes over what the dead one left, when somebody asks for what is not there."""
    index = await redis_bench.open()
    redis_server.stop()
    with worker(str(redis_bench.directory), redis_server.url, "gw:") as process:
        said = await asyncio.to_thread(until_killed, process, 200)
    redis_server.start()
    await redis_bench.is_back(index)
    expected = ids_of(said, b"p") - ids_of(said, b"t")
    found: dict[str, ObjectRecord] | None = None
    async with asyncio.timeout(30):
        while found is None:
            with suppress(StoreUnavailable):
                found = await index.find(expected)
            await asyncio.sleep(0.01)
    assert set(found) == expected
