"""Changes of the index, as the journal and the stores take them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from gateway.objects.record import ObjectRecord, Place, Unsettled
from gateway.usage.journal.lines import framed

CONTENT_SECONDS = 30 * 86_400  # that hashes of `encrypted_content` are remembered


class Put(msgspec.Struct, frozen=True, tag="put"):
    """An object was seen; unless the id is another's, it is remembered."""

    record: ObjectRecord
    at: int  # seconds since 1970


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """An owner's object was deleted."""

    id: str
    kind: str
    owner: str


class PutContent(msgspec.Struct, frozen=True, tag="content"):
    hashes: tuple[str, ...]
    place: Place
    at: int


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    work: Unsettled


Operation: TypeAlias = Put | Drop | PutContent | Begin

DECODER: msgspec.json.Decoder[Operation] = msgspec.json.Decoder(Operation)
_encode = msgspec.json.Encoder().encode


def to_line(operation: Operation) -> bytes:
    return framed(_encode(operation))
