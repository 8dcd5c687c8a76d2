"""Run several workers on one socket: start, replace and drain them.

Why not gunicorn, whose aiohttp worker exists: it wants an `aiohttp.web.Application`, where the gateway runs on
aiohttp's low-level server; its SIGHUP restarts workers, where ours reloads a file; and what is left is this page.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from structlog.typing import FilteringBoundLogger

from gateway.process.systemd import notify_service_manager
from gateway.process.upgrade import Successor

# A worker that dies younger than this is replaced only after a pause: a broken start must not become a busy loop.
TOO_YOUNG_SECONDS = 1.0
# So many such deaths for each worker, with none that lives longer: the fault is not going to mend itself.
MOST_YOUNG_DEATHS = 5

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


class Supervisor:
    """Keep `count` workers running.

    Each is a fork that runs `work` and exits with what it returns.

    SIGTERM and SIGINT drain every worker, a second one hurries them; SIGHUP reloads every worker. On SIGUSR2 `upgrade`
    starts a successor, and once that is ready every worker is told by SIGUSR2 to retire.

    Workers do not outlive their supervisor, not even one that was killed: each holds the reading end of a pipe, whose
    end-of-file says that nobody holds the other end any more, and drains then as by SIGTERM.

    Signals are read from a pipe into which the interpreter writes them the moment they come: a handler in Python
    that becomes due just before a blocking `wait` would run only after the next signal, perhaps never.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[], int],
        log: FilteringBoundLogger,
        upgrade: Callable[[], Successor] | None = None,
    ) -> None:
        self._count = count
        self._work = work
        self._log = log
        self._upgrade = upgrade
        self._successor: Successor | None = None
        self._gone, self._here = os.pipe()
        self._young_deaths = 0
        self._born: dict[int, float] = {}  # by process id
        self._due: list[float] = []  # when those that are missing are to be started
        self._stopping = False
        self._worst = 0

    def run(self) -> int:
        """Run until every worker has ended after a stop signal.

        Returns 0 where all of them ended well.

        Also returns, with 1, where workers die in a row as soon as they are started.
        """
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, _wake_by_pipe)
        self._due = [time.monotonic()] * self._count
        while self._born or self._due:
            readable = self._wait(woken)
            # What comes before a worker is born is heard first: none is started after the word to stop.
            if woken in readable:
                for signal_number in os.read(woken, 4096):
                    self._on_signal(signal_number)
            elif self._successor is not None and (readable or self._successor.deadline <= time.monotonic()):
                self._hand_over(self._successor, is_ready=bool(readable) and self._successor.is_ready())
            elif self._due and min(self._due) <= time.monotonic():
                self._due.remove(min(self._due))
                self._start()
        return min(self._worst, 1)

    def _wait(self, woken: int) -> list[int]:
        """Wait for a readable descriptor or the next thing due.

        Returns the descriptors that can be read.
        """
        waiting = [self._successor] if self._successor is not None else []
        moments = [*self._due, *(one.deadline for one in waiting)]
        patience = max(0.0, min(moments) - time.monotonic()) if moments else None
        return select.select([woken, *(one.fileno() for one in waiting)], (), (), patience)[0]

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._bury()
        elif number == signal.SIGUSR2:
            self._begin_upgrade()
        else:
            self._forward(number)

    def _begin_upgrade(self) -> None:
        if self._upgrade is None or self._successor is not None or self._stopping:
            return
        try:
            self._successor = self._upgrade()
        except OSError as error:
            self._log.error("no successor could be started", because=error.strerror)
            return
        self._log.info("successor started", successor=self._successor.pid)

    def _hand_over(self, successor: Successor, *, is_ready: bool) -> None:
        self._successor = None
        if is_ready:
            notify_service_manager(os.environ, MAINPID=successor.pid)
            self._forward(signal.SIGUSR2)
        else:
            code = successor.dismiss()
            self._log.error("successor failed, this process serves on", successor=successor.pid, exit_code=code)

    def _bury(self) -> None:
        """Reap every worker that has ended.

        Several deaths may share one signal.
        """
        for pid in list(self._born):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            born = self._born.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # One that was told to stop before it could listen to it has lost nothing either.
                self._worst = max(self._worst, 0 if -code in FORWARDED else abs(code))
            else:
                self._replace(pid, code, time.monotonic() - born)

    def _replace(self, pid: int, code: int, age_seconds: float) -> None:
        is_young = age_seconds < TOO_YOUNG_SECONDS
        self._young_deaths = self._young_deaths + 1 if is_young and not self._someone_lives() else 0
        if self._young_deaths >= MOST_YOUNG_DEATHS * self._count:
            self._log.error(
                "workers die as soon as they are started; giving up", deaths=self._young_deaths, exit_code=code
            )
            self._worst = 1
            self._forward(signal.SIGTERM)
            return
        self._log.error("worker died and is replaced", pid=pid, exit_code=code, age_seconds=round(age_seconds, 1))
        self._due.append(time.monotonic() + (TOO_YOUNG_SECONDS if is_young else 0))

    def _someone_lives(self) -> bool:
        now = time.monotonic()
        return any(now - born >= TOO_YOUNG_SECONDS for born in self._born.values())

    def _start(self) -> None:
        # A signal between the fork and the child's own handlers would be told to the supervisor: held back until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        self._born[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        self._log.debug("worker started", pid=pid, workers=len(self._born))

    def _be_worker(self) -> None:
        code = 1
        try:
            self._born.clear()
            os.close(self._here)
            signal.set_wakeup_fd(-1)
            # Ctrl-C goes to a whole group of processes; forwarded besides, it would count as the second, hurried stop.
            os.setpgid(0, 0)
            for number in (*FORWARDED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Until it listens to it, "read the file again" must not end it: it is about to read the file anyway.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            # Started while signals are held back, it never takes one that is meant for the main thread.
            threading.Thread(target=_drain_at_end_of, args=(self._gone,), daemon=True).start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            code = self._work()
        except BaseException as error:
            self._log.exception("worker failed", error=repr(error))
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            # Not sys.exit: nothing of the supervisor's stack may run in the child.
            os._exit(code)

    def _forward(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stopping = True
            self._due.clear()
            if self._successor is not None:
                self._successor.dismiss()  # it would go on with what was told to stop
                self._successor = None
        for pid in self._born:
            os.kill(pid, number)


def _drain_at_end_of(supervisor: int) -> None:
    """Wait in a worker's thread for the supervisor's end.

    The supervisor never writes anything into the pipe.
    """
    os.read(supervisor, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _wake_by_pipe(number: int, frame: FrameType | None) -> None:
    """Do nothing: a handler makes the interpreter write to the pipe."""
