"""The supervisor on its own: forks of a small script, so that no fork of the test process itself is made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.process.supervisor import MOST_YOUNG_DEATHS

# A worker says its life on stdout, a line each: `here PID`, then what it is told. It ends with 0 on SIGTERM.
# It takes signals one by one: a handler that becomes due just before `signal.pause()` would wait for another signal.
SCRIPT = """
import logging, os, signal, sys, time
from gateway.observability.logging import make_logger
from gateway.process.supervisor import Supervisor

def say(word):
    os.write(1, f"{word} {os.getpid()}\\n".encode())

def well(*more):
    heard = {signal.SIGTERM, signal.SIGHUP, *more}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    say("here")
    while (number := signal.sigwait(heard)) != signal.SIGTERM:
        say("reloaded" if number == signal.SIGHUP else "interrupted")
    return 0

def patient():
    return well(signal.SIGINT)

def slow_to_listen():
    say("here")
    assert sys.stdin.readline()
    return well()

def unwell():
    assert well() == 0
    return 3

def short_lived():
    say("here")
    return 7

work = globals()[sys.argv[2]]
raise SystemExit(Supervisor(int(sys.argv[1]), work, make_logger("json", level=logging.DEBUG)).run())
"""


class Supervised:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def heard(self) -> tuple[str, int]:
        """The next thing that a worker says, and its process id."""
        assert self.process.stdout is not None
        word, pid = self.process.stdout.readline().split()
        return word, int(pid)

    def born(self, count: int) -> set[int]:
        said = [self.heard() for _ in range(count)]
        assert {word for word, _ in said} == {"here"}
        return {pid for _, pid in said}

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Waits for its end; its exit code and its log."""
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]


@contextmanager
def supervised(count: int, work: str) -> Iterator[Supervised]:
    command = [sys.executable, "-c", SCRIPT, str(count), work]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        try:
            yield Supervised(process)
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_reaches_every_worker(number: signal.Signals) -> None:
    """All of them end, none is replaced, and the exit code is 0."""
    with supervised(3, "well") as it:
        workers = it.born(3)
        it.process.send_signal(number)
        code, log = it.end()
    assert code == 0
    assert len(workers) == 3
    assert [line["event"] for line in log] == ["worker started"] * 3


def test_ctrl_c_reaches_every_worker_once() -> None:
    """A terminal sends it to the whole group; twice would be the hurried stop, which cuts running streams short."""
    with supervised(2, "patient") as it:
        workers = it.born(2)
        os.killpg(it.process.pid, signal.SIGINT)
        assert {it.heard() for _ in workers} == {("interrupted", pid) for pid in workers}
        it.process.terminate()
        said, _ = it.process.communicate(timeout=30)
        assert (it.process.returncode, said) == (0, "")


def test_a_worker_that_ends_badly_on_the_stop_is_told_by_the_exit_code() -> None:
    with supervised(2, "unwell") as it:
        it.born(2)
        it.process.terminate()
        assert it.end()[0] == 1


def test_a_hangup_reaches_every_worker_and_ends_nothing() -> None:
    with supervised(2, "well") as it:
        workers = it.born(2)
        it.process.send_signal(signal.SIGHUP)
        assert {it.heard() for _ in workers} == {("reloaded", pid) for pid in workers}
        it.process.terminate()
        assert it.end()[0] == 0


def test_a_hangup_does_not_end_a_worker_that_does_not_listen_yet() -> None:
    """It comes while the worker starts; the worker reads the file anyway."""
    with supervised(1, "slow_to_listen") as it:
        (pid,) = it.born(1)
        it.process.send_signal(signal.SIGHUP)
        assert it.process.stdin is not None
        it.process.stdin.write("go on\n")
        it.process.stdin.flush()
        assert it.heard() == ("here", pid)
        it.process.terminate()
        assert it.end()[0] == 0


def test_a_killed_worker_is_replaced() -> None:
    """The others stay; the log says which died, and how."""
    with supervised(2, "well") as it:
        before = it.born(2)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert not it.born(1) & before
        it.process.terminate()
        code, log = it.end()
    assert code == 0
    (died,) = [line for line in log if line["event"] == "worker died and is replaced"]
    assert (died["pid"], died["exit_code"]) == (victim, -signal.SIGKILL)


def test_workers_that_cannot_live_are_not_replaced_in_a_busy_loop_and_stop_all_the_same() -> None:
    """The stop comes within the pause before a replacement: nothing more is started."""
    with supervised(1, "short_lived") as it:
        it.born(1)
        log = it.process.stderr
        assert log is not None
        while "worker died" not in log.readline():
            pass
        it.process.terminate()
        code, rest = it.end()
    assert (code, rest) == (0, [])


def test_a_stop_during_the_start_leaves_no_worker_behind() -> None:
    """SIGTERM when only the first of many is there: those that are not born yet never are, and the supervisor ends."""
    with supervised(40, "well") as it:
        it.born(1)
        it.process.terminate()
        code, log = it.end()
    assert code == 0
    assert [line["event"] for line in log] == ["worker started"] * len(log)


def test_workers_that_never_live_end_the_supervisor() -> None:
    """A fault that does not mend itself: it gives up with exit code 1 and says why, instead of trying for ever."""
    with supervised(1, "short_lived") as it:
        code, log = it.end()
    assert code == 1
    assert log[-1]["event"] == "workers die as soon as they are started; giving up"
    assert (log[-1]["deaths"], log[-1]["exit_code"], log[-1]["level"]) == (MOST_YOUNG_DEATHS, 7, "error")
    assert [line["event"] for line in log].count("worker started") == MOST_YOUNG_DEATHS


def test_workers_end_with_a_supervisor_that_was_killed() -> None:
    """Nobody would replace them, reload them or stop them any more; they take it as SIGTERM."""
    with supervised(2, "well") as it:
        it.born(2)
        it.process.kill()
        said, _ = it.process.communicate(timeout=30)
        assert said == "", "the end of its output: nobody holds it any more"
        assert it.process.returncode == -signal.SIGKILL
