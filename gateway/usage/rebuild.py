"""Rebuild the sums from the rows while gateways serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gateway.errors import QueryFailed
from gateway.types import Secret

if TYPE_CHECKING:
    from gateway.usage.sql.rows_store import Store

_TRIES = 20  # of a piece, while a gateway holds the lock or the database is away
_BETWEEN_TRIES_SECONDS = 0.25

T = TypeVar("T")


class Progress(NamedTuple):
    done: int
    rows: int  # in all; there may be more by the end


def rebuild(url: Secret) -> Iterator[Progress]:
    """Rebuild the sums a few days at a time.

    Whoever stops leaves right totals; a gateway goes on to add them up.

    Raises QueryFailed, with what is wrong in words, and LedgerUnusable.
    """
    from gateway.usage.sql.rows_store import Store  # a quarter of a second that the other commands need not wait

    with closing(Store(url)) as store:
        _try(store, store.prepare)
        rows = _try(store, store.count)
        done, from_ms = 0, 0
        yield Progress(done, rows)
        while True:
            undone = _try(store, lambda from_ms=from_ms: store.undo_some(from_ms))  # type: ignore[misc]
            while added := _try(store, store.add_some):
                done += added
                yield Progress(min(done, rows), rows)
            if undone.until_ms is None:
                break
            from_ms = undone.until_ms
        while not _try(store, store.is_summed):  # a gateway was faster, and is not done
            _try(store, store.add_some)
        now_ms = round(time.time() * 1000)
        while due := _try(store, lambda: store.due_blocks(now_ms)):
            _try(store, lambda due=due: store.make_blocks(due))  # type: ignore[misc]
        yield Progress(rows, rows)


def _try(store: Store, work: Callable[[], T]) -> T:
    tries = 0
    while True:
        tries += 1
        try:
            return work()
        except Exception as error:  # whatever a driver raises
            if tries == _TRIES or not _is_passing(error):
                raise QueryFailed(store.describe(error)) from None
        time.sleep(_BETWEEN_TRIES_SECONDS)


def _is_passing(error: Exception) -> bool:
    """Whether to try again: a held lock, a server that starts."""
    return type(error).__name__ in ("OperationalError", "DatabaseAway", "TimeoutError")
