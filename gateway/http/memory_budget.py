"""Bound the memory that one worker's requests hold together.

What is counted: bodies as they arrive, what they become when they are read, answers until their clients have taken
them, and for each request what any request costs. Caches, sessions and the like have bounds of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import msgspec

from gateway.errors import Overloaded
from gateway.types import Id

# What a request takes beside a large body or answer: its connections' buffers, its task, what is known of it, and ...
REQUEST_BYTES = 80 * 1024
# ... so much of its body and its answer: those of most requests are not worth counting one by one.
SPARE_BYTES = 16 * 1024
# What a value of JSON takes as a Python object beside its text, half of an object with one member being the worst.
VALUE_BYTES = 128
MOST_TIMES_READ = 6  # a body of JSON as it came, and read: see `size_when_read`
FULL = "The gateway holds as many bodies and answers as it may; ask again in a moment."
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # of malloc.h
_OWN_MAPPING_BYTES = 256 * 1024


class Memory:
    """The bound: `most` gives that which holds now, in bytes.

    `uploads`: of `held`, what each user's unfinished uploads hold; at most half of `most`, lest one user's that never
    end leave nothing for the others. One that is its user's only one is bounded by `most` alone.
    """

    __slots__ = ("bound", "held", "uploads")

    def __init__(self, most: Callable[[], int]) -> None:
        self.bound = most
        self.held = 0
        self.uploads: dict[Id, int] = {}

    @property
    def most(self) -> int:
        return self.bound()

    def hold(self) -> Held:
        """A share of it, for one request; it holds nothing yet."""
        return Held(self)

    def __repr__(self) -> str:
        return f"<Memory: {self.held:,} of {self.most:,} bytes held>"


class Held(msgspec.Struct, eq=False):
    """The memory that one request holds, released at its end.

    `owner`: the user whose request it is, if known. `spare`: what of `size` nothing has taken yet. Most
    requests never need more, so whoever has a small piece takes it from there without a call; and what is no upload is
    given back by a subtraction.
    """

    memory: Memory
    size: int = 0
    spare: int = 0
    owner: Id | None = None
    is_upload: bool = False

    def begin_upload(self) -> None:
        """Count this as its owner's upload until `end_upload`.

        Raises Overloaded.
        """
        if self.owner is None:
            return
        self.is_upload = True
        size, self.size, self.spare = self.size, 0, 0
        self.memory.held -= size
        self.grow(size)

    def end_upload(self) -> None:
        if self.is_upload:
            self._leave_share(self.size)
            self.is_upload = False

    def grow(self, size: int) -> None:
        """Hold more bytes. Raises Overloaded where there is no room."""
        if size <= self.spare:
            self.spare -= size
        elif not self.has_grown(size):
            if not self._has_share(size):
                raise Overloaded("Your unfinished uploads hold as much as they may; ask again in a moment.")
            raise Overloaded(FULL)

    def grow_by_json(self, raw: bytes, *, is_held: bool = False) -> None:
        """Hold a small body, and what it becomes when read.

        `is_held`: its bytes are counted already. Raises Overloaded.
        """
        values = raw.count(b",") + raw.count(b"{") + raw.count(b"[")
        self.grow(size_when_read(raw, values) + (0 if is_held else len(raw)))

    def has_grown(self, size: int) -> bool:
        """Hold more bytes; False where there is no room."""
        if size <= self.spare:
            self.spare -= size
            return True
        memory = self.memory
        if memory.held + size > memory.bound():
            return False
        if self.is_upload and self.owner is not None:
            if not self._has_share(size):
                return False
            memory.uploads[self.owner] = memory.uploads.get(self.owner, 0) + size
        memory.held += size
        self.size += size
        return True

    def shrink(self, size: int) -> None:
        if self.spare + size <= SPARE_BYTES and not self.is_upload:
            self.spare += size
            return
        self._give_back(min(size, self.size))

    def _give_back(self, size: int) -> None:
        if self.is_upload:
            self._leave_share(size)
        self.memory.held -= size
        self.size -= size

    def release(self) -> None:
        """Hold nothing any more. A second call does nothing."""
        size = self.size
        if self.is_upload:
            self._leave_share(size)
        self.memory.held -= size
        self.size = self.spare = 0

    def _has_share(self, size: int) -> bool:
        if not self.is_upload or self.owner is None:
            return True
        of_owner = self.memory.uploads.get(self.owner, 0)
        return of_owner <= self.size or of_owner + size <= self.memory.most // 2

    def _leave_share(self, size: int) -> None:
        uploads, owner = self.memory.uploads, self.owner
        if owner is not None:
            left = uploads.get(owner, 0) - size
            if left > 0:
                uploads[owner] = left
            else:
                uploads.pop(owner, None)

    def __repr__(self) -> str:
        return f"<Held: {self.size:,} bytes>"


def size_when_read(raw: bytes, values: int) -> int:
    """Estimate the memory of parsed JSON.

    Its values, its texts, and the body that goes upstream.

    One character outside Latin-1 makes four bytes of each character of its text, be it an escaped one.
    """
    is_plain = raw.isascii() and raw.find(b"\\u") < 0
    return values * VALUE_BYTES + len(raw) * (2 if is_plain else MOST_TIMES_READ - 1)


def give_back_freed_memory() -> None:
    """Configure glibc to return large blocks when freed.

    It raises the size from which a block has a mapping of its own with each that is freed, up to 32 MiB: after a few
    large bodies, holes between smaller ones are kept for ever.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        mallopt(_TRIM_THRESHOLD, 4 * _OWN_MAPPING_BYTES)
        mallopt(_ARENA_MAX, 2)
