"""Find records in lines: `RS crc32 json LF`.

Damage never hides an intact record beside it. What writes them is `journal.to_line`.

JSON has no raw control characters, so neither the RS (0x1e) that begins a record nor the LF that ends it can occur
inside: wherever bytes were lost or changed, the next RS is where a record begins.
"""

from __future__ import annotations

import re
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

import msgspec

from gateway.usage.journal.records import Record

RECORD_START = b"\x1e"
_LINE = re.compile(rb"\x1e([0-9a-f]{8})([^\x00-\x1f]*)\n")
_UNFINISHED = re.compile(rb"\x1e[^\x00-\x1f]*")

_Any = TypeVar("_Any")

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Scan(NamedTuple, Generic[_Any]):
    """The records found in some bytes, and damage.

    The intact records, how far they need not be read again, and damaged stretches.
    """

    records: list[_Any]
    consumed: int
    damaged: int


def framed(payload: bytes) -> bytes:
    """Frame JSON as a line."""
    return b"\x1e%08x%b\n" % (crc32(payload), payload)


def scan(data: bytes) -> Scan[Record]:
    """Find every intact record of the ledger."""
    return scanned(data, _decoder)


def scanned(data: bytes, decoder: msgspec.json.Decoder[_Any]) -> Scan[_Any]:
    """Find every intact record of the decoder's type.

    An unfinished one at the end is neither consumed nor counted as damage.
    """
    records: list[_Any] = []
    damaged = 0
    position = 0
    for line in _LINE.finditer(data):
        record = _record_of(line, decoder)
        damaged += (line.start() != position) + (record is None)
        position = line.end()
        if record is not None:
            records.append(record)
    consumed = _start_of_unfinished(data, position)
    return Scan(records, consumed, damaged + (consumed != position))


def _record_of(line: re.Match[bytes], decoder: msgspec.json.Decoder[_Any]) -> _Any | None:
    checksum, payload = line.groups()
    if int(checksum, 16) != crc32(payload):
        return None
    try:
        return decoder.decode(payload)
    # Whole, but not ours to understand: written by another version.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _start_of_unfinished(data: bytes, position: int) -> int:
    """Return where an unfinished last line begins.

    One that may still be completed; the end of the data where there is none.
    """
    start = data.rfind(RECORD_START, position)
    if start >= 0 and _UNFINISHED.fullmatch(data, start):
        return start
    return len(data)


def without_surrogates(record: Record) -> Record:
    """Return a record that JSON can encode."""
    texts = {name: value for name, value in msgspec.structs.asdict(record).items() if isinstance(value, str)}
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(record, **clean)
