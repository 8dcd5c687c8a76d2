"""A store as JSON lines, format 1, which is stable.

A line each, in any order but for the first and the last.

    {"format":"ecli-gateway-store","version":1,"made":"2027-01-31T12:00:00Z","from":"…"}
    {"kind":"key","id":"SHA256HEX","value":{…}}          records: the document as it was written
    {"kind":"object","id":"file-1","value":{…},"expires":"2028-03-01T00:00:00Z"}
    {"kind":"audit","id":"","value":{…}}                  newest first
    {"end":true,"lines":3}                                else the file was cut off

`base64` stands in place of `value` for a document that is not JSON. `expires`: when the store forgets it by itself.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple, cast

import msgspec
import orjson

from gateway.config.documents import LONGEST_DOCUMENT_BYTES, InvalidDocument, RecordKind, parse_document, parse_feature
from gateway.config.yaml import scalars
from gateway.objects.record import ObjectRecord, Place, Unsettled
from gateway.transfer.entries import KINDS, Depot, Entry, Progress, on_one_line
from gateway.transfer.staging import Staging
from gateway.types import utc_text

FORMAT, VERSION = "ecli-gateway-store", 1
LONGEST_LINE_BYTES = 2 * LONGEST_DOCUMENT_BYTES
_HASH = re.compile(r"[0-9a-f]{64}")
_NEED_AN_END = frozenset(("object", "content", "alert"))
_TYPES: dict[str, type] = {
    "object": ObjectRecord,
    "content": Place,
    "home": str,
    "work": Unsettled,
    "alert": tuple[str, str, float],
    "delivery": tuple[float, int],
    "episode": tuple[float, float, str],
    "receiver": str,
    "audit": dict,
}
_DECODERS: dict[str, msgspec.json.Decoder[object]] = {kind: msgspec.json.Decoder(of) for kind, of in _TYPES.items()}


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    kind: str
    id: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: str | msgspec.UnsetType = msgspec.UNSET
    expires: str | None = None


class _Head(msgspec.Struct):
    format: str
    version: int
    made: str = ""
    source: str = msgspec.field(name="from", default="")


class _End(msgspec.Struct):
    end: bool
    lines: int


_encode = msgspec.json.Encoder().encode
_line = msgspec.json.Decoder(_Line)
_head = msgspec.json.Decoder(_Head)
_end = msgspec.json.Decoder(_End)


class BadFile(Exception):
    """The file is no export, or of an unknown version."""


class BadLine(ValueError):
    """A line that cannot be used: in words, without its values."""


# -- out


class Exported(NamedTuple):
    """What was written, by kind. `with_credentials`: models that bear those of upstreams."""

    written: Counter[str]
    with_credentials: int


async def export(source: Depot, file: BinaryIO, progress: Progress, of: int | None) -> Exported:
    """Write everything, a few entries at a time."""
    written, with_credentials = Counter[str](), 0
    made = utc_text(datetime.now(UTC).replace(microsecond=0))
    file.write(_encode(_Head(FORMAT, VERSION, made, source.name)) + b"\n")
    async for batch in source.batches():
        file.writelines(_line_of(entry) for entry in batch)
        written.update(entry.kind for entry in batch)
        with_credentials += sum(map(_has_credentials, batch))
        progress("exported", written.total(), of)
    for entry in await source.audit():
        file.write(_written("audit", "", entry, None))
        written["audit"] += 1
    file.write(_encode(_End(True, written.total())) + b"\n")
    return Exported(written, with_credentials)


def _line_of(entry: Entry) -> bytes:
    return _written(entry.kind, entry.id, entry.value, entry.expires)


def _written(kind: str, entry_id: str, value: bytes, expires: float | None) -> bytes:
    end = None if expires is None else utc_text(datetime.fromtimestamp(expires, UTC))
    try:
        orjson.loads(value)
        shown = _Line(kind, entry_id, value=msgspec.Raw(on_one_line(value)), expires=end)
    except orjson.JSONDecodeError:
        shown = _Line(kind, entry_id, base64=base64.b64encode(value).decode(), expires=end)
    return _encode(shown) + b"\n"


def _has_credentials(entry: Entry) -> bool:
    return entry.kind == "model" and any(word in entry.value for word in (b'"api_key"', b'"headers"', b'"query"'))


# -- in


class Problem(NamedTuple):
    line: int
    reason: str


def staged(file: BinaryIO, name: str, report: Callable[[Problem], None]) -> Staging:
    """Read a file; report unusable lines. Raises BadFile.

    A line is taken as a whole, or not at all.
    """
    staging, number, is_whole = Staging(name), 1, False
    _check_head(file.readline(LONGEST_LINE_BYTES))
    for number, line in _lines(file):
        if is_whole:
            report(Problem(number, "stands behind the last line of the file"))
            continue
        if line.startswith(b'{"end"'):
            is_whole = _is_end(line, number - 2, lambda reason, at=number: report(Problem(at, reason)))  # type: ignore[misc]
            continue
        try:
            _take(line, number, staging)
        except BadLine as bad:
            report(Problem(number, str(bad)))
    if not is_whole:
        report(Problem(number, "the file was cut off: its last line, which counts the others, is missing"))
    return staging


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield lines from the second on; too long ones cut."""
    number = 1
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(LONGEST_LINE_BYTES)):
            line = line[: LONGEST_LINE_BYTES + 1]
        yield number, line


def _check_head(line: bytes) -> None:
    try:
        head = _head.decode(line)
    except msgspec.MsgspecError:
        raise BadFile(f'line 1: this is no export of a store: it begins with {{"format":"{FORMAT}",…}}') from None
    if head.format != FORMAT:
        raise BadFile(f"line 1: the format is not {FORMAT}")
    if head.version != VERSION:
        raise BadFile(f"line 1: version {head.version} of the format; this gateway reads version {VERSION}")


def _is_end(line: bytes, before: int, report: Callable[[str], None]) -> bool:
    try:
        told = _end.decode(line).lines
    except msgspec.MsgspecError:
        report("not a line of the format")
        return False
    if told != before:
        report(f"{told:,} lines are said to stand before this one; there are {before:,}")
    return True


def _take(line: bytes, number: int, staging: Staging) -> None:
    """Add a line's entry. Raises BadLine."""
    if len(line) > LONGEST_LINE_BYTES:
        raise BadLine(f"longer than {LONGEST_LINE_BYTES:,} bytes")
    try:
        read = _line.decode(line)
    except msgspec.MsgspecError as error:
        raise BadLine(f"not a line of the format: {error}") from None
    value = _value_of(read)
    if read.kind == "audit":
        _decoded("audit", value)
        staging.add_audit(value)
        return
    if read.kind not in KINDS:
        raise BadLine(f"kind: {read.kind[:40]!r} is not known")
    entry = Entry(read.kind, read.id, value, _end_of(read))
    _check(entry)
    before = staging.add(entry, number)
    if before is not None:
        raise BadLine(f"the same {entry.kind} stands on line {before}")


def _value_of(line: _Line) -> bytes:
    if (line.value is msgspec.UNSET) == (line.base64 is msgspec.UNSET):
        raise BadLine("has to have either value or base64")
    if isinstance(line.value, msgspec.Raw):
        return bytes(line.value)
    try:
        return base64.b64decode(str(line.base64), validate=True)
    except (binascii.Error, ValueError):
        raise BadLine("base64: not valid") from None


def _end_of(line: _Line) -> float | None:
    if line.expires is None:
        return None
    found = scalars.moment(line.expires)
    if found is None:
        raise BadLine("expires: no ISO time, as 2027-01-31T12:00:00Z")
    return found.timestamp()


def _check(entry: Entry) -> None:
    """Raise BadLine for what a gateway could not use."""
    if not entry.id:
        raise BadLine("id: is empty")
    if entry.kind in _NEED_AN_END and entry.expires is None:
        raise BadLine(f"expires: is missing; a {entry.kind} has an end")
    if entry.kind in _DECODERS:
        decoded = _decoded(entry.kind, entry.value)
        if isinstance(decoded, ObjectRecord | Unsettled) and decoded.id != entry.id:
            raise BadLine("id: another than that in value")
        return
    if entry.kind == "feature":
        if not parse_feature(entry.value).is_understood:
            raise BadLine("value: neither 1 nor 0")
        return
    if entry.kind == "key" and not _HASH.fullmatch(entry.id):
        raise BadLine("id: a key's is its SHA-256, 64 hexadecimal digits in lower case")
    try:
        parse_document(cast(RecordKind, entry.kind), entry.id, entry.value)
    except InvalidDocument as invalid:
        raise BadLine(f"value: {'; '.join(invalid.reasons)}") from None


def _decoded(kind: str, value: bytes) -> object:
    try:
        return _DECODERS[kind].decode(value)
    except msgspec.MsgspecError as error:
        raise BadLine(f"value: {error}") from None
