"""Bound the database's work by deadlines of our own.

A server that falls silent keeps its connections open, and no driver gives up on its own.

Frozen, or behind a network that swallows packets, it still counts as connected. What ends the wait is our shutting down
the socket under the driver, which then fails as it does when a server goes away.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Deadline:
    """A bound on one piece of the database's work.

    `cut` ends it at once, from any thread.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None  # under work
        self._is_cut = False

    def has_passed(self) -> bool:
        return time.monotonic() >= self._ends_at

    def is_over(self) -> bool:
        """Whether to stop: it has passed or was cut."""
        return self._is_cut or self.has_passed()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def over(self, sock: socket.socket | None) -> Iterator[None]:
        """Shut the socket down when the time is up.

        Within the block. None: the worker asks `is_over` itself.
        """
        timer = None if sock is None else threading.Timer(max(0.0, self._ends_at - time.monotonic()), self.cut)
        with self._lock:
            self._socket = sock
        if self._is_cut:
            self.cut()
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            with self._lock:  # from here on the socket is another's
                self._socket = None
            if timer is not None:
                timer.cancel()
