"""Write standard error from a thread, so that no request waits.

The reader of a log may go away (EPIPE), stop reading (a full pipe blocks) or have no space (ENOSPC). Lines wait in a
bounded buffer then; those that find no room, or that the system refuses, are lost and counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

MOST_BYTES = 4 << 20
# Workers share a pipe: what is written in one piece of at most this size is not mixed with what others write.
ONE_PIECE_BYTES = 4096
# A file takes each write whole, after the one before: the kernel locks it, and its end or the position that they share.
ONE_PIECE_OF_A_FILE_BYTES = 256 * 1024
# Under load one write serves many lines; a line that comes alone waits no longer than this for the next look.
LINGER_SECONDS = 0.02
FLUSH_SECONDS = 1.0

_LINE_END = ord("\n")


class LogStream(io.TextIOBase):
    """A text stream that never blocks nor fails its callers.

    `lost` counts lines that were not written; `loss_line` renders the line that says so once writing works again. It
    may be used from any thread, and by a fork, which begins with an empty buffer. Whoever holds `lock` may add to
    `waiting` and `held_bytes` while the thread is looking.
    """

    def __init__(self, fd: int, *, most_bytes: int = MOST_BYTES) -> None:
        self._fd = fd
        self.most_bytes = most_bytes
        self._piece_bytes = _piece_bytes(fd)
        self.loss_line: Callable[[int], bytes] | None = None
        self._begin()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _begin_anew(this()))

    @classmethod
    def over(cls, stream: TextIO | None) -> LogStream:
        """Return one over `stream`'s descriptor.

        Where it is closed, every line is lost.
        """
        try:
            return cls(-1 if stream is None else stream.fileno())
        except (OSError, ValueError):
            return cls(-1)

    def _begin(self) -> None:
        # Reentrant: a collection of garbage inside `put` may run a finalizer whose error is written here as well.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_looking = False  # the thread will see what is put, without being told
        self._is_over = False
        self.waiting: list[bytes] = []
        self.held_bytes = 0  # waiting, or being written
        self._is_torn = False  # what went out last has no line end
        self._is_well = True  # the last write went out whole
        self._reported = 0  # of `lost`
        self.lost = 0

    def put(self, line: bytes) -> None:
        """Queue whole lines, each with its end. Returns at once."""
        with self.lock:
            held_bytes = self.held_bytes + len(line)
            if held_bytes > self.most_bytes:
                self.lost += line.count(b"\n")
                return
            self.waiting.append(line)
            self.held_bytes = held_bytes
            if not self.is_looking:
                self._rouse()

    def _rouse(self) -> None:
        """Make the thread look for what waits."""
        if self._is_over:
            self._write_last()
        elif self._thread is None:
            self._start()
        else:
            self.is_looking = True
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        with contextlib.suppress(RuntimeError):  # no room for a thread: the next line tries again
            thread.start()
            self._thread, self.is_looking = thread, True

    # -- as a text stream

    def write(self, text: str) -> int:
        self.put(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is written, but no longer than `seconds`."""
        with self._changed:
            if self._thread is None:
                return
            self._hurry.set()
            self._changed.wait_for(lambda: not self.held_bytes, seconds)
            self._hurry.clear()

    def end(self) -> None:
        """Write what waits and end the thread, before the interpreter ends.

        Else the interpreter might stop it with the lock in its hand, and wait for that lock ever after.
        """
        self.flush()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread is not None:
            self._hurry.set()
            self._thread.join(FLUSH_SECONDS)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._fd < 0:
            raise OSError("standard error is closed")
        return self._fd

    def isatty(self) -> bool:
        return self._fd >= 0 and os.isatty(self._fd)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        return "utf-8"

    # -- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self.waiting:
                    self.is_looking = False
                    if self._is_over:
                        return
                    self._changed.wait()
                self.is_looking = True
                lines, self.waiting, lost = self.waiting, [], self.lost
            for piece in _pieces(lines, self._piece_bytes):
                self._write(piece)
            # What is lost from here on came after lines that wait: it is told behind them.
            self._log_losses(lost if self.waiting else self.lost)
            with self._changed:
                self.held_bytes -= sum(map(len, lines))
                self._changed.notify_all()
            self._hurry.wait(LINGER_SECONDS)

    def _write_last(self) -> None:
        """Write what the interpreter says at its end, if there is room."""
        lines, self.waiting, self.held_bytes = self.waiting, [], 0
        if select.select((), (self._fd,), (), 0)[1]:
            self._write(b"".join(lines)[:ONE_PIECE_BYTES])

    def _log_losses(self, lost: int) -> None:
        """In the log itself, once it takes lines again."""
        count = lost - self._reported
        if count and self._is_well and self.loss_line is not None and self._write(self.loss_line(count)):
            self._reported += count

    def _write(self, piece: bytes) -> bool:
        """Write a piece; count the lines that are lost.

        Returns whether all of it went out.
        """
        rest = memoryview(b"\n" + piece if self._is_torn else piece)
        self._is_well = True
        while rest and self._is_well:
            try:
                done = os.write(self._fd, rest)
                self._is_torn = rest[done - 1] != _LINE_END
                rest = rest[done:]
            except BlockingIOError:  # somebody else made the descriptor non-blocking
                _wait_for_room(self._fd)
            except OSError:
                self._is_well = False
        if rest:
            with self._changed:
                self.lost += min(bytes(rest).count(b"\n"), piece.count(b"\n"))
        return self._is_well


def _begin_anew(stream: LogStream | None) -> None:
    if stream is not None:
        stream._begin()


def _piece_bytes(fd: int) -> int:
    """Bound one write, which gives up the interpreter's lock."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return ONE_PIECE_OF_A_FILE_BYTES
    return ONE_PIECE_BYTES


def _pieces(lines: Sequence[bytes], most_bytes: int) -> Iterator[bytes]:
    """Join lines into pieces up to a bound."""
    first = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) > most_bytes:
            yield b"".join(lines[first:index])
            first, size = index, 0
        size += len(line)
    yield b"".join(lines[first:])


def _wait_for_room(fd: int) -> None:
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    waiting.poll(1000)
