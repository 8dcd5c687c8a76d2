"""Who stands ready before which upstream, and what a load on one of them cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import trustme

from bench import proxies, targets
from bench.load import Load, RequestCounts
from bench.peers import Installed
from bench.processes import Census, MachineTime, Process, Question, StartError, free_port, running
from bench.revisions import BEFORE, PAIRED_TABLES
from bench.samples import Noise, Plan
from bench.targets import LoopLag, Place, Target
from bench.wire import BodyKind

SETTLE_SECONDS = 0.3  # what a proxy puts off until the load is over is its work all the same
SPARE_SECONDS = 30  # for a load process to start and to count, beyond the time that its load may take
CORES = len(os.sched_getaffinity(0))
GATEWAY = "gateway"
LONGEST_REASON = 300
DEFAULT_PACE = LoopLag()

_Done = TypeVar("_Done")
Builder = Callable[[Place], Target]


@dataclass(frozen=True)
class Contender:
    """A target that stands ready."""

    target: Target
    port: int
    process: Process | None  # None: the upstream itself, with no proxy before it

    @property
    def name(self) -> str:
        return self.target.name

    def question(self, key: str, kind: BodyKind = "chat", events: int = 0) -> Question:
        return Question(self.port, key, self.target.headers, self.target.byte_exact, kind, events)


class UpstreamAt(NamedTuple):
    port: int
    authority: Path | None


class RedisAt(NamedTuple):
    port: int
    process: Process

    @property
    def section(self) -> str:
        """Of a gateway's file."""
        return f"store: {{kind: redis, url: redis://127.0.0.1:{self.port}/0}}\n"


class Cost(NamedTuple):
    """What happened between two moments."""

    cpu_seconds: float  # of the target's process tree; 0 where there is no process
    wall_seconds: float
    noise: Noise


@dataclass
class Arena:
    """Starts what is to be measured. `absent` gathers who could not come, and why; `seen` who came."""

    plan: Plan
    key: str
    folder: Path
    peers: dict[str, Installed]
    with_gateway: bool = True
    against: Path | None = None  # a checkout of another revision of the gateway, measured beside this one
    absent: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Target] = field(default_factory=dict)
    _folders: int = 0

    @contextmanager
    def upstream(self, loop_lag: LoopLag = DEFAULT_PACE, *, tls: bool = False) -> Iterator[UpstreamAt]:
        folder, port = self.new_folder(), free_port()
        certificate, authority = _certificate(folder) if tls else (None, None)
        target = targets.upstream(port, loop_lag, certificate)
        with running(self._process(target, folder)) as process:
            process.wait_until_it_listens(port, target.start_seconds)
            yield UpstreamAt(port, authority)

    @contextmanager
    def contenders(
        self,
        table: str,
        upstream: UpstreamAt,
        *,
        with_direct: bool = True,
        kind: BodyKind = "chat",
        events: int = 0,
        only: str | None = None,
    ) -> Iterator[list[Contender]]:
        """All that take part in `table` and answer a question of this kind as they should, the gateway first.

        Raises `StartError` where it is the gateway that does not.
        """
        with ExitStack() as stack:
            ready = [Contender(targets.DIRECT, upstream.port, None)] if with_direct and only in (None, "direct") else []
            self.seen.update({each.name: each.target for each in ready})
            for name, build in self.builders(table).items():
                if only not in (None, name):
                    continue
                try:
                    ready.append(stack.enter_context(self.started(build, upstream, kind=kind, events=events)))
                except StartError as error:
                    if name == GATEWAY:
                        raise
                    self.leave_out(f"{name} ({table})", error)
            yield ready

    def leave_out(self, what: str, reason: object) -> None:
        """Notes why something is not in the tables, in one line and without this machine's paths."""
        text = " ".join(str(reason).replace(str(self.folder), "…").replace(str(targets.REPOSITORY), ".").split())
        self.absent[what] = text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"

    def builders(self, table: str) -> dict[str, Builder]:
        """How to set up each proxy that takes part in `table`."""
        built: dict[str, Builder] = {GATEWAY: targets.gateway} if self.with_gateway else {}
        if self.against is not None and table in PAIRED_TABLES:
            built[BEFORE] = partial(targets.gateway, checkout=self.against, name=BEFORE)
        for name, installed in self.peers.items():
            peer = proxies.PEERS[name]
            if table in peer.tables:
                built[name] = partial(peer.target, installed)
        return built

    @contextmanager
    def started(
        self,
        build: Builder,
        upstream: UpstreamAt,
        *,
        kind: BodyKind = "chat",
        events: int = 0,
        pause_seconds: float = 0.05,
        key: str | None = None,
    ) -> Iterator[Contender]:
        """One proxy that answers; raises `StartError` where it does not."""
        key = key or self.key
        folder, port = self.new_folder(), free_port()
        target = build(Place(folder, port, upstream.port, key, upstream.authority))
        with running(self._process(target, folder)) as process:
            contender = Contender(target, port, process)
            process.wait_until_it_answers(contender.question(key), target.start_seconds, pause_seconds=pause_seconds)
            if kind != "chat":
                _check(contender.question(key, kind, events), target.name)
            self.seen.setdefault(target.name, target)
            yield contender

    @contextmanager
    def redis(self) -> Iterator[RedisAt]:
        """A server of its own."""
        folder, port = self.new_folder(), free_port()
        target = targets.redis(port, folder)
        with running(self._process(target, folder)) as process:
            process.wait_until_it_listens(port, target.start_seconds)
            yield RedisAt(port, process)

    def load(self, contender: Contender, **more: object) -> Load:
        target = contender.target
        about = {"port": contender.port, "key": self.key, "headers": target.headers, "byte_exact": target.byte_exact}
        return Load(**about | more)  # type: ignore[arg-type]  # the fields of a struct, put together here

    def warm_up(self, contender: Contender) -> None:
        if self.plan.warm_up_seconds:
            run_loads([self.load(contender, connections=16, seconds=self.plan.warm_up_seconds)])

    def new_folder(self) -> Path:
        self._folders += 1
        folder = self.folder / str(self._folders)
        folder.mkdir()
        return folder

    @staticmethod
    def _process(target: Target, folder: Path) -> Process:
        log = folder / "output.log"
        return Process(target.name, target.command, log, cwd=target.checkout, environment=target.environment)


def _check(question: Question, name: str) -> None:
    try:
        complaint = question.ask()
    except OSError as error:
        complaint = str(error)
    if complaint:
        raise StartError(f"{name}: {complaint}")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """One for loopback (key and chain) and what signed it."""
    authority = trustme.CA()
    certificate, trusted = folder / "certificate.pem", folder / "authority.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(trusted)
    return certificate, trusted


def with_cost(process: Process | None, act: Callable[[], _Done]) -> tuple[_Done, Cost]:
    """What `act` returns, and what it cost this process's tree and the machine, until shortly after its end."""
    before = _Moment.take(process)
    done = act()
    time.sleep(SETTLE_SECONDS)
    used = _Moment.take(process).since(before)
    available = used.clock * CORES
    others = max(0.0, used.everyone - used.ours)
    return done, Cost(used.target, used.clock, Noise(others / available, used.stolen / available))


class _Moment(NamedTuple):
    """CPU seconds used so far, and when that was."""

    clock: float
    everyone: float
    ours: float  # this process with all below it: load, upstream and every target
    target: float
    stolen: float

    @classmethod
    def take(cls, process: Process | None) -> _Moment:
        census, machine = Census(), MachineTime.now()
        target = census.cpu_seconds_of_tree(process.pid) if process else 0.0
        return cls(time.monotonic(), machine.busy, census.cpu_seconds_of_tree(os.getpid()), target, machine.stolen)

    def since(self, before: _Moment) -> _Moment:
        return _Moment(*(now - then for now, then in zip(self, before, strict=True)))


def run_loads(loads: Sequence[Load]) -> list[RequestCounts]:
    """All at the same time, each in a process of its own. Raises `subprocess.SubprocessError` where one fails."""
    with ExitStack() as stack:
        running_loads = [(load, stack.enter_context(_module("bench.load", load))) for load in loads]
        return [
            msgspec.json.decode(_finished(process, load.seconds + load.straggler_seconds), type=RequestCounts)
            for load, process in running_loads
        ]


def output_of(module: str, job: msgspec.Struct | None, limit_seconds: float, *arguments: str) -> bytes:
    """What a module prints of a job read from stdin; raises `subprocess.SubprocessError` where it fails or hangs."""
    with _module(module, job, *arguments) as process:
        return _finished(process, limit_seconds)


@contextmanager
def _module(module: str, job: msgspec.Struct | None, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=targets.REPOSITORY) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job))
        process.stdin.close()
        process.stdin = None  # `communicate` would want to flush it
        try:
            yield process
        finally:
            process.kill()


def _finished(process: subprocess.Popen[bytes], limit_seconds: float) -> bytes:
    output, _ = process.communicate(timeout=limit_seconds + SPARE_SECONDS)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return output
