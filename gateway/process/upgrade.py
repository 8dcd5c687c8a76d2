"""Upgrade without a failed request: hand the socket to a successor.

    running gateway                               its successor
    SIGUSR2: starts the same command line ──────> reads the file, opens what it needs
                          <────────────── word ── "ready"
    accepts nothing more; requests end
    ends ────────────────────────── its end ────> (embedded store: begins only now)

Why by descriptor, as nginx does it: the listener is one open file in both processes, so a connection that nobody has
accepted yet stays in its queue and cannot be lost, where closing a SO_REUSEPORT listener resets what is queued on it.
A successor that cannot start says so by ending, and the running gateway serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import MutableMapping

VARIABLE = "GATEWAY_HANDOVER"
# A successor that has said nothing after this is ended; the running gateway serves on.
START_SECONDS = 60.0
# How often a successor looks whether the process before it is still there.
LOOK_SECONDS = 0.02
_WORD = b"ready"


class Successor:
    """The successor process, as its predecessor sees it."""

    def __init__(self, process: subprocess.Popen[bytes], word: int) -> None:
        self._process = process
        self._word = word
        self.deadline = time.monotonic() + START_SECONDS

    @classmethod
    def start(cls, listener: socket.socket) -> Successor:
        """Start this process's own command line anew. Raises OSError.

        The program that is installed by now.
        """
        receiver, word = os.pipe()
        given = (listener.fileno(), word)
        try:
            process = subprocess.Popen(  # noqa: S603 - the very command line that runs here already
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, VARIABLE: ",".join(map(str, (*given, os.getpid())))},
                pass_fds=given,
            )
        except BaseException:
            os.close(receiver)
            raise
        finally:
            os.close(word)
        return cls(process, receiver)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Return a descriptor readable once it is ready or ended."""
        return self._word

    def is_ready(self) -> bool:
        """Whether it is ready; ask when `fileno` is readable.

        False where it ended without a word.
        """
        return os.read(self._word, len(_WORD)) == _WORD

    async def is_ready_in_time(self) -> bool:
        """Wait until it is ready, at most `START_SECONDS` from its start.

        False where it ended, or gave no sign.
        """
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._word, readable.set)
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                await readable.wait()
            return self.is_ready()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._word)

    def dismiss(self) -> int:
        """End it and release it; return its exit code."""
        os.close(self._word)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return self._process.wait()

    def __repr__(self) -> str:
        return f"<Successor {self.pid}>"


class Predecessor:
    """The process that hands over, seen from its successor."""

    def __init__(self, listener: int, word: int, pid: int) -> None:
        self.listener = socket.socket(fileno=listener)
        self._word = word
        self._pid = pid
        for descriptor in (listener, word):
            os.set_inheritable(descriptor, False)

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """Return the predecessor that started this process, or None.

        Takes the variable out of the environment.
        """
        given = environ.pop(VARIABLE, None)
        if given is None:
            return None
        listener, word, pid = map(int, given.split(","))
        return cls(listener, word, pid)

    def notify_ready(self) -> None:
        """Report readiness to the predecessor, which then retires.

        May be called more than once: several workers do, and the first counts.
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._word, _WORD)

    def wait_for_its_end(self) -> None:
        """Block until it has ended, as long as its drain takes.

        A child is given another parent when the parent has let go of all of its files and their locks. The end of a
        pipe would be told while it is still at it.
        """
        while os.getppid() == self._pid:
            time.sleep(LOOK_SECONDS)
