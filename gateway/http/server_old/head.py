"""Heads of requests: read once, also where a client says the same again.

A client that keeps its connection sends the same head each time, but for the length of its body. aiohttp's parser has
judged it once; when the same bytes come again, what it said of them is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp import StreamReader
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDictProxy, MultiMapping, istr

_CONTENT_LENGTH, _EXPECT = istr("content-length"), istr("expect")  # quick to look up in aiohttp's headers
_HEAD_END = b"\r\n\r\n"
_MOST_DIGITS = 15
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE)
_MOST_IN_PIECES = 1 << 16  # so much is read without asking for a pause
_LOST = -1


class Head:
    """What stands before a request's body. `target` is as it was sent.

    One head may serve many requests of a connection: `content-length` in its `headers` is that of the first. `known` is
    for whoever serves them, to keep what follows from the head alone.
    """

    __slots__ = ("headers", "http11", "keep_alive", "known", "message", "method", "path", "target")

    def __init__(self, message: RawRequestMessage) -> None:
        self.message = message
        self.method = message.method
        self.target = target = message.path
        if not target.startswith("/"):  # absolute-form, as proxies are asked
            target = message.url.raw_path
        self.path = target.partition("?")[0]  # still percent-encoded
        self.headers: CIMultiDictProxy[str] = message.headers
        self.http11 = message.version >= (1, 1)
        # An older client, or one that has said its last, is answered until the connection's end.
        self.keep_alive = self.http11 and not message.should_close
        self.known: Any = None

    @property
    def query(self) -> MultiMapping[str]:
        return self.message.url.query

    @property
    def declared_length(self) -> int | None:
        declared = self.headers.get(_CONTENT_LENGTH)
        return None if declared is None else int(declared)

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends its body only once it is asked to."""
        return self.http11 and self.headers.get(_EXPECT, "").lower() == "100-continue"

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.target}>"


class Repetitions:
    """Knows a head again. One for each connection; it is told of all that is read there.

    Only where the parser stands between two requests: whatever it would find in the same bytes is what is found here.
    In doubt the parser reads.
    """

    __slots__ = ("_after", "_before", "_body", "_head", "_owed")

    def __init__(self) -> None:
        self._head: Head | None = None
        self._before = self._after = b""  # the head's bytes around the digits of its length
        self._owed = 0  # bytes of a body that the parser waits for; _LOST: where requests begin is not certain any more
        self._body: StreamReader | None = None  # that it waits for

    def known(self, data: bytes) -> tuple[Head, bytes, int] | None:
        """Head, body and how much of the body is still to come, where `data` is a request with the head of the last.

        None where it is not, or where more follows. A body that is still to come is to be read past the parser.
        """
        if self._head is None or self._owed or not data.startswith(self._before):
            return None
        digits_at = len(self._before)
        digits_end = data.find(b"\r", digits_at, digits_at + _MOST_DIGITS + 1)
        digits = data[digits_at:digits_end]
        if not digits.isdigit() or not data.startswith(self._after, digits_end):
            return None
        body = data[digits_end + len(self._after) :]
        length = int(digits)
        owed = length - len(body)
        return (self._head, body, owed) if owed == 0 or 0 < owed <= length <= _MOST_IN_PIECES else None

    def head_of(self, message: RawRequestMessage) -> Head:
        """The head of a request that the parser has found."""
        return self._head if self._head is not None and self._head.message is message else Head(message)

    def parsed(self, data: bytes, found: Sequence[tuple[Any, StreamReader]]) -> None:
        """The parser has read `data`; `found` are the requests whose heads end in it."""
        if self._owed == _LOST:
            return
        if found:
            is_certain = self._owed == 0 and self._begins(data, *found[0])
        else:
            self._owed -= len(data)  # it belongs to the body; where none is owed, to a head that is not whole
            is_certain = self._owed >= 0
        if is_certain and self._owed > 0:
            return
        # The parser has the last word: blank lines before a request could have led the count astray.
        if not is_certain or self._owed < 0 or (self._body is not None and not self._body.is_eof()):
            self._owed, self._head = _LOST, None
        self._body = None

    def _begins(self, data: bytes, message: Any, body: StreamReader) -> bool:
        """Whether the request begins where `data` does, and is framed by a length, if by anything."""
        if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade:
            return False
        body_at = data.find(_HEAD_END) + len(_HEAD_END)
        if body_at < len(_HEAD_END):
            return False
        head = Head(message)
        self._owed = (head.declared_length or 0) - (len(data) - body_at)
        self._body = body
        length = _LENGTH.search(data, 0, body_at)
        if length is None or head.awaits_continue:
            self._head = None
        else:
            self._head, self._before, self._after = head, data[: length.start(1)], data[length.end(1) : body_at]
        return True

    def __repr__(self) -> str:
        return f"<Repetitions of {self._head!r}>"
