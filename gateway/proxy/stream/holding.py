"""What is held of an answer before it goes out."""

from __future__ import annotations

from gateway.http.memory_budget import Held


class Holding:
    """Hold bytes of an answer within its request's memory share.

    Without a share, unbounded.
    """

    __slots__ = ("_memory", "_parts", "size")

    def __init__(self, memory: Held | None) -> None:
        self.size = 0  # of what is counted
        self._memory = memory
        self._parts: list[bytes | bytearray] = []

    def __repr__(self) -> str:
        return f"<Holding {self.size} bytes>"

    @property
    def whole(self) -> bytes:
        parts = self._parts
        if len(parts) == 1:
            whole = parts[0]
            if type(whole) is not bytes:
                parts[0] = whole = bytes(whole)
            return whole
        return b"".join(parts)

    def has_counted(self, data: bytes) -> bool:
        """Count bytes held elsewhere; False where there is no room."""
        if self._memory is not None and not self._memory.has_grown(len(data)):
            return False
        self.size += len(data)
        return True

    def has_taken(self, data: bytes) -> bool:
        """Keep these bytes; False where there is no room."""
        memory, size = self._memory, len(data)
        if memory is not None:
            if size <= memory.spare:
                memory.spare -= size
            elif not memory.has_grown(size):
                return False
        self.size += size
        if not self._parts:
            self._parts.append(data)
            return True
        # Large answers grow in place: many pieces would leave holes in memory that nobody else can use.
        whole = self._parts[0]
        if not isinstance(whole, bytearray):
            self._parts[0] = whole = bytearray(whole)
        whole += data
        return True

    def append(self, data: bytes) -> None:
        """Keep bytes that go out as soon as the client is ready.

        Uncounted.
        """
        self._parts.append(data)

    def take(self) -> bytes:
        """Return all bytes, kept here no longer.

        They count until the request ends.
        """
        if not self._parts:
            return b""
        whole, self._parts = self.whole, []
        return whole

    def drop(self) -> None:
        """Keep nothing; what was kept counts until the request ends."""
        self._parts = []

    def release(self) -> None:
        """Nothing of it is held any more."""
        self._parts = []
        if self._memory is not None:
            self._memory.shrink(self.size)
        self.size = 0
