"""A process that has imported the gateway and forks itself: a test's gateway need not import everything anew.

Run as a program, with the number of a socket. Each message on it is an order for a child: JSON of what it is to be
(`arguments`, `environ`, `directory`, `umask`, `limits`), with four descriptors: its standard files, and a pipe on which
its process id is written and, once it has ended, its exit code, each as four bytes. Closing the socket ends this one.

A child is a gateway in all but its command line in /proc: its successors are exec'd, by what `sys.orig_argv` says.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

import gateway.app
import gateway.usage.sql.reader
import gateway.usage.sql.rows_store  # noqa: F401 - as those above, it is imported by commands that have read their file
from gateway.cli import main

MOST_BYTES = 1 << 20


def next_child(orders: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return in each child, with its order and standard files; None, in this process, at the end."""
    told: dict[int, int] = {}  # the pipe of each child
    ended, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    while True:
        readable, _, _ = select.select([orders, ended], [], [])
        if ended in readable:
            os.read(ended, 4096)
            bury(told)
        if orders not in readable:
            continue
        data, files, _, _ = socket.recv_fds(orders, MOST_BYTES, 4)
        if not data:
            return None
        *standard, pipe = files
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            return json.loads(data), standard
        told[pid] = pipe
        tell(pipe, pid)
        for each in standard:
            os.close(each)


def bury(told: dict[int, int]) -> None:
    """Tell of each child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pipe = told.pop(found[0])
            tell(pipe, os.waitstatus_to_exitcode(found[1]))
            os.close(pipe)


def tell(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know
        os.write(pipe, number.to_bytes(4, "little", signed=True))


def become(order: dict[str, Any], files: list[int]) -> None:
    """Be as an interpreter that was started with this command line, and inherits this."""
    for number, each in enumerate(files):
        os.dup2(each, number)
    os.closerange(len(files), 1 << 16)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order["environ"])
    time.tzset()
    os.umask(order["umask"])
    for name, limits in order["limits"].items():
        resource.setrlimit(getattr(resource, name), limits)
    os.chdir(order["directory"])
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [order["directory"], *filter(None, path)]
    sys.argv[1:] = order["arguments"]
    sys.orig_argv[1:] = ["-m", "gateway", *order["arguments"]]
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        here = getattr(sys, name)
        lines = 1 if name == "stderr" else -1
        stream = open(number, mode, lines, here.encoding, here.errors, closefd=False)  # noqa: SIM115 - to the end
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # what is here stays, and is not copied by being looked at
    found = next_child(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        become(*found)
        sys.exit(main())
