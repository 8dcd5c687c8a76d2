"""Store ids longer than their column: cut, hashed, and whole beside.

In a table beside it.

So no two become one, an index can hold them, and reports give them back as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from gateway.usage.sql.rows import ID_CHARACTERS, KIND_COLUMNS, Row

_COLUMNS = frozenset(("user_id", "organisation_id", "key_id", "model", "endpoint_id", "counted_on"))
SUMS_ID_CHARACTERS = 125  # five of them are one key, of at most 2,704 bytes on PostgreSQL
_LENGTHS = (SUMS_ID_CHARACTERS, 255, ID_CHARACTERS)  # 255: of tables that earlier versions made
_HASH_CHARACTERS = 64
_MARK = "…"


def shortened(form: str, most: int) -> str:
    """The form as a column of so many characters has it."""
    if len(form) <= most:
        return form
    return form[: most - _HASH_CHARACTERS - 1] + _MARK + _hash(form)


def forms_in_columns(forms: Iterable[str]) -> tuple[str, ...]:
    """Return every text that a stored form may have.

    Whichever columns it went into.
    """
    return tuple(sorted({text for form in forms for text in (form, *(shortened(form, most) for most in _LENGTHS))}))


def fitted(row: Row, lengths: Mapping[str, int], long_ids: dict[str, str]) -> Row:
    """Fit the row to its columns.

    What is longer goes into `long_ids`, by its hash. Its keys in the sums stay as they are: these are fitted to columns
    of their own.
    """
    values = list(row.kind.columns)
    for place, column in enumerate(KIND_COLUMNS):
        value = values[place]
        if column in _COLUMNS and value is not None and len(value) > lengths.get(column, len(value)):
            long_ids[_hash(value)] = value
            values[place] = shortened(value, lengths[column])
    columns = tuple(values)
    return row if columns == row.kind.columns else row._replace(kind=replace(row.kind, columns=columns))


def in_sums(form: str, long_ids: dict[str, str]) -> str:
    """Fit a row's id to a key of the sums.

    What is longer goes into `long_ids`, unless it was too long for the row already.
    """
    if len(form) <= SUMS_ID_CHARACTERS:
        return form
    hashed = hash_in(form)
    if hashed is None:
        hashed = _hash(form)
        long_ids[hashed] = form
    return form[: SUMS_ID_CHARACTERS - _HASH_CHARACTERS - 1] + _MARK + hashed


def hash_in(value: Any) -> str | None:
    """Of a shortened id; None for anything else."""
    if isinstance(value, str) and len(value) > _HASH_CHARACTERS and value[-_HASH_CHARACTERS - 1] == _MARK:
        return value[-_HASH_CHARACTERS:]
    return None


def _hash(form: str) -> str:
    return sha256(form.encode("utf-8", "surrogatepass")).hexdigest()
