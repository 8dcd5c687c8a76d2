"""A spool keeps what is written, in memory or on disk, and gives back all that it took, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import Overloaded
from gateway.http.memory_budget import Memory
from gateway.http.multipart import Spools
from gateway.http.multipart import spool as spool_module
from gateway.http.multipart.shares import Shares

MB = 2**20


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def spools(tmp_path: Path, troubles: list[str]) -> Iterator[Spools]:
    made = Spools(tmp_path / "spool", lambda: 8 * MB, troubles.append)
    yield made
    made.close()


def free_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("size", [0, 1, MB, MB + 1, 5 * MB + 3])
async def test_what_was_written_is_read_from_any_place(spools: Spools, size: int) -> None:
    data = os.urandom(size)
    spool = spools.open()
    for at in range(0, size, 300_001):
        await spool.write(data[at : at + 300_001])
    await spool.finish()
    assert spool.is_in_memory == (size <= MB)
    assert spools.used == (0 if size <= MB else size)
    assert await spool.read(0, size) == data
    assert await spool.read(size // 3, size // 2) == data[size // 3 : size // 3 + size // 2]
    spool.close()
    assert spools.used == 0


async def test_memory_is_held_as_long_as_it_is_needed(spools: Spools) -> None:
    memory = Memory(lambda: 3 * MB)
    held = memory.hold()
    spool = spools.open(held)
    for _ in range(5):
        await spool.write(bytes(MB))
    await spool.finish()
    assert memory.held == 0
    held.release()
    spool.close()


async def test_all_bodies_have_one_bound(spools: Spools) -> None:
    first, second = spools.open(), spools.open()
    await first.write(bytes(6 * MB))
    with pytest.raises(Overloaded):
        await second.write(bytes(3 * MB))
    with pytest.raises(Overloaded):
        spools.require_room(3 * MB)
    spools.require_room(MB)  # that much is in memory
    second.close()
    first.close()
    spools.require_room(8 * MB)


async def test_a_disk_with_little_room_takes_nothing(spools: Spools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MIN_FREE_BYTES", 2**62)
    spool = spools.open()
    await spool.write(bytes(MB))  # not on disk yet
    with pytest.raises(Overloaded) as refusal:
        await spool.write(b"x")
    assert dict(refusal.value.headers)["retry-after"] == "1"
    spool.close()
    assert spools.used == 0


async def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path, troubles: list[str]) -> None:
    (tmp_path / "file").write_text("")
    spools = Spools(tmp_path / "file" / "spool", lambda: 8 * MB, troubles.append)
    spool = spools.open()
    with pytest.raises(Overloaded):
        await spool.write(bytes(2 * MB))
    assert troubles == ["Not a directory"]
    spool.close()
    spools.close()


async def test_a_spool_may_be_closed_while_a_thread_writes(spools: Spools) -> None:
    """The file stays open as long as the thread needs it, and no longer."""
    before = free_descriptors()
    for _ in range(5):
        spool = spools.open()
        await spool.write(bytes(2 * MB))
        writing = asyncio.create_task(spool.write(bytes(3 * MB)))
        await asyncio.sleep(0)
        writing.cancel()
        spool.close()
        spool.close()
        await asyncio.gather(writing, return_exceptions=True)
        async with asyncio.timeout(10):
            while spools.used:  # noqa: ASYNC110 — the thread's end is its own affair
                await asyncio.sleep(0.01)
    assert free_descriptors() <= before + 2  # the directory's share


def open_spools() -> list[os.stat_result]:
    links = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each.stat() for each in links if "/spool/spool-" in os.readlink(each)]


async def test_files_have_no_name_and_are_for_their_owner_alone(spools: Spools, tmp_path: Path) -> None:
    spool = spools.open()
    await spool.write(bytes(2 * MB))
    assert list((tmp_path / "spool").glob("spool-*")) == []
    (found,) = open_spools()
    assert (found.st_mode & 0o777, found.st_nlink) == (0o600, 0)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    spool.close()


def test_what_a_killed_process_left_is_swept(spools: Spools, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    left = tmp_path / "spool" / "spool-abc"
    left.write_bytes(b"secret")
    spools.sweep()
    assert not left.exists()


FULL = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from gateway.errors import Overloaded
    from gateway.http.multipart import Spools

    async def main() -> None:
        spools = Spools(Path(sys.argv[1]), lambda: 2**30, lambda reason: print("reported:", reason))
        spool = spools.open()
        await spool.write(bytes(2**20 + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, resource.RLIM_INFINITY))
        try:
            for _ in range(9):
                await spool.write(bytes(2**19))
        except Overloaded:
            print("refused")
        spool.close()
        print("left", spools.used)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = spools.open()
        await again.write(bytes(3 * 2**20))
        print("again", again.size)
        spools.close()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main())
"""


def test_a_full_disk_refuses_and_is_used_again_when_it_has_room(tmp_path: Path) -> None:
    program = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "spool")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["reported: File too large", "refused", "left 0", "again 3145728"], done.stderr


HOLDER = """
    import sys, time
    from pathlib import Path
    from gateway.http.multipart.shares import Shares

    shares = Shares(Path(sys.argv[1]))
    shares.add(int(sys.argv[2]))
    print(shares.total(), flush=True)
    sys.stdin.readline()
"""


def test_processes_on_one_disk_count_together_and_a_dead_one_no_more(tmp_path: Path) -> None:
    ours = Shares(tmp_path)
    ours.add(100)
    program = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    others = [
        subprocess.Popen([*program, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for size in (1_000, 20_000)
    ]
    try:
        for each in others:
            assert each.stdout is not None
            each.stdout.readline()
        assert ours.total() == 21_100
        ours.add(-50)
        assert ours.total() == 21_050
    finally:
        for each in others:
            each.send_signal(signal.SIGKILL)
            each.communicate()
    assert ours.total() == 50
    ours.close()
    assert list(tmp_path.iterdir()) == []
