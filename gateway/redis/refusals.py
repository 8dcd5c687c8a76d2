"""Refusals of a Redis that answers: READONLY, OOM, LOADING …

`MASTERDOWN`, `NOPERM`, `BUSY` and the like.

All of them mean "cannot tell": a refused read is not "there is none".
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from structlog.typing import FilteringBoundLogger

from gateway.errors import StoreUnavailable
from gateway.redis.script import packed_command

if TYPE_CHECKING:
    from gateway.redis.address import Connection

Reply: TypeAlias = Any  # bytes, int, None, a list of such, or a refusal
Refusal: TypeAlias = ResponseError | BusyLoadingError  # redis-py takes the second for a failure of the connection

PROBE_SECONDS = 0.5

_REFUSALS = (ResponseError, BusyLoadingError)

_SHOWN_CHARACTERS = 160
_ANSWER, _READ, _WRITE = "answer", "read", "write"
_READS = frozenset(
    (
        *("GET", "MGET", "EXISTS", "SCAN", "SMEMBERS", "LRANGE", "HGET", "HMGET", "HVALS"),
        *("ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREVRANK"),
    )
)
# Refusals that say something about the server, not about the command. Where a script met one, older servers give it in
# the text only; older versions of redis-py know a Cluster's by their text only.
_UNWELL = (
    *(BusyLoadingError, NoPermissionError, NoScriptError, OutOfMemoryError, ReadOnlyError),
    *(AskError, ClusterDownError, MasterDownError, TryAgainError),  # a MovedError is an AskError
)
_UNWELL_TEXT = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|LOADING|BUSY|NOPERM|NOAUTH|CLUSTERDOWN|TRYAGAIN|non local key)\b"
    r"|^(MOVED|ASK) \d"
)
_DEMOTED_TEXT = re.compile(r"\bREADONLY\b|^MOVED \d")
_REDIRECTION = re.compile(r"(MOVED|ASK) (\d+) (\S*):(\d+)")


class RedisUnavailable(StoreUnavailable):
    """Redis gave no usable reply.

    `sent`: it may have carried the command out; `reason`: its word for a refusal.
    """

    def __init__(self, *, sent: bool, reason: str = "") -> None:
        super().__init__("The store of run-time records cannot be asked at the moment; ask again.")
        self.sent = sent
        self.reason = reason


async def read_reply(connection: Connection) -> Reply:
    """Read one reply, or the refusal that stands in place of one."""
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as refusal:
        return refusal


def is_refusal(reply: Reply) -> TypeGuard[Refusal]:
    return isinstance(reply, _REFUSALS)


def is_unwell(refusal: Refusal) -> bool:
    """Whether the server would refuse others too."""
    return isinstance(refusal, _UNWELL) or _UNWELL_TEXT.search(str(refusal)) is not None


def refusal_word(refusal: Refusal) -> str:
    """Redis's own word for it, else the class of the error."""
    if isinstance(refusal, OutOfMemoryError):
        return "OOM"  # Valkey says it as a reply's code, which redis-py takes off
    word = _UNWELL_TEXT.search(str(refusal))
    return type(refusal).__name__ if word is None else word[1] or word[2]


def is_demoted(refusal: Refusal) -> bool:
    """Whether the server is no longer the one that takes it."""
    return isinstance(refusal, ReadOnlyError | MovedError) or _DEMOTED_TEXT.search(str(refusal)) is not None


class Redirection(NamedTuple):
    """Where a node of a Cluster says that a key is.

    `once`: on its way there, so that the next command may be answered here again. `host`: empty for the same one.
    """

    once: bool
    host: str
    port: int


def redirection(refusal: Refusal) -> Redirection | None:
    if isinstance(refusal, AskError):
        return Redirection(not isinstance(refusal, MovedError), refusal.host, refusal.port)
    text = _REDIRECTION.match(str(refusal))
    return None if text is None else Redirection(text[1] == "ASK", text[3], int(text[4]))


def shown_error(error: BaseException) -> str:
    """Return an error's text for operators.

    A server's complaint may quote what it was sent: that part is cut.
    """
    text = str(error).partition(", with args")[0][:_SHOWN_CHARACTERS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Refusals:
    """Whether an answering Redis obeys, by probes.

    PING, or what `probe` is given.

    `fault` stays until the probe (or the very read that was refused) goes through again.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._probes: dict[str, tuple[str, bytes]] = {_ANSWER: ("PING", packed_command(("PING",)))}
        self._probe_at = 0.0  # on the loop's clock
        self._refused_read: tuple[str, bytes] | None = None
        self._faults: dict[str, str] = {}

    def probe(self, *, read: tuple[str, bytes], write: tuple[str, bytes]) -> None:
        """Set the probes, which must change nothing.

        Each the name of a command, and the command as it is sent.
        """
        self._probes = {_READ: read, _WRITE: write}

    @property
    def fault(self) -> str | None:
        """What it refuses, and in which words; None where it refuses nothing."""
        return next((f"refuses to {kind}: {self._faults[kind]}" for kind in self._probes if kind in self._faults), None)

    def note(self, name: str, packed: bytes, refusal: Refusal) -> None:
        """A command was refused: it is probed at once, and logged once."""
        if name in _READS:
            self._refused_read = name, packed
            self._add(_READ, name, refusal)
        else:
            self._add(_WRITE, name, refusal)
        self._probe_at = 0.0

    def seconds_left(self) -> float:
        """Until the next probe is due."""
        return max(0.0, self._probe_at - asyncio.get_running_loop().time())

    def due(self) -> list[tuple[str, str, bytes]]:
        """Return the probes that are due; the next are due later.

        Each as its kind, its command's name and the command.
        """
        self._probe_at = asyncio.get_running_loop().time() + PROBE_SECONDS
        chosen = dict(self._probes)
        if _READ in chosen and self._refused_read is not None:
            chosen[_READ] = self._refused_read
        return [(kind, *command) for kind, command in chosen.items()]

    def conclude(self, kind: str, name: str, answer: asyncio.Future[Reply]) -> None:
        """A probe was answered."""
        if answer.cancelled() or answer.exception() is not None:
            return  # the connection is gone, which is told elsewhere
        reply = answer.result()
        if is_refusal(reply):
            self._add(kind, name, reply)
            return
        if self._faults.pop(kind, None) is not None:
            self._log.info("redis takes commands again", which=kind)
        if kind == _READ:
            self._refused_read = None

    def _add(self, kind: str, name: str, refusal: Refusal) -> None:
        shown = shown_error(refusal)
        if kind not in self._faults:
            self._log.error("redis refused a command", command=name, because=shown)
        self._faults[kind] = shown
