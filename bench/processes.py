"""Starting a process, waiting until it answers, reading the CPU time of its whole tree, and ending it by its id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.wire import ANSWER, AnswerReader, request_bytes

START_SECONDS = 20
STOP_SECONDS = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A process did not come up; the text holds the end of its log."""


class Stat(NamedTuple):
    """What /proc/PID/stat says of one process."""

    parent: int
    cpu_seconds: float  # user and system, its ended and reaped children included


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_stat(pid: int) -> Stat | None:
    """None where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return Stat(int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_SECOND)


class Census:
    """All processes of the machine at one moment, and the CPU time they had used by then."""

    def __init__(self) -> None:
        self.stolen_seconds = stolen_seconds()
        self._stats = {int(pid): stat for pid in os.listdir("/proc") if pid.isdigit() and (stat := read_stat(int(pid)))}

    @property
    def cpu_seconds(self) -> float:
        return sum(stat.cpu_seconds for stat in self._stats.values())

    def cpu_seconds_of_tree(self, root: int) -> float:
        return sum(self._stats[pid].cpu_seconds for pid in self.tree(root))

    def tree(self, root: int) -> set[int]:
        """`root` and all processes below it, as far as they are alive."""
        found = {root} & self._stats.keys()
        while below := {pid for pid, stat in self._stats.items() if stat.parent in found} - found:
            found |= below
        return found


def stolen_seconds() -> float:
    """CPU time that the hypervisor gave to other guests, all cores together, since the machine started."""
    all_cores = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(all_cores[8]) / TICKS_PER_SECOND


class Process:
    """A running server; its output goes to a file, so that writing logs costs it what it would cost an operator."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, cwd: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=os.environ | environment
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_until_it_answers(self, port: int, key: str) -> None:
        """Returns once a chat completion through `port` is answered as it should be; raises `StartError` otherwise."""
        deadline = time.monotonic() + START_SECONDS
        complaint = "nothing listens"
        while time.monotonic() < deadline and self._popen.poll() is None:
            with contextlib.suppress(OSError):
                status, body = ask_once(port, key)
                if (status, body) == (200, ANSWER):
                    return
                complaint = f"the answer was {status} {body[:300]!r}"
            time.sleep(0.05)
        if self._popen.poll() is not None:
            complaint = f"it ended with exit code {self._popen.returncode}"
        raise StartError(f"{self.name} did not come up: {complaint}\n{self._log_tail()}")

    def stop(self) -> None:
        """Asks it to end, and kills what is left of its tree."""
        descendants = Census().tree(self.pid) - {self.pid}
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in descendants:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.kill()
            self._popen.wait()

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join(f"    {line}" for line in lines)


def ask_once(port: int, key: str) -> tuple[int, bytes]:
    """One chat completion on a connection of its own; raises OSError where it gets no answer."""
    reader = AnswerReader()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request_bytes(port, key, stream=False))
        while data := connection.recv(65536):
            if (answer := reader.feed(data)) is not None:
                return answer
    raise ConnectionError("closed without an answer")


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop()
