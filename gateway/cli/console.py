"""The outputs of a command: results on stdout, the rest on stderr."""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec


def print_line(text: str, *, end: str = "\n") -> None:
    """On stdout."""
    sys.stdout.write(_printable(text) + end)


def print_json(value: object) -> None:
    """On stdout, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def complain(text: str) -> None:
    """Write to stderr, if it is open.

    Where it is not, the exit code alone shows that something is wrong.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(_printable(text) + "\n")
            sys.stderr.flush()


def hold_standard_files() -> None:
    """Open /dev/null in place of closed standard files.

    Else a socket or a database gets its number, and our output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def abandon_stdout() -> None:
    """Drop buffered output after a broken pipe.

    It must not fail once more at the exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(text: str) -> str:
    """Escape control characters of records for a terminal.

    They may have been written by anyone.
    """
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
