"""Parse multipart/form-data from pieces of any size.

Bytes in, facts out: `feed` gives heads (`Part`) and pieces of the last head's content, in order. Every split of the
bytes gives the same. Only a part's head, or what may yet become a delimiter, is ever held.
"""

from __future__ import annotations

import re

from gateway.errors import InvalidMultipart
from gateway.http.multipart.part import Part, read_head

MAX_HEAD_BYTES = 8 * 1024
MAX_PARTS = 1_000
MAX_HEADS_BYTES = 256 * 1024  # of all parts together
_MAX_PADDING = 256  # blanks behind a boundary
_MEDIA_TYPE = re.compile(r"multipart/form-data[ \t]*+((?:;[^;]*+)*+)", re.IGNORECASE)
_BOUNDARY = re.compile(r"""boundary=(?:"([^"\\]++)"|([^\s";]++))""", re.IGNORECASE)
_ALLOWED = re.compile(r"[0-9A-Za-z'()+_,./:=? #$&*!%@~^|`{}\[\]<>-]{0,199}[0-9A-Za-z'()+_,./:=?#$&*!%@~^|`{}\[\]<>-]")


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `content-type` declares. Raises InvalidMultipart.

    More characters than RFC 2046 allows are taken, as clients use them; never more than 200.
    """
    declared = _MEDIA_TYPE.fullmatch(content_type.strip())
    if declared is None:
        raise InvalidMultipart("This route takes a form: `content-type: multipart/form-data; boundary=…`.")
    found = [each for piece in declared[1].split(";") if (each := _BOUNDARY.fullmatch(piece.strip()))]
    if len(found) != 1 or not _ALLOWED.fullmatch(text := found[0][1] or found[0][2]):
        raise InvalidMultipart("The `content-type` of the form has no boundary, or a strange one.")
    return text.encode("ascii")


class FormParser:
    """Parse one form.

    After the closing delimiter it `is_complete`; what follows is passed over.
    """

    __slots__ = ("_delimiter", "_heads_bytes", "_held", "_in_head", "_parts", "is_complete")

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # a form may begin with its boundary, whose line end is then no byte of it
        self._in_head = False
        self._parts = 0  # whose heads have come
        self._heads_bytes = 0
        self.is_complete = False

    def feed(self, data: bytes) -> list[Part | bytes]:
        """Take bytes; return the heads and contents in them. Raises InvalidMultipart."""
        found: list[Part | bytes] = []
        data, at = self._held + data if self._held else data, 0
        while not self.is_complete:
            ended = self._read_head(data, at, found) if self._in_head else self._read_content(data, at, found)
            if ended is None:
                break
            at = ended
        return found

    def end(self) -> None:
        """The body is over. Raises InvalidMultipart where the form is not."""
        if not self.is_complete:
            raise InvalidMultipart("The form ends before its closing boundary.")

    def _read_content(self, data: bytes, at: int, found: list[Part | bytes]) -> int | None:
        """Read up to the next delimiter; None where more is needed."""
        place = data.find(self._delimiter, at)
        if place < 0:
            kept = self._beginning_of_delimiter(data, at)
            self._give(data[at:kept], found)
            self._held = data[kept:]
            return None
        self._give(data[at:place], found)
        return self._read_delimiter(data, place)

    def _beginning_of_delimiter(self, data: bytes, at: int) -> int:
        """Return where bytes begin that may become a delimiter."""
        place = data.find(b"\r", max(at, len(data) - len(self._delimiter) + 1))
        while place >= 0 and not self._delimiter.startswith(data[place:]):
            place = data.find(b"\r", place + 1)
        return len(data) if place < 0 else place

    def _read_delimiter(self, data: bytes, place: int) -> int | None:
        """Read the line of a delimiter; None where more is needed."""
        after = place + len(self._delimiter)
        rest = data[after : after + _MAX_PADDING + 4]
        self._held = b""
        if rest.startswith(b"--"):
            self.is_complete = True
            return after
        line_end = rest.find(b"\r\n")
        if line_end < 0 and len(rest) < _MAX_PADDING + 4 and not rest.lstrip(b" \t").strip(b"\r-"):
            self._held = data[place:]
            return None
        if line_end < 0 or rest[:line_end].strip(b" \t"):
            raise InvalidMultipart("The form has a line that begins with its boundary and is none.")
        self._in_head = True
        return after + line_end + 2

    def _give(self, content: bytes, found: list[Part | bytes]) -> None:
        if content and self._parts:  # what stands before the first boundary is no part's
            found.append(content)

    def _read_head(self, data: bytes, at: int, found: list[Part | bytes]) -> int | None:
        """Read a part's head; None where more is needed."""
        end = data.find(b"\r\n\r\n", at)
        if (len(data) if end < 0 else end) - at > MAX_HEAD_BYTES:
            raise InvalidMultipart(f"A part of the form has a head of more than {MAX_HEAD_BYTES} bytes.")
        if end < 0:
            self._held = data[at:]
            return None
        self._held = b""
        self._in_head = False
        self._parts += 1
        self._heads_bytes += end - at
        if self._parts > MAX_PARTS or self._heads_bytes > MAX_HEADS_BYTES:
            raise InvalidMultipart(f"The form has too many parts (more than {MAX_PARTS:,}), or too long heads.")
        found.append(read_head(data[at:end].split(b"\r\n")))
        return end + 4
