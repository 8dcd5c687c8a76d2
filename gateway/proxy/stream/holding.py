"""What is held of an answer before it goes out."""

from __future__ import annotations

import msgspec

from gateway.http.memory_budget import Held


class Holding(msgspec.Struct, eq=False, kw_only=True):
    """Hold bytes of an answer within its request's memory share.

    Without a share, unbounded.
    """

    memory: Held | None = None  # what the request may hold of its answer
    held: bytes | bytearray = b""
    counted: int = 0  # so many bytes, whether they are held here or elsewhere

    def has_counted(self, size: int) -> bool:
        """Count bytes held elsewhere; False where there is no room."""
        if self.memory is not None and not self.memory.has_grown(size):
            return False
        self.counted += size
        return True

    def has_taken(self, data: bytes) -> bool:
        """Keep these bytes; False where there is no room."""
        if not self.has_counted(len(data)):
            return False
        self.keep(data)
        return True

    def keep(self, data: bytes) -> None:
        """Keep bytes that go out as soon as the client is ready.

        Uncounted.
        """
        if not self.held:
            self.held = data
            return
        # Large answers grow in place: many pieces would leave holes in memory that nobody else can use.
        if not isinstance(self.held, bytearray):
            self.held = bytearray(self.held)
        self.held += data

    def whole(self) -> bytes:
        """Everything that is held."""
        if not isinstance(self.held, bytes):
            self.held = bytes(self.held)
        return self.held

    def take(self) -> bytes:
        """Return all bytes, kept here no longer.

        They count until the request ends.
        """
        whole, self.held = self.whole(), b""
        return whole

    def release(self) -> None:
        """Nothing of it is held any more."""
        self.held = b""
        if self.counted:
            if self.memory is not None:
                self.memory.shrink(self.counted)
            self.counted = 0
