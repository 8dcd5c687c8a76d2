"""`python -m gateway ARGUMENTS` as a process of its own, forked from one that has imported it already (`kit.nursery`).

Imports are most of what a start costs, and the tests start thousands. What is lost is that the interpreter starts and
what it imports then: tests that are about these start one by themselves.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PYTHON = sys.executable
# What an interpreter looks at when it starts: a child cannot be told of it later.
_AT_THE_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_")
_LIMITS = ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_AS")
_NUMBER_BYTES = 4


class Forked:
    """As much of `asyncio.subprocess.Process` as tests use; standard input is /dev/null."""

    stdin = None

    def __init__(
        self,
        pid: int,
        told: asyncio.StreamReader,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._ending = asyncio.create_task(self._end(told))

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def communicate(self) -> tuple[bytes | None, bytes | None]:
        """What it wrote, once it has ended."""
        out, err, _ = await asyncio.gather(_all_of(self.stdout), _all_of(self.stderr), self.wait())
        return out, err

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError once it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _end(self, told: asyncio.StreamReader) -> int:
        code = await told.read()  # to its end, so that the pipe is closed by then
        assert len(code) == _NUMBER_BYTES, "the process that it was forked from ended"
        self.returncode = int.from_bytes(code, "little", signed=True)
        return self.returncode


async def start_gateway(
    *arguments: str,
    environ: Mapping[str, str],
    directory: Path | None = None,
    stdout: int = PIPE,
    stderr: int = PIPE,
    limit: int = 1 << 16,
) -> Forked | Process:
    """`python -m gateway ARGUMENTS`; `limit` is that of the readers. Standard input is /dev/null.

    Forked, unless another interpreter is wanted, or one that starts in another environment than this one did.
    """
    looked_at = {name: value for name, value in environ.items() if _is_looked_at(name)}
    if sys.executable == PYTHON and looked_at.items() <= os.environ.items():
        order = {
            "arguments": arguments,
            "environ": dict(environ),
            "directory": str(directory or Path.cwd()),
            "umask": _umask(),
            "limits": {each: resource.getrlimit(getattr(resource, each)) for each in _LIMITS},
        }
        return await _forked(_nursery(frozenset(looked_at.items())), order, stdout, stderr, limit)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        stdin=DEVNULL,
        stdout=stdout,
        stderr=stderr,
        limit=limit,
        cwd=directory,
        env=environ,
    )


async def _forked(orders: socket.socket, order: dict[str, Any], stdout: int, stderr: int, limit: int) -> Forked:
    told, pipe = os.pipe()
    out, its_out = _ends_of(stdout)
    err, its_err = _ends_of(stderr, its_out)
    given = [os.open(os.devnull, os.O_RDONLY), its_out, its_err, pipe]
    socket.send_fds(orders, [json.dumps(order).encode()], given)
    for each in given:
        os.close(each)
    ends = await _reader(told, limit)
    readers = [None if each is None else await _reader(each, limit) for each in (out, err)]
    pid = int.from_bytes(await ends.readexactly(_NUMBER_BYTES), "little")
    return Forked(pid, ends, *readers)


@functools.cache
def _nursery(environ: frozenset[tuple[str, str]]) -> socket.socket:
    """Where one takes orders whose interpreter was started in this environment."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        program = [PYTHON, "-P", str(Path(__file__).with_name("nursery.py")), str(its.fileno())]
        rest = {name: value for name, value in os.environ.items() if not _is_looked_at(name)}
        process = subprocess.Popen(program, stdin=DEVNULL, env=rest | dict(environ), pass_fds=[its.fileno()])
    atexit.register(process.wait)
    atexit.register(ours.close)  # before the above
    return ours


def _is_looked_at(name: str) -> bool:
    return name.startswith(_AT_THE_START) and name != "PYTHONPATH"


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def _ends_of(wanted: int, output: int = -1) -> tuple[int | None, int]:
    """Our end of a standard file, if there is one, and the child's."""
    if wanted == PIPE:
        return os.pipe()
    if wanted == DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    return None, os.dup(output if wanted == STDOUT else wanted)


async def _reader(descriptor: int, limit: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _all_of(reader: asyncio.StreamReader | None) -> bytes | None:
    return None if reader is None else await reader.read()
