"""Several workers on one listening socket: started, watched over, replaced when they die, drained together.

Why not gunicorn, whose aiohttp worker exists: it wants an `aiohttp.web.Application`, where the gateway runs on
aiohttp's low-level server; its SIGHUP restarts workers, where ours reloads a file; and what is left is this page.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from structlog.typing import FilteringBoundLogger

# A worker that dies younger than this is replaced only after a pause: a broken start must not become a busy loop.
TOO_YOUNG_SECONDS = 1.0

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """Keeps `count` workers running; each is a fork that runs `work` and exits with what it returns.

    SIGTERM and SIGINT drain every worker, a second one hurries them; SIGHUP reloads every worker.

    Signals are read from a pipe into which the interpreter writes them the moment they come: a handler in Python
    that becomes due just before a blocking `wait` would run only after the next signal, perhaps never.
    """

    def __init__(self, count: int, work: Callable[[], int], log: FilteringBoundLogger) -> None:
        self._count = count
        self._work = work
        self._log = log
        self._born: dict[int, float] = {}  # by process id
        self._due: list[float] = []  # when those that are missing are to be started
        self._stopping = False
        self._worst = 0

    def run(self) -> int:
        """Returns when every worker has ended after a signal to stop: 0 where all of them ended well."""
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, _heard_by_pipe)
        self._due = [time.monotonic()] * self._count
        while self._born or self._due:
            patience = max(0.0, min(self._due) - time.monotonic()) if self._due else None
            if not select.select([heard], (), (), patience)[0]:
                self._due.remove(min(self._due))
                self._start()
                continue
            # What comes before a worker is born is heard first: none is started after the word to stop.
            for signalled in os.read(heard, 4096):
                if signalled == signal.SIGCHLD:
                    self._bury()
                else:
                    self._forward(signalled)
        return min(self._worst, 1)

    def _bury(self) -> None:
        """Takes leave of every worker that has ended: several deaths may be told by one signal."""
        while self._born:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            born = self._born.pop(pid, None)
            if born is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # One that was told to stop before it could listen to it has lost nothing either.
                self._worst = max(self._worst, 0 if -code in (signal.SIGTERM, signal.SIGINT) else abs(code))
            else:
                self._replace(pid, code, time.monotonic() - born)

    def _replace(self, pid: int, code: int, age_seconds: float) -> None:
        self._log.error("worker died and is replaced", pid=pid, exit_code=code, age_seconds=round(age_seconds, 1))
        self._due.append(time.monotonic() + (TOO_YOUNG_SECONDS if age_seconds < TOO_YOUNG_SECONDS else 0))

    def _start(self) -> None:
        # A signal between the fork and the child's own handlers would be told to the supervisor: held back until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        self._born[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        self._log.info("worker started", pid=pid, workers=len(self._born))

    def _be_worker(self) -> None:
        code = 1
        try:
            self._born.clear()
            signal.set_wakeup_fd(-1)
            # Ctrl-C goes to a whole group of processes; forwarded besides, it would count as the second, hurried stop.
            os.setpgid(0, 0)
            for number in (*FORWARDED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Until it listens to it, "read the file again" must not end it: it is about to read the file anyway.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            code = self._work()
        except BaseException as error:
            self._log.exception("worker failed", error=repr(error))
        finally:
            sys.stderr.flush()
            # Not sys.exit: nothing of the supervisor's stack may run in the child.
            os._exit(code)

    def _forward(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stopping = True
            self._due.clear()
        for pid in self._born:
            os.kill(pid, number)


def _heard_by_pipe(number: int, frame: FrameType | None) -> None:
    """Nothing to do: that there is a handler is what makes the interpreter write the signal into the pipe."""
