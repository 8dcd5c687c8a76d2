"""Two revisions of the gateway in one run: the older checked out beside this one, and what changed beyond the noise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from bench.rows import Row, Spread

BEFORE = "gateway before"  # the name of the older revision among the targets
# Tables in which an older revision can take part: they start the gateway as they start any proxy.
PAIRED_TABLES = frozenset({"requests", "events", "latency", "tls", "streams", "bodies", "startup"})
LOWER_IS_BETTER = frozenset(
    {"cpu_us", "cpu_ms", "p50_ms", "p99_ms", "first_p50_ms", "first_p99_ms", "kb_a_stream", "seconds", "resident_mb"}
)
LEAST_ROUNDS = 3  # below it chance alone puts every round on one side too often


class Change(msgspec.Struct, frozen=True):
    """One figure of both revisions. `ratio`: this one's to the older one's, round by round."""

    table: str
    case: str
    field: str
    ratio: Spread
    verdict: Literal["better", "worse", "within the noise"]


class UnknownRevisionError(Exception):
    """Git does not know it, or cannot check it out; the text is git's."""


@contextmanager
def checked_out(revision: str, repository: Path, folder: Path) -> Iterator[Path]:
    """The revision's files in a worktree of their own, which is removed at the end. Raises UnknownRevisionError."""
    checkout = folder / "before"
    _git(repository, "worktree", "add", "--detach", str(checkout), revision)
    try:
        yield checkout
    finally:
        _git(repository, "worktree", "remove", "--force", str(checkout))


def changed_files(repository: Path) -> list[str] | None:
    """Those that differ from the commit, or that it does not have; None where git knows of no commit here."""
    command = ["git", "status", "--porcelain"]
    done = subprocess.run(command, check=False, cwd=repository, capture_output=True, text=True, timeout=60)
    return [line[3:] for line in done.stdout.splitlines()] if done.returncode == 0 else None


def changes(rows: Sequence[Row]) -> list[Change]:
    """Each figure that both revisions have: changed where every round, of at least three, lies on one side of 1."""
    return [
        Change(row.table, row.case, field, ratio, _verdict(ratio, row.rounds))
        for row in rows
        if row.target == BEFORE
        for field, ratio in row.ratios.items()
        if field in LOWER_IS_BETTER
    ]


def _verdict(ratio: Spread, rounds: int) -> Literal["better", "worse", "within the noise"]:
    if rounds >= LEAST_ROUNDS and ratio.high < 1:
        return "better"
    if rounds >= LEAST_ROUNDS and ratio.low > 1:
        return "worse"
    return "within the noise"


def _git(repository: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], check=False, cwd=repository, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise UnknownRevisionError(done.stderr.strip())
