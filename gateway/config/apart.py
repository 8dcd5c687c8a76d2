"""Read a configuration without holding up the process that serves.

Reading YAML holds the interpreter's lock for longer than a request should wait. So a large file is read by a process of
its own, which sends back what it found in small pieces; a small one is read here, in a thread.

    python -m gateway.config.apart    a request on stdin; pieces on stdout, each its length and a pickle
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from gateway import __version__
from gateway.config import Lines, Settings, load_settings
from gateway.errors import ConfigError

# Read here in about 20 ms, in slices of the interpreter's 5 ms.
SMALL_BYTES = 1 << 14
# Records a piece: about a millisecond to unpickle.
RECORDS_AT_ONCE = 500
PAUSE_SECONDS = 0.001
# Far beyond what reading takes, on a machine that is busy too.
LEAST_SECONDS = 60.0
SECONDS_PER_MB = 30.0

# What others hold is not known before they are read.
_INCLUDE = re.compile(rb"^['\"{ ]*include\b", re.MULTILINE)
_LENGTH = struct.Struct("!I")
_RECORDS = ("models", "organisations", "plans", "users", "keys")


class CannotRead(Exception):
    """No process could be started, or one of another version.

    An upgrade has been installed meanwhile.
    """


class Reading:
    """One reading of a file in a process of its own.

    `run` in a thread; `stop` ends it from another one.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(self) -> Settings:
        """As `load_settings`. Raises ConfigError."""
        try:
            size = self._path.stat().st_size
            is_small = size <= SMALL_BYTES and _INCLUDE.search(self._path.read_bytes()) is None
        except OSError:
            size, is_small = 0, True
        if not is_small:
            try:
                return self._read_apart(LEAST_SECONDS + SECONDS_PER_MB * size / 2**20)
            except CannotRead:
                pass
        return load_settings(self._path, self._environ)

    def stop(self) -> None:
        """End the process that reads; `run` then raises ConfigError."""
        self._is_stopped = True
        if self._process is not None:
            self._process.kill()

    def _read_apart(self, seconds: float) -> Settings:
        try:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway.config.apart"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the gateway
            )
        except OSError:
            raise CannotRead from None
        alarm = threading.Timer(seconds, process.kill)
        alarm.daemon = True
        alarm.start()
        with process:  # closes its pipes and waits for it
            try:
                if self._is_stopped:
                    process.kill()
                return self._exchanged(process)
            finally:
                alarm.cancel()
                process.kill()

    def _exchanged(self, process: subprocess.Popen[bytes]) -> Settings:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        try:
            process.stdin.write(pickle.dumps((str(self._path), dict(self._environ))))
            process.stdin.close()
        except OSError:
            raise CannotRead from None
        pieces = _pieces_from(process.stdout)
        if next(pieces, None) != __version__:
            raise CannotRead
        settings = _assembled(pieces)
        if settings is None:
            raise ConfigError([f"{self._path}:1: cannot be read: the process that read it has not come to its end"])
        return settings


def _pieces_from(file: IO[bytes]) -> Iterator[Any]:
    """Yield pieces until the end of the file or process."""
    while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        data = file.read(length)
        if len(data) < length:
            return
        yield pickle.loads(data)  # noqa: S301 - from our own process
        time.sleep(PAUSE_SECONDS)  # whoever waits for the interpreter's lock gets it


def _assembled(pieces: Iterator[Any]) -> Settings | None:
    """None where the end is missing. Raises ConfigError."""
    parts: dict[str, list[Any]] = {name: [] for name in _RECORDS}
    lines: dict[str, dict[str, int]] = {}
    base: Settings | None = None
    for name, value in pieces:
        if name == "problems":
            raise ConfigError(*value)
        if name == "bug":
            raise RuntimeError(value)
        if name == "settings":
            base = value
        elif name == "end" and base is not None:
            records = {each: tuple(found) for each, found in parts.items()}
            return msgspec.structs.replace(base, lines=Lines(lines, base.lines.sources), **records)
        elif name in parts:
            parts[name] += value
        else:
            lines.setdefault(name, {}).update(value)
    return None


def _disassembled(settings: Settings) -> Iterator[tuple[str, Any]]:
    yield (
        "settings",
        msgspec.structs.replace(settings, lines=Lines({}, settings.lines.sources), **dict.fromkeys(_RECORDS, ())),
    )
    for name in _RECORDS:
        records = getattr(settings, name)
        for start in range(0, len(records), RECORDS_AT_ONCE):
            yield name, records[start : start + RECORDS_AT_ONCE]
    for kind, lines in settings.lines.by_kind.items():
        items = list(lines.items())
        for start in range(0, max(1, len(items)), RECORDS_AT_ONCE):
            yield kind, dict(items[start : start + RECORDS_AT_ONCE])
    yield "end", None


def _answer(path: str, environ: Mapping[str, str]) -> Iterator[Any]:
    yield __version__
    try:
        yield from _disassembled(load_settings(path, environ))
    except ConfigError as error:
        yield "problems", (error.problems, dict(error.files))
    except Exception as error:  # a fault of ours, told where the log is
        yield "bug", f"{type(error).__name__} while the file was read"


def _main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    for piece in _answer(*pickle.load(sys.stdin.buffer)):  # noqa: S301 - from our own process
        data = pickle.dumps(piece, protocol=pickle.HIGHEST_PROTOCOL)
        out.write(_LENGTH.pack(len(data)) + data)
    out.flush()


if __name__ == "__main__":
    _main()
