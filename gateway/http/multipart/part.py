"""A part of a form: its head, and its content's place."""

from __future__ import annotations

import re

import msgspec

from gateway.errors import InvalidMultipart

MAX_NAME_BYTES = 1024
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+(.*?)[ \t]*", re.DOTALL)
_DISPOSITION = re.compile(rb"form-data[ \t]*+(?=;|$)", re.IGNORECASE)
_PARAMETER = re.compile(
    rb";[ \t]*+([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*+=[ \t]*+"
    rb'(?:"((?:[^"\\]|\\.)*+)"|([^\s";,\\]++))[ \t]*+'
)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Contents go up as they are: an encoding within would have to be undone first (RFC 7578 §4.7 knows none any more).
_AS_IT_IS = frozenset((b"binary", b"8bit", b"7bit"))


class Part(msgspec.Struct, eq=False):
    """A part of a form.

    `shown_name` and the file's names are bytes as they stood between quotes.
    `at` and `size`: the place of its content in the form's spool.
    """

    name: str
    shown_name: bytes
    filename: bytes | None = None
    filename_coded: bytes | None = None  # `filename*`, as RFC 5987 spells one
    content_type: bytes | None = None
    at: int = 0
    size: int = 0

    @property
    def is_file(self) -> bool:
        """Whether an upstream may take it for a file.

        Some go by its type alone.
        """
        if self.filename is not None or self.filename_coded is not None:
            return True
        kind = (self.content_type or b"text/plain").partition(b";")[0].strip().lower()
        return not kind.startswith(b"text/") and b"json" not in kind

    @property
    def head(self) -> bytes:
        """The head as it goes up, with its blank line."""
        lines = [b'content-disposition: form-data; name="%b"' % self.shown_name]
        if self.filename is not None:
            lines.append(b'; filename="%b"' % self.filename)
        if self.filename_coded is not None:
            lines.append(b"; filename*=%b" % self.filename_coded)
        if self.content_type is not None:
            lines.append(b"\r\ncontent-type: %b" % self.content_type)
        return b"".join(lines) + b"\r\n\r\n"

    def __repr__(self) -> str:
        return f"<Part {self.name!r}, {self.size} bytes{', a file' if self.is_file else ''}>"


def text_part(name: str) -> Part:
    """A part of text that the gateway adds."""
    return Part(name, name.encode())


def read_head(lines: list[bytes]) -> Part:
    """Read a part's head, line by line. Raises InvalidMultipart."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None or _CONTROL.search(line):
            raise InvalidMultipart("A part of the form has a head that is none.")
        name = field[1].lower()
        if name in fields:
            raise InvalidMultipart("A part of the form has a header twice.")
        fields[name] = field[2]
    coding = fields.get(b"content-transfer-encoding")
    if coding is not None and coding.lower() not in _AS_IT_IS:
        raise InvalidMultipart("A part of the form is encoded (content-transfer-encoding), which RFC 7578 rules out.")
    given = _parameters(fields.get(b"content-disposition", b""))
    name = given.get(b"name")
    if name is None or len(name) > MAX_NAME_BYTES or b"\\" in name:
        raise InvalidMultipart("A part of the form has no name, or a strange one.")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise InvalidMultipart("The name of a part of the form is not UTF-8.") from None
    return Part(text, name, given.get(b"filename"), given.get(b"filename*"), fields.get(b"content-type"))


def _parameters(disposition: bytes) -> dict[bytes, bytes]:
    """Read `form-data; name="…"; filename="…"`. Raises InvalidMultipart."""
    begin = _DISPOSITION.match(disposition)
    if begin is None:
        raise InvalidMultipart("A part of the form has no `content-disposition: form-data`.")
    given: dict[bytes, bytes] = {}
    at = begin.end()
    while at < len(disposition):
        found = _PARAMETER.match(disposition, at)
        if found is None:
            raise InvalidMultipart("A part of the form has a `content-disposition` that cannot be read.")
        name = found[1].lower()
        if name in given or name == b"name*":
            raise InvalidMultipart("A part of the form is named twice.")
        given[name] = found[2] if found[2] is not None else found[3]
        at = found.end()
    return given
