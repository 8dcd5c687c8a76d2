"""Starts servers that others wrote, each as a process of its own, ended by its own id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.processes import free_port
from gateway.http.client import Origin

HERE = Path(__file__).parent
BODY = b"plain answer"
LARGE = bytes(range(256)) * 8192
NAMES = ("aiohttp", "uvicorn", "node", "nginx")


class Foreign(NamedTuple):
    name: str
    origin: Origin


@contextmanager
def running(name: str, directory: Path) -> Iterator[Foreign]:
    """One of `NAMES`, listening on 127.0.0.1. Skips, saying what was not tested, where the program is missing."""
    with _nginx(directory) if name == "nginx" else _telling_its_port(name) as port:
        yield Foreign(name, Origin("http", "127.0.0.1", port))


@contextmanager
def _telling_its_port(name: str) -> Iterator[int]:
    python = [sys.executable, str(HERE / f"{name}_server.py")]
    with _process([_program("node"), str(HERE / "answers.mjs")] if name == "node" else python) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])
    program = shutil.which(name, path=path)
    if program is None:
        pytest.skip(f"{name.upper()} IS NOT INSTALLED: the transport was NOT tested against it")
    return program


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        with process:
            yield process
            process.terminate()
    finally:
        process.kill()


@contextmanager
def _nginx(directory: Path) -> Iterator[int]:
    program = _program("nginx")
    (directory / "gzip").write_bytes(BODY * 1000)
    (directory / "large").write_bytes(LARGE)
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not read the test's directory
    for word, value in {"USER": user, "DIRECTORY": str(directory), "PORT": str(port)}.items():
        text = text.replace(word, value)
    (directory / "nginx.conf").write_text(text)
    command = [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
    with _process(command) as process:
        _until_listening(process, port, directory)
        yield port


def _until_listening(process: subprocess.Popen[str], port: int, directory: Path) -> None:
    """nginx says nothing when it is ready."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, (directory / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
