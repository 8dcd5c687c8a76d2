"""Parse request heads by llhttp, within stricter bounds.

A client that keeps its connection sends the same head each time, but for the length of its body, and perhaps the values
of some fields (a request's id, a trace, each client's key where a proxy shares connections). llhttp has judged it once;
when the same bytes come again, what it said of them is known.
"""

from __future__ import annotations

import re
from itertools import compress, count
from operator import ne
from typing import NamedTuple

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import GatewayError, HeadTooLarge, InvalidHttp
from gateway.http.fast_lane.incoming_body import ChunkedBody
from gateway.http.message import Head

# As aiohttp's server has them, which reads what this lane does not.
MAX_LINE_BYTES = 8190
MAX_FIELDS = 128
# More than any client needs. A head that is not whole costs about twice its bytes, and nobody knows whose it is.
MAX_HEAD_BYTES = 128 * 1024

_HEAD_END = b"\r\n\r\n"
_ODD_END = re.compile(rb"\n\r?\n")  # no head ends so, but whoever sends it waits for an answer
_BLANK = b"\r\n"
_SCHEMES = ("http://", "https://")
_MOST_DIGITS = 15
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE)
# A field that every parser reads alike. Of others, and of those that frame the message, llhttp judges each value.
_PLAIN_VALUE = re.compile(rb"[!-~](?:[ -~]{0,4000}[!-~])?")
_PLAIN_FIELD = re.compile(rb"[A-Za-z0-9_-]{1,256}: ?[!-~](?:[ -~]{0,4000}[!-~])?")
_JUDGED = frozenset(
    ("host", "connection", "keep-alive", "proxy-connection", "upgrade", "expect", "te", "trailer", "transfer-encoding")
)
MOST_VARIED = 8  # fields; more are another client's head


class Framed(NamedTuple):
    """A head, where its body begins, and the body's framing."""

    head: Head
    body_at: int
    chunks: ChunkedBody | None  # None: by its declared length


def head_end(data: bytes, looked_at: int = 0) -> int:
    """Return where the body begins, 0 for an unfinished head.

    Raises HeadTooLarge.
    """
    start = max(0, looked_at - len(_HEAD_END))
    end = data.find(_HEAD_END, start)
    if end >= 0:
        end += len(_HEAD_END)
    elif odd := _ODD_END.search(data, start):
        end = odd.end()
    if end > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
        raise _too_large()
    if end < 0 and len(data) - data.rfind(b"\n") > MAX_LINE_BYTES:
        raise _too_large()
    return max(end, 0)


def asked_path(data: bytes) -> str:
    """Return the path in a head; empty where it is not whole."""
    words = data[: MAX_LINE_BYTES + 1].partition(b"\r\n")[0].split(b" ")
    return _text(words[1].partition(b"?")[0]) if len(words) > 2 else ""


def without_blank_lines(data: bytes) -> bytes:
    """Drop blank lines before a request, as RFC 9112 §2.2 asks."""
    while data.startswith(_BLANK):
        data = data[2:]
    return data


def read_head(data: bytes, body_at: int) -> Framed:
    """The head that ends at `body_at`. Raises HeadTooLarge or InvalidHttp."""
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    _feed(parser, data[:body_at])
    if not seen.complete:
        raise _invalid()
    headers = CIMultiDictProxy(CIMultiDict(seen.fields))
    method, target = parser.get_method().decode("ascii"), _text(seen.target)
    if target[0] not in "/*" and method != "CONNECT" and not target.lower().startswith(_SCHEMES):
        raise _invalid()
    try:
        head = Head.of(
            method,
            target,
            headers,
            http11=parser.get_http_version() == "1.1",
            keep_alive="connection" not in headers or not _has_close(headers),
        )
    except ValueError:  # a target in absolute form that is no URL
        raise _invalid() from None
    return Framed(head, body_at, ChunkedBody(data[:body_at]) if "transfer-encoding" in headers else None)


class Beginning:
    """Judge a head as it arrives, to refuse early.

    What is no HTTP is refused at once and not when its time is over.
    """

    __slots__ = ("_parser",)

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(_Seen())

    def feed(self, data: bytes) -> None:
        """Judge the next bytes. Raises HeadTooLarge or InvalidHttp."""
        _feed(self._parser, data)


def _feed(parser: httptools.HttpRequestParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # another protocol was asked for; the answer is in ours, as RFC 9110 §7.8 allows
    except httptools.HttpParserCallbackError as error:
        raise (error.__context__ if isinstance(error.__context__, GatewayError) else _invalid()) from None
    except httptools.HttpParserError:
        raise _invalid() from None


class _Seen:
    """What llhttp calls back with, for one head."""

    __slots__ = ("complete", "fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[str, str]] = []
        self.complete = False

    def on_url(self, target: bytes) -> None:
        self.target += target
        if len(self.target) > MAX_LINE_BYTES:
            raise _too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > MAX_LINE_BYTES or len(self.fields) >= MAX_FIELDS:
            raise _too_large()
        self.fields.append((_text(name), _text(value)))

    def on_headers_complete(self) -> None:
        self.complete = True


class Repetition:
    """Knows the last head of a connection again by its bytes.

    `head` is kept where it may be repeated; `before` and `after` are its bytes around the digits of its length.
    """

    __slots__ = ("_holes", "_last", "_length_at", "_lines", "_varying", "after", "before", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.before = self.after = b""
        self._lines: list[bytes] = []  # once one has come that differs from it
        self._length_at = 0  # the place of its line
        self._holes: list[tuple[bytes, str]] = []  # what stands before each value that varies, and whose it is
        self._last = b""  # what stands behind them
        self._varying: frozenset[str] = frozenset()

    def keep(self, data: bytes, framed: Framed) -> None:
        """Keep a head for repetition, if only its length varies."""
        length = _LENGTH.search(data, 0, framed.body_at)
        if framed.chunks is not None or length is None or framed.head.awaits_continue:
            self.head = None
            return
        self.head, self._lines, self._holes, self._varying = framed.head, [], [], frozenset()
        self.before, self.after = data[: length.start(1)], data[length.end(1) : framed.body_at]

    def varied(self, data: bytes) -> tuple[Head, int, int] | None:
        """Return head and framing of what differs in plain fields alone.

        The kept head stays; what is returned knows in which fields it may differ from that.
        """
        return self._filled(data) or (self._filled(data) if self._has_more_holes(data) else None)

    def _filled(self, data: bytes) -> tuple[Head, int, int] | None:
        """Return it where only known fields differ."""
        at = length = 0
        values: dict[str, str] = {}
        for before, name in self._holes:
            if not data.startswith(before, at):
                return None
            at += len(before)
            end = data.find(b"\r", at)
            if name:
                value = _PLAIN_VALUE.fullmatch(data, at, end)
                if value is None:
                    return None
                values[name] = value[0].decode()
            else:
                digits = data[at:end]
                if not digits.isdigit() or len(digits) > _MOST_DIGITS:
                    return None
                length = int(digits)
            at = end
        if self.head is None or not values or at > MAX_HEAD_BYTES or not data.startswith(self._last, at):
            return None
        return self.head.varied(values, self._varying), at + len(self._last), length

    def _has_more_holes(self, data: bytes) -> bool:
        """Look for more fields that vary; False if none may."""
        kept, end = self.head, data.find(_HEAD_END)
        if kept is None or not 0 < end < MAX_HEAD_BYTES:
            return False
        known, lines = self._lines or self._split(kept), data[:end].split(_BLANK)
        differing = [*compress(count(), map(ne, known, lines))] if len(lines) == len(known) else []
        places = {place for place in differing if place != self._length_at}
        if not 0 < len(places) <= MOST_VARIED:
            return False
        places |= {place for place, line in enumerate(known) if _name(line) in self._varying}
        names = [_name(known[place]) for place in places]
        if not all(_PLAIN_FIELD.fullmatch(known[place]) for place in places) or not _may_vary(names, known):
            return False
        self._make_holes(known, sorted([*places, self._length_at]), names)
        return True

    def _make_holes(self, lines: list[bytes], places: list[int], names: list[str]) -> None:
        """Cut the kept head at the values of these lines."""
        self._holes, self._varying, begun = [], frozenset(names), 0
        for place in places:
            name, _, value = lines[place].partition(b":")
            before = [*lines[begun:place], name + b":" + b" " * value.startswith(b" ")]
            is_length = place == self._length_at
            self._holes.append((_BLANK * bool(begun) + _BLANK.join(before), "" if is_length else name.decode()))
            begun = place + 1
        self._last = b"".join(_BLANK + line for line in lines[begun:]) + _HEAD_END

    def _split(self, kept: Head) -> list[bytes]:
        """Return the kept head's lines, to compare others with."""
        length = kept.headers["content-length"].encode()
        lines = (self.before + length + self.after).removesuffix(_HEAD_END).split(_BLANK)
        if any(b"\n" in line for line in lines):  # lines that end otherwise are not for comparing
            lines = [b""]
        self._lines, self._length_at = lines, self.before.count(_BLANK)
        return lines

    def known(self, data: bytes) -> tuple[Head, int, int] | None:
        """Return the kept head and body framing, if `data` repeats it."""
        if self.head is None or not data.startswith(self.before):
            return None
        digits_at = len(self.before)
        digits_end = data.find(b"\r", digits_at, digits_at + _MOST_DIGITS + 1)
        digits = data[digits_at:digits_end]
        if not digits.isdigit() or not data.startswith(self.after, digits_end):
            return None
        return self.head, digits_end + len(self.after), int(digits)


def _name(line: bytes) -> str:
    return line.partition(b":")[0].lower().decode("latin-1")


def _may_vary(names: list[str], lines: list[bytes]) -> bool:
    """Whether none of these fields needs a judge, or is there twice."""
    every = [*map(_name, lines)]
    return _JUDGED.isdisjoint(names) and all(every.count(name) == 1 for name in names)


def _has_close(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the head asks to close the connection.

    llhttp knows it no longer once a request without a body is whole.
    """
    return any("close" in map(str.strip, value.lower().split(",")) for value in headers.getall("connection"))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _invalid() -> InvalidHttp:
    return InvalidHttp("The request is not valid HTTP/1.1.")


def _too_large() -> HeadTooLarge:
    return HeadTooLarge("The request's head is larger than this gateway takes.")
