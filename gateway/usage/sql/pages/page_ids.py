"""Which row a page begins behind, and what comes later.

`row_pages.row_id` writes the row's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from sqlalchemy import ColumnElement, and_, false, or_

from gateway.usage.reports import Groups


class Key(NamedTuple):
    """What rows are ordered by."""

    column: ColumnElement[Any]
    falls: bool
    value: Any  # of the row that the page begins behind; None: it begins with the first


def behind(keys: Iterable[Key]) -> ColumnElement[bool]:
    """What comes later in the order."""
    found: ColumnElement[bool] = false()
    for key in reversed(list(keys)):
        further = key.column < key.value if key.falls else key.column > key.value
        found = or_(further, and_(key.column == key.value, found))
    return found


def readings(after: str, groups: Groups) -> Iterator[tuple[str | None, ...]]:
    """Yield what a row's id can mean.

    Texts in the order of `PLACES`; the id has the first group, an endpoint's model, the second group unless it is None.
    """
    for texts in _texts(after, has_model="endpoint" in groups, has_second=len(groups) > 1):
        if texts[0] == "null":
            yield (None, *texts[1:])
        yield texts


def _texts(after: str, *, has_model: bool, has_second: bool) -> list[tuple[str | None, ...]]:
    if not has_model:
        pair = [unquote(part) for part in after.split(",")]
        return ([(pair[0], pair[1])] if len(pair) == 2 else []) + [(after, None)] if has_second else [(after,)]
    of, model, second = ([unquote(part) for part in after.split(",")] + [None] * 3)[:3]
    if model is None or after.count(",") > 1 + has_second:
        return []
    return [(of, second, model)] if has_second else [(of, model)]


def time_of(text: str | None) -> datetime | None:
    """A day or an hour as reports have them."""
    try:
        time = datetime.fromisoformat(text or "")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
