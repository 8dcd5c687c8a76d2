"""Read ids, bodies and states out of a decoded answer."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from gateway.dialects import openai
from gateway.dialects.references import Path, Positions, Reference
from gateway.objects.record import MOST_BODY_BYTES, ObjectRecord

_ABOUT = ("purpose", "status", "name")  # what filters ask for
_MOST_ABOUT_CHARACTERS = 256
METADATA = "metadata"  # of which marks are kept, for it may be long
_MOST_METADATA = 16  # pairs, as the provider has it
KINDS_OF_WORK = ("response", "batch")
_RUNNING = ("queued", "in_progress")  # a response


def records_in(
    fields: Mapping[str, Any],
    raw: bytes | None,
    positions: Positions,
    *,
    owner: str,
    account: str,
    model: str | None,
    metadata: str | None = None,
) -> Iterator[ObjectRecord]:
    """Yield a record for each id at these positions.

    `raw`: the whole answer, which is the body of an object that is all of it; None for an event. `metadata`: the marks
    of what was asked for, where an answer does not say it.
    """
    for reference in positions.within(fields):
        around = _around(fields, reference)
        has_list = reference.kind in openai.LISTS
        yield ObjectRecord(
            id=reference.id,
            kind=reference.kind,
            owner=owner,
            account=account,
            model=model,
            created=_created(around),
            body=_body(around, raw, reference) if has_list and around else None,
            final=is_final(reference.kind, around) if around else True,
            in_lists=has_list,
            about=_about(around, openai.LISTS[reference.kind].filters, metadata) if has_list else {},
        )


def is_final(kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether an object will not change by itself any more."""
    rules = openai.LISTS.get(kind)
    if rules is None:
        return True
    return rules.unfinished is not None and fields.get("status") not in rules.unfinished


def is_unfinished(kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether a batch or a response is still being worked on."""
    rules = openai.LISTS.get(kind)
    running = _RUNNING if rules is None or rules.unfinished is None else rules.unfinished
    return fields.get("status") in running


def work_in(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return id and kind of running work in an answer or event."""
    for around in (fields, fields.get("response")):
        if isinstance(around, dict):
            made, kind = around.get("id"), around.get("object")
            if isinstance(made, str) and made and kind in KINDS_OF_WORK and is_unfinished(kind, around):
                return made, kind
    return None


def _around(fields: Mapping[str, Any], reference: Reference) -> Mapping[str, Any]:
    """Return the object whose own id this is.

    Nothing where the id is a mere mention.
    """
    return _at(fields, reference.path[:-1]) if reference.path[-1] == "id" else {}


def _at(fields: Any, path: Path) -> Any:
    for step in path:
        fields = fields[step]
    return fields


def _body(around: Mapping[str, Any], raw: bytes | None, reference: Reference) -> bytes | None:
    if raw is None:  # what an event has of an object is not all of it
        return None
    body = raw if len(reference.path) == 1 else orjson.dumps(around)
    return body if len(body) <= MOST_BODY_BYTES else b""


def _created(around: Mapping[str, Any]) -> int:
    created = around.get("created_at", around.get("created"))
    return int(created) if isinstance(created, int | float) and not isinstance(created, bool) else 0


def marks_of(metadata: Any) -> str | None:
    """Mark each pair of metadata; None where it is none."""
    if not isinstance(metadata, dict):
        return None
    return " ".join([mark_of(key, value) for key, value in islice(metadata.items(), _MOST_METADATA)])


def mark_of(key: str, value: Any) -> str:
    pair = orjson.dumps([key, value])
    return hashlib.blake2b(pair, digest_size=8).hexdigest()


def _about(around: Mapping[str, Any], filters: Container[str], metadata: str | None) -> dict[str, str]:
    found = ((name, around.get(name)) for name in _ABOUT)
    about = {name: value[:_MOST_ABOUT_CHARACTERS] for name, value in found if isinstance(value, str)}
    if METADATA in filters and (marks := marks_of(around.get(METADATA)) or metadata):
        about[METADATA] = marks
    return about
