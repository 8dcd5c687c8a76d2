"""Keep bodies too large for memory on disk, within bounds.

Each is a file of its own, unlinked once it is open: whatever ends the process leaves none behind. Files are written
and read in threads, so a slow disk holds up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.errors import Overloaded
from gateway.http.memory_budget import Held
from gateway.http.multipart.shares import Shares

MEMORY_BYTES = 2**20  # of each body; what is larger is on disk
MIN_FREE_BYTES = 2**30  # the journal, the ledger and the store live on this disk as well
_WRITE_BYTES = 2**18
_LOOK_BYTES = 2**24  # so much is written between two looks at what is free
_THREADS = 4
_PREFIX = "spool-"
_Result = TypeVar("_Result")


class Spools:
    """The spooled bodies of one process. `close` ends its threads.

    `most` gives the bound that holds now, in bytes: of all processes that use the `directory`, together.
    """

    def __init__(self, directory: Path, most: Callable[[], int], on_trouble: Callable[[str], None]) -> None:
        self._directory = directory
        self._most = most
        self._on_trouble = on_trouble
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="spool")
        self._shares = Shares(directory)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._shares.close()

    @property
    def used(self) -> int:
        """Bytes on disk of this process's bodies."""
        return self._shares.own

    def open(self, held: Held | None = None) -> Spool:
        """Make an empty spool; `held`: what it may hold in memory."""
        return Spool(self, held)

    def require_room(self, size: int) -> None:
        """Raise Overloaded where a body of `size` bytes has no room."""
        if size > MEMORY_BYTES and self._shares.total() + size > self._most():
            raise _full()

    # -- a spool's side

    def take(self, size: int) -> None:
        """Count bytes before they are written. Raises Overloaded."""
        if self._shares.total() + size > self._most():
            raise _full()
        self._shares.add(size)

    def give_back(self, size: int) -> None:
        self._shares.add(-size)

    def create(self) -> int:
        """Create a file that has no name. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=self._directory)  # 0600
        os.unlink(name)
        return descriptor

    def has_free_space(self) -> bool:
        """Whether the disk has room to spare. Raises OSError."""
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize >= MIN_FREE_BYTES

    def sweep(self) -> None:
        """Remove files of a process that was killed before it unlinked one."""
        for path in self._directory.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def do(self, work: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """Do what may wait for the disk."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def failed(self, error: OSError) -> Overloaded:
        """Report a failure of the disk; return the answer to it."""
        self._on_trouble(error.strerror or type(error).__name__)
        return Overloaded("The gateway's disk has no room for this upload at the moment; ask again.")

    def __repr__(self) -> str:
        return f"<Spools: {self.used:,} bytes>"


class Spool:
    """One body: in memory up to a megabyte, then in a file.

    `write` appends; `read` gives bytes from any place. `close` may come at any moment, and a second time.
    """

    __slots__ = ("_closed", "_descriptor", "_held", "_in_memory", "_looked_at", "_running", "_spools", "_taken", "size")

    def __init__(self, spools: Spools, held: Held | None) -> None:
        self.size = 0
        self._spools = spools
        self._held = held
        self._in_memory = bytearray()  # all of it; once there is a file, what is yet to be written
        self._descriptor: int | None = None
        self._taken = 0  # bytes that are counted as being on disk
        self._looked_at = 0  # so much was written when the disk was last looked at
        self._running = 0  # threads that use the file
        self._closed = False

    @property
    def is_in_memory(self) -> bool:
        return self._descriptor is None

    async def write(self, data: bytes) -> None:
        """Append bytes. Raises Overloaded where there is no room."""
        self.size += len(data)
        if self._held is not None:
            self._held.grow(len(data))
        self._in_memory += data
        if len(self._in_memory) >= (MEMORY_BYTES + 1 if self._descriptor is None else _WRITE_BYTES):
            await self._flush()

    async def finish(self) -> None:
        """All of it has been written."""
        if self._descriptor is not None and self._in_memory:
            await self._flush()

    async def read(self, at: int, size: int) -> bytes:
        """Return the bytes at a place. Raises Overloaded where the disk fails."""
        if self._descriptor is None:
            return bytes(memoryview(self._in_memory)[at : at + size])
        return await self._do(lambda descriptor: _read(descriptor, at, size))

    def held_bytes(self, at: int, size: int) -> bytes:
        """The same, of a spool in memory."""
        return bytes(memoryview(self._in_memory)[at : at + size])

    def close(self) -> None:
        self._closed = True
        self._in_memory = bytearray()
        self._close_file()

    async def _flush(self) -> None:
        data, self._in_memory = self._in_memory, bytearray()
        self._spools.take(len(data))
        self._taken += len(data)
        place = self.size - len(data)
        looks = self._descriptor is None or self.size - self._looked_at >= _LOOK_BYTES
        if self._descriptor is None:
            self._descriptor = await self._created()
        if looks:
            self._looked_at = self.size
        await self._do(lambda descriptor: self._write(descriptor, data, place, looks=looks))
        if self._held is not None:
            self._held.shrink(len(data))

    async def _created(self) -> int:
        try:
            creating = self._spools.do(self._spools.create)
            return await asyncio.shield(creating)
        except OSError as error:
            raise self._spools.failed(error) from None
        except asyncio.CancelledError:
            creating.add_done_callback(_close_created)
            raise

    def _write(self, descriptor: int, data: bytearray, at: int, *, looks: bool) -> None:
        if looks and not self._spools.has_free_space():
            raise _full()
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], at + written)

    async def _do(self, work: Callable[[int], _Result]) -> _Result:
        """Work on the file in a thread; it stays open meanwhile."""
        descriptor = self._descriptor
        if self._closed or descriptor is None:
            raise ValueError("the spool is closed")
        self._running += 1
        future = self._spools.do(lambda: work(descriptor))
        future.add_done_callback(self._did)
        try:
            return await asyncio.shield(future)
        except OSError as error:
            raise self._spools.failed(error) from None

    def _did(self, future: asyncio.Future[_Result]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # whether anybody waits or not
        if self._closed:
            self._close_file()

    def _close_file(self) -> None:
        if self._running:
            return
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._taken:
            self._spools.give_back(self._taken)
            self._taken = 0

    def __repr__(self) -> str:
        return f"<Spool of {self.size:,} bytes, {'in memory' if self.is_in_memory else 'on disk'}>"


def _read(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    if len(data) != size:
        raise OSError("a spooled body is shorter than it was")
    return data


def _close_created(creating: asyncio.Future[int]) -> None:
    if not creating.cancelled() and creating.exception() is None:
        os.close(creating.result())


def _full() -> Overloaded:
    return Overloaded("The gateway keeps as many uploads on disk as it may; ask again in a moment.")
