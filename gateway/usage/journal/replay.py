"""Replay dead processes' journals into the database.

Everything here may be cut off at any point and done again: rows are stored by request id, a row that is there stays as
it is, and a journal is deleted when all of it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gateway.usage.journal.pairing import Pairing, Tail
from gateway.usage.journal.segments import Segment, claim_all, close_all, other_owners
from gateway.usage.sql.rows import Row

BATCH_ROWS = 500


class Replayed(NamedTuple):
    """One dead process's journal, for the log."""

    owner: str
    settled: int
    interrupted: int
    torn: int  # records cut off by the end of the process: expected
    damaged: int  # stretches that the disk did not give back as they were written
    set_aside: tuple[Path, ...]  # the segments with such stretches


def replay_abandoned(directory: Path, ours: str, store: Callable[[list[Row]], None]) -> Iterator[Replayed]:
    """Replay each journal that no process holds.

    Of the directory. Raises what `store` raises.
    """
    for owner in other_owners(directory, ours):
        segments = claim_all(directory, owner)
        if segments is not None:
            try:
                yield _replay(owner, segments, store)
            finally:
                close_all(segments)


def _replay(owner: str, segments: list[Segment], store: Callable[[list[Row]], None]) -> Replayed:
    pairing = Pairing()
    tails = [Tail(segment) for segment in segments]
    settled = _in_batches(_settled_rows(tails, pairing), store)
    # After the settled ones: where a request has both, the end that was recorded stands.
    unsettled = _in_batches(pairing.interrupted(), store)
    set_aside = [kept for tail in reversed(tails) if (kept := _put_away(tail)) is not None]
    return Replayed(
        owner,
        settled,
        unsettled,
        torn=sum(tail.is_torn() for tail in tails),
        damaged=sum(tail.damaged for tail in tails),
        set_aside=tuple(set_aside),
    )


def _settled_rows(tails: list[Tail], pairing: Pairing) -> Iterator[Row]:
    for tail in tails:
        for records in tail.read():
            yield from pairing.rows(records, tail.segment.number)


def _in_batches(rows: Iterable[Row], store: Callable[[list[Row]], None]) -> int:
    """Store rows in batches; return their number."""
    count = 0
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH_ROWS)):
        store(batch)
        count += len(batch)
    return count


def _put_away(tail: Tail) -> Path | None:
    """Remove segments, newest first.

    An older segment alone repeats nothing wrong, a newer one alone has ends without beginnings.
    """
    if tail.damaged:
        return tail.segment.set_aside()
    tail.segment.delete()
    return None
