"""What a Redis that answers refuses to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeAlias

from redis.exceptions import ResponseError
from structlog.typing import FilteringBoundLogger

Command: TypeAlias = tuple[bytes | int, ...]
Reply: TypeAlias = Any  # bytes, int, None or a list of such; what the command says

PROBE_SECONDS = 0.5

_SHOWN_CHARACTERS = 160
_READ = "read"
_READS = frozenset((b"MGET", b"SMEMBERS", b"SCAN", b"LRANGE", b"ZRANGEBYSCORE"))


def told(error: BaseException) -> str:
    """What operators may read of an error. A server's complaint may quote what it was sent: that part is cut."""
    text = str(error).partition(", with args")[0][:_SHOWN_CHARACTERS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Refusals:
    """Whether a Redis that answers also does what it is asked, by probes: a refused read is not "there is none".

    `MASTERDOWN`, `NOPERM`, `READONLY`, `OOM`, `LOADING`, `BUSY` and whatever else it refuses with all mean that it
    cannot tell. `fault` stays until the probe (or the very read that was refused) goes through again.
    """

    def __init__(self, log: FilteringBoundLogger, probes: Mapping[str, Command]) -> None:
        self.probe_at = 0.0  # on the loop's clock
        self._log = log
        self._probes = probes
        self._refused_read: Command | None = None
        self._faults: dict[str, str] = {}

    @property
    def fault(self) -> str | None:
        """What it refuses, and in which words; None where it refuses nothing."""
        said = ((name, self._faults[name]) for name in self._probes if name in self._faults)
        return next((f"refuses to {name}: {words}" for name, words in said), None)

    def heard(self, command: Command, error: ResponseError) -> None:
        """A command of a request was refused: asked about at once, and told of once."""
        if command[0] in _READS:
            self._refused_read = command
            self._note(_READ, command, error)
        else:
            self._note("write", command, error)
        self.probe_at = 0.0

    def seconds_left(self) -> float:
        return max(0.0, self.probe_at - asyncio.get_running_loop().time())

    def due(self) -> list[tuple[str, Command]]:
        self.probe_at = asyncio.get_running_loop().time() + PROBE_SECONDS
        return [
            (name, self._refused_read if name == _READ and self._refused_read is not None else command)
            for name, command in self._probes.items()
        ]

    def conclude(self, name: str, command: Command, answer: asyncio.Future[Reply]) -> None:
        """A probe was answered."""
        if answer.cancelled() or answer.exception() is not None:
            return  # the connection is gone, which is told elsewhere
        reply = answer.result()
        if isinstance(reply, ResponseError):
            self._note(name, command, reply)
            return
        if self._faults.pop(name, None) is not None:
            self._log.info("redis takes commands again", which=name)
        if name == _READ:
            self._refused_read = None

    def _note(self, name: str, command: Command, error: ResponseError) -> None:
        said = told(error)
        if name not in self._faults:
            self._log.error("redis refused a command", command=_word(command), because=said)
        self._faults[name] = said


def _word(command: Command) -> str:
    return command[0].decode("ascii", "replace") if isinstance(command[0], bytes) else str(command[0])
