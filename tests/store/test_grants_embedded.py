"""The SQLite file: who may open it, and what is in it after an end of any kind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from grants_kit import Log

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.embedded import FILE_NAME, EmbeddedStore

WRITER = """
import asyncio, sys
from gateway.store.embedded import EmbeddedStore
from gateway.observability.logging import make_logger

async def main():
    store = EmbeddedStore(sys.argv[1], make_logger("json"))
    number = 0
    while True:
        await store.put("user", str(number), b"{}")
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def permissions(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


def writer(directory: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, env=environment)


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path, log: Log) -> None:
    store = EmbeddedStore(tmp_path / "made" / "by it", log.logger)
    await store.put("key", "ab", b"{}")
    await store.append_audit(b"who did it")
    store.push_cooldown(b"cooling")
    await store.close()
    again = EmbeddedStore(tmp_path / "made" / "by it", log.logger)
    assert await again.get("key", "ab") == b"{}"
    assert await again.audit(10) == [b"who did it"]
    assert await again.cooldowns(10) == [b"cooling"]
    await again.close()


async def test_its_identity_outlives_a_restart_and_is_its_own(tmp_path: Path, log: Log) -> None:
    identities = []
    for name in ("one", "one", "another"):
        store = EmbeddedStore(tmp_path / name, log.logger)
        identities.append(store.identity)
        await store.close()
    assert identities[0] == identities[1] != identities[2]
    assert all(len(identity) == 32 for identity in identities)


async def test_every_write_that_returned_survives_kill_9(tmp_path: Path, log: Log) -> None:
    process = writer(tmp_path)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
    process.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    process.stdout.close()
    process.wait()
    store = EmbeddedStore(tmp_path, log.logger)
    assert (await store.ids("user"))[: acknowledged + 1] == [str(number) for number in range(acknowledged + 1)]
    await store.close()


async def test_a_second_process_is_refused_with_what_to_do(tmp_path: Path, log: Log) -> None:
    process = writer(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(ConfigError, match=r"in use by another gateway process; several need `store\.kind: redis`"):
        EmbeddedStore(tmp_path, log.logger)
    process.kill()
    process.stdout.close()
    process.wait()
    await EmbeddedStore(tmp_path, log.logger).close()


def test_a_path_that_cannot_be_used_is_told(tmp_path: Path, log: Log) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"store\.path: .*file"):
        EmbeddedStore(tmp_path / "file", log.logger)
    (tmp_path / FILE_NAME).write_text("this is no database, however long it may be " * 100)
    with pytest.raises(ConfigError, match="not a database"):
        EmbeddedStore(tmp_path, log.logger)


async def test_nobody_else_on_the_machine_can_read_the_credentials(tmp_path: Path, log: Log) -> None:
    store = EmbeddedStore(tmp_path, log.logger)
    await store.put("model", "1", b"{}")
    modes = permissions(tmp_path)
    await store.close()
    assert set(modes.values()) == {0o600}
    assert {FILE_NAME, f"{FILE_NAME}-wal"} <= modes.keys()


async def test_cooldown_records_end_after_a_day(tmp_path: Path, stores: AsyncExitStack, log: Log) -> None:
    now = 0.0
    store = EmbeddedStore(tmp_path, log.logger, epoch=lambda: now)
    stores.push_async_callback(store.close)
    store.push_cooldown(b"old")
    assert await store.cooldowns(10) == [b"old"]
    now = 24 * 3600.0
    store.push_cooldown(b"new")
    assert await store.cooldowns(10) == [b"new"]


async def test_a_file_that_fails_is_an_unavailable_store_and_no_crash(
    tmp_path: Path, stores: AsyncExitStack, log: Log
) -> None:
    store = EmbeddedStore(tmp_path, log.logger)
    stores.push_async_callback(store.close)
    store._writer.execute("ALTER TABLE records RENAME TO lost")
    with pytest.raises(StoreUnavailable):
        await store.put("user", "42", b"{}")
    with pytest.raises(StoreUnavailable):
        await store.get("user", "42")
    assert store.status().detail == "no such table: records"
    assert log.events("store cannot be used")
    store._writer.execute("ALTER TABLE lost RENAME TO records")
    await store.put("user", "42", b"{}")
    assert store.status().detail is None


async def test_it_knows_without_asking_what_it_does_not_have(tmp_path: Path, stores: AsyncExitStack, log: Log) -> None:
    store = EmbeddedStore(tmp_path, log.logger)
    odd = "\udc80"  # what UTF-8 cannot write is filed under another name
    await store.put("user", "42", b"{}")
    await store.put("user", odd, b"{}")
    await store.close()
    assert not store.surely_lacks("user", "none")  # closed: nothing is certain any longer
    again = EmbeddedStore(tmp_path, log.logger)
    stores.push_async_callback(again.close)
    assert not again.surely_lacks("user", "42")
    assert not again.surely_lacks("user", odd)
    assert again.surely_lacks("plan", "42")


async def test_whoever_hears_of_a_change_finds_it(tmp_path: Path, stores: AsyncExitStack, log: Log) -> None:
    store = EmbeddedStore(tmp_path, log.logger)
    stores.push_async_callback(store.close)
    told: list[bool] = []
    store.on_change(lambda kind, record_id: told.append(store.surely_lacks("key", "ab")))
    await store.put("key", "ab", b"{}")
    await store.update("key", "ab", lambda before: b"[]")
    await store.delete("key", "ab")
    assert told == [False, False, True]


async def test_a_closed_store_says_so(tmp_path: Path, log: Log) -> None:
    store = EmbeddedStore(tmp_path, log.logger)
    await store.close()
    await store.close()
    assert not store.available
    with pytest.raises(StoreUnavailable):
        await store.put("user", "42", b"{}")
