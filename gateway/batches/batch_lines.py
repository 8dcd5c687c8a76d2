"""Lines of a batch's input, each one request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.dialects.openai import RequestBody
from gateway.dialects.openai.choosing import fold
from gateway.dialects.openai.locating import member_value
from gateway.errors import ClientFault, InvalidBatch

_PREFIX = "/v1"
_MEMBERS = ("custom_id", "method", "url", "body")
_FOLDED = {fold(name): name for name in _MEMBERS}
# What a file's lines may be for: the surface's own POST paths.
OPERATIONS = {_PREFIX + each.path: each for each in openai.OPERATIONS if each.family == "core"}


class Line(NamedTuple):
    """A line as it was read.

    `start`, `end`: the place of its request's body in `raw`.
    """

    number: int
    raw: bytes
    url: str
    body: RequestBody
    start: int
    end: int

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.url]

    def with_body(self, body: bytes) -> bytes:
        """The line, and its end, with another body."""
        return b"".join((self.raw[: self.start], body, self.raw[self.end :], b"\n"))


class LineCutter:
    """Cut a file, piece by piece, into numbered lines.

    `most`: the longest line in bytes; none longer is ever held. Blank lines may stand at the end alone.
    """

    def __init__(self, most: int) -> None:
        self.number = 0
        self._most = most
        self._pieces: list[bytes] = []  # of the line that has not ended
        self._size = 0
        self._blank = 0  # the first blank line since the last that was none

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Raise InvalidBatch for a line that is blank or too long."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            yield from self._line()
        if rest:
            self._add(rest)

    def end(self) -> Iterator[tuple[int, bytes]]:
        yield from self._line()

    @property
    def held_bytes(self) -> int:
        return self._size

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._most:
            raise at_line(self.number + 1, f"it is longer than {self._most:,} bytes")
        self._pieces.append(piece)

    def _line(self) -> Iterator[tuple[int, bytes]]:
        line = b"".join(self._pieces).strip(b" \t\r")
        self._pieces, self._size = [], 0
        self.number += 1
        if not line:
            self._blank = self._blank or self.number
        elif self._blank:
            raise at_line(self._blank, "it is blank")
        else:
            yield self.number, line


def read_line(number: int, raw: bytes, refused: tuple[str, ...]) -> Line:
    """Read one line. Raises InvalidBatch.

    `refused`: the fields of `routing.refuse_fields`.
    """
    try:
        whole = openai.read_body(raw)
        fields = whole.fields
        openai.allowed_fields(refused).examine({name: None for name in fields if name not in _MEMBERS})
    except ClientFault as fault:
        raise at_line(number, fault.message) from None
    _require_members(number, fields)
    start, end = member_value(raw, "body")
    body = RequestBody(raw[start:end], fields["body"])
    try:
        body.mentions = openai.allowed_fields(refused).examine(body.fields)
    except ClientFault as fault:
        raise at_line(number, fault.message) from None
    return Line(number, raw, fields["url"], body, start, end)


def _require_members(number: int, fields: dict[str, Any]) -> None:
    for name in fields:
        meant = _FOLDED.get(fold(name))
        if meant is not None and name != meant:
            raise at_line(number, f"`{openai.printable(name)}` is spelled in another case than `{meant}`")
    if not isinstance(fields.get("custom_id"), str):
        raise at_line(number, "it needs a `custom_id`, which is a text")
    if fields.get("method") != "POST":
        raise at_line(number, "its `method` must be POST")
    url = fields.get("url")
    if not isinstance(url, str) or url not in OPERATIONS:
        raise at_line(number, f"its `url` must be one of {', '.join(OPERATIONS)}")
    if not isinstance(fields.get("body"), dict):
        raise at_line(number, "it needs a `body`, which is an object")


def at_line(number: int, why: str) -> InvalidBatch:
    """Return the error that names a line."""
    return InvalidBatch(f"Line {number} of the batch's file: {why.rstrip('.')}.")
