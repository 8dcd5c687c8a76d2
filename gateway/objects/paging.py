"""Pages of a list, from slices of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.objects.backend import Backend
from gateway.objects.record import Listing, ObjectRecord

if TYPE_CHECKING:
    from gateway.objects.index import Filter, Order

_MOST_AT_ONCE = 200


async def page(
    backend: Backend,
    owner: str,
    kind: str,
    *,
    limit: int,
    order: Order,
    after: str | None,
    before: str | None,
    where: Filter | None,
) -> Listing:
    """Return a page as `ObjectIndex.listed` describes it."""
    descending = order == "desc"
    if before is None or after is not None:
        if before is not None and await backend.slice(owner, kind, before, descending=descending, count=1) is None:
            return Listing()
        found = await _collected(backend, owner, kind, after, before, descending, limit + 1, where)
        return Listing(tuple(found[:limit]), len(found) > limit)
    # What comes right before: the list walked the other way from there, and turned round.
    found = await _collected(backend, owner, kind, before, None, not descending, limit + 1, where)
    return Listing(tuple(reversed(found[:limit])), len(found) > limit)


async def _collected(
    backend: Backend,
    owner: str,
    kind: str,
    start: str | None,
    stop: str | None,
    descending: bool,
    most: int,
    where: Filter | None,
) -> list[ObjectRecord]:
    found: list[ObjectRecord] = []
    count = _MOST_AT_ONCE if where is not None else min(most, _MOST_AT_ONCE)
    while True:
        part = await backend.slice(owner, kind, start, descending=descending, count=count)
        for record in part.records if part is not None else ():
            if record.id == stop:
                return found
            if where is None or where(record):
                found.append(record)
                if len(found) == most:
                    return found
        if part is None or part.last is None:
            return found
        start = part.last
