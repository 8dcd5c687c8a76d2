"""Several workers on one listening socket: started, watched over, replaced when they die, drained together.

Why not gunicorn, whose aiohttp worker exists: it wants an `aiohttp.web.Application`, where the gateway runs on
aiohttp's low-level server; its SIGHUP restarts workers, where ours reloads a file; and what is left is this page.
"""

from __future__ import annotations

import os
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
    """

    def __init__(self, count: int, work: Callable[[], int], log: FilteringBoundLogger) -> None:
        self._count = count
        self._work = work
        self._log = log
        self._born: dict[int, float] = {}
        self._stopping = False

    def run(self) -> int:
        """Returns when every worker has ended after a signal to stop: 0 where all of them ended well."""
        for number in FORWARDED:
            signal.signal(number, self._forward)
        for _ in range(self._count):
            self._start()
        worst = 0
        while self._born:
            pid, status = os.wait()
            born = self._born.pop(pid, None)
            if born is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # One that was told to stop before it could listen to it has lost nothing either.
                worst = max(worst, 0 if -code in (signal.SIGTERM, signal.SIGINT) else abs(code))
            else:
                self._replace(pid, code, time.monotonic() - born)
        return min(worst, 1)

    def _replace(self, pid: int, code: int, age_seconds: float) -> None:
        self._log.error("worker died and is replaced", pid=pid, exit_code=code, age_seconds=round(age_seconds, 1))
        if age_seconds < TOO_YOUNG_SECONDS:
            time.sleep(TOO_YOUNG_SECONDS)
        self._start()

    def _start(self) -> None:
        """Starts one more, unless it is over: a worker that is born after the signal to stop would never hear of it."""
        # A signal between the fork and the child's own handlers would be forwarded by the child: held back until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        if self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            return
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        self._born[pid] = time.monotonic()
        self._log.info("worker started", pid=pid, workers=len(self._born))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    def _be_worker(self) -> None:
        code = 1
        try:
            self._born.clear()
            # Ctrl-C goes to a whole group of processes; forwarded besides, it would count as the second, hurried stop.
            os.setpgid(0, 0)
            for number in FORWARDED:
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

    def _forward(self, number: int, _: FrameType | None) -> None:
        self._stopping = self._stopping or number != signal.SIGHUP
        for pid in list(self._born):
            os.kill(pid, number)
