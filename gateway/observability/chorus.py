"""One line where every worker of a gateway would say the same."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

LISTENING = "listening"
# Said by the first of them; what each has in flight is its own matter.
SAME = frozenset(
    (
        "configuration reloaded",
        "configuration not reloaded: the file has problems",
        "the limit of open files leaves room for fewer connections",
        "draining",
    )
)
STOPPED = "stopped"  # the supervisor's word: it ends last

ROUND_SECONDS = 60.0  # who says it later says something new
_TRIES = 10
_PAUSE_SECONDS = 0.001

# What was said, since when, by which processes.
_Said = dict[str, tuple[float, list[int]]]


class Chorus:
    """A step of structlog's. Drop what another worker has said already.

    That all of them listen is one line of the last of them, with the process ids of all. What one says again is a new
    line. Where the workers cannot agree in time, each speaks for itself.
    """

    def __init__(self) -> None:
        self.workers = 1  # set before they are forked
        self._supervisor = os.getpid()
        self._said = _shared_file()

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        words = event["event"]
        if self.workers == 1 or not isinstance(words, str):
            return event
        if words == STOPPED and os.getpid() != self._supervisor:
            raise structlog.DropEvent
        if words == LISTENING:
            return self._once_all_listen(event)
        if words in SAME and not event.get("in_flight") and self._was_said(event):
            raise structlog.DropEvent
        return event

    def _once_all_listen(self, event: EventDict) -> EventDict:
        with self._agreed() as said:
            if said is None:
                return event
            _, speakers = said.get(LISTENING, (0.0, []))
            speakers = [pid for pid in speakers if _lives(pid)] + [os.getpid()]
            said[LISTENING] = (time.time(), speakers)
        if len(speakers) < self.workers:
            raise structlog.DropEvent
        return {**event, "workers": speakers}

    def _was_said(self, event: EventDict) -> bool:
        """Whether another worker has said so in this round."""
        now, own = time.time(), os.getpid()
        try:
            words = orjson.dumps(event, default=str).decode()
        except TypeError:  # a file's name that is not UTF-8: a line too many is better than an error for a line
            return False
        with self._agreed() as said:
            if said is None:
                return False
            for old in [each for each, (since, _) in said.items() if each != LISTENING and now - since > ROUND_SECONDS]:
                del said[old]
            since, speakers = said.get(words, (now, []))
            is_news = not speakers or own in speakers
            said[words] = (now, [own]) if is_news else (since, [*speakers, own])
        return not is_news

    @contextmanager
    def _agreed(self) -> Iterator[_Said | None]:
        """Lock what was said; None where that cannot be had."""
        if not self._locked():
            yield None
            return
        try:
            said = self._read()
            yield said
            self._write(said)
        finally:
            fcntl.lockf(self._said, fcntl.LOCK_UN)

    def _locked(self) -> bool:
        for _ in range(_TRIES):
            try:
                fcntl.lockf(self._said, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_PAUSE_SECONDS)
            else:
                return True
        return False

    def _read(self) -> _Said:
        try:
            found: Any = orjson.loads(os.pread(self._said, 1 << 24, 0))
        except ValueError:  # nothing yet, or half of what a worker wrote that was killed
            return {}
        return {words: (since, speakers) for words, (since, speakers) in found.items()}

    def _write(self, said: _Said) -> None:
        text = orjson.dumps(said)
        try:
            os.ftruncate(self._said, 0)
            os.pwrite(self._said, text, 0)
        except OSError:
            return  # the disk is full: the next one says it again


def _shared_file() -> int:
    """Open a file without a name, for this process and its forks."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gateway-chorus")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
