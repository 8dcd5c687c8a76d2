"""A MariaDB server of our own: a real one, as Debian installs it, that tests may stop, start, freeze and thaw."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pymysql
import pytest

from bench.processes import free_port
from gateway.types import Secret

PASSWORD = "mariadb-test-password"
_PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"])
# Several run at once: what the kernel gives to all together (asynchronous input and output) is left alone.
_SMALL = (
    "--innodb-use-native-aio=0",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--performance-schema=OFF",
)
_databases = itertools.count(1)


class PrivateMariaDB:
    """A server on a free port of loopback, with its data in `directory`. It listens once `start` returns."""

    def __init__(self, directory: Path, server: str, installer: str) -> None:
        self._directory = directory
        self._server = server
        self._user = ["--user=root"] if os.geteuid() == 0 else []
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "tmp").mkdir()
        # A server that starts removes what others have in the directory for temporary tables.
        self._environ = os.environ | {"TMPDIR": str(directory / "tmp")}
        command = [installer, "--no-defaults", f"--datadir={directory / 'data'}", "--skip-test-db", *self._user]
        command += ["--auth-root-authentication-method=normal", *_SMALL]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environ)
        assert done.returncode == 0, done.stdout + done.stderr
        (directory / "users.sql").write_text(
            f"CREATE USER IF NOT EXISTS gateway@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO gateway@'%';\n"
        )

    def start(self) -> None:
        command = [
            self._server,
            "--no-defaults",
            f"--datadir={self._directory / 'data'}",
            f"--socket={self._directory / 'socket'}",
            f"--pid-file={self._directory / 'pid'}",
            f"--init-file={self._directory / 'users.sql'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            *_SMALL,
            *self._user,
        ]
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=-1, env=self._environ)
        assert self._process.stderr is not None
        self._draining = _wait_for(b"ready for connections", self._process.stderr)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._draining.join()

    kill = stop  # it is SIGKILL either way

    def freeze(self) -> None:
        """It keeps its connections, takes new ones, and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # by now it has stopped

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def new_database(self, scheme: str = "mariadb") -> Secret:
        name = f"usage{next(_databases)}"
        with closing(
            pymysql.connect(host="127.0.0.1", port=self.port, user="gateway", password=PASSWORD)
        ) as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return Secret(f"{scheme}://gateway:{PASSWORD}@127.0.0.1:{self.port}/{name}")


def _wait_for(words: bytes, stream: IO[bytes]) -> threading.Thread:
    """Reads on until the words have come. The thread that it returns reads whatever follows, to the end."""
    seen = []
    for line in stream:
        seen.append(line)
        if words in line:
            break
    else:
        raise AssertionError(b"".join(seen).decode(errors="replace"))

    def pass_over() -> None:  # a full pipe would stop the server
        with stream:
            for _ in stream:
                pass

    draining = threading.Thread(target=pass_over, daemon=True)
    draining.start()
    return draining


@contextmanager
def private_mariadb() -> Iterator[PrivateMariaDB]:
    """A server that runs until the end of the block. Skips the test where none is installed."""
    server = shutil.which("mariadbd", path=_PATHS)
    installer = shutil.which("mariadb-install-db", path=_PATHS)
    if server is None or installer is None:
        pytest.skip("NOT TESTED AGAINST MARIADB: no mariadbd on this machine (Debian: apt-get install mariadb-server)")
    with tempfile.TemporaryDirectory(prefix="mdb") as directory:  # a socket's path must be short
        mariadb = PrivateMariaDB(Path(directory), server, installer)
        mariadb.start()
        try:
            yield mariadb
        finally:
            mariadb.stop()
