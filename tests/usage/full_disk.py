"""A program for the tests: a journal whose files may not grow beyond 110 bytes, and then may again."""

from __future__ import annotations

import resource
import signal
import sys
import tempfile
from pathlib import Path

from gateway.errors import JournalUnavailable
from gateway.usage.journal.journal import Journal, to_line
from gateway.usage.journal.records import Settlement

LIMIT_BYTES = 110
END = Settlement("one", "gpt-4o", "openai-a", 200, "ok")

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

with tempfile.TemporaryDirectory() as directory:
    journal = Journal(Path(directory), max_bytes=10_000)
    (segment,) = journal.segments.all()
    journal.append(b"a" * 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        journal.append(b"b" * 100)
    except JournalUnavailable as fault:
        say(f"refused: {fault}")
    journal.settle(END)
    size = segment.path.stat().st_size
    say(f"size {size}, retained {journal.retained()}, error {journal.error is not None}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    taken = journal.retry_retained()
    size = segment.path.stat().st_size - len(to_line(END))
    say(f"retried {taken}, size {size} and its line, retained {journal.retained()}, error {journal.error is not None}")
    journal.segments.close(keep=False)
