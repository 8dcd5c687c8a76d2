"""Heads that are known again, against the parser that reads everything: both must find the same requests."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http.server_old.head import Head, Repetitions

KEY = b"authorization: Bearer sk-one\r\n"
OTHER_KEY = b"authorization: Bearer sk-two\r\n"
BODIES = [b"", b"{}", b'{"model":"m"}', b"x" * 100, b"\r\n", b"GET / HTTP/1.1\r\n\r\n"]


def request(body: bytes, *, fields: bytes = KEY, length: bytes | None = None, line: bytes = b"POST /v1") -> bytes:
    """A request; with `length` it says another one than its body has."""
    digits = b"%d" % len(body) if length is None else length
    return b"%b HTTP/1.1\r\nhost: a\r\n%bContent-Length: %b\r\naccept: */*\r\n\r\n%b" % (line, fields, digits, body)


CHUNKED = b"POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
UPGRADE = b"GET /v1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
EXPECTING = request(b"{}", fields=KEY + b"expect: 100-continue\r\n")
TRICKS = [
    *(b"\r\n", b"\r\n\r\n", b"\n", b"G", b"POST /v1 HTTP/1.1\r\nx: ", CHUNKED, UPGRADE, EXPECTING),
    *(request(b"{}", length=length) for length in (b"02", b"+2", b"2 ", b" 2", b"1", b"3", b"", b"9" * 30)),
    request(b"{}", fields=KEY + b"content-length: 2\r\n"),
    request(b"{}", fields=KEY + b"transfer-encoding: chunked\r\n"),
    request(b"{}", fields=b"x: content-length: 2\r\n"),
    request(b"{}", fields=b"x: y\r\n content-length: 2\r\n"),
    request(b"{}").replace(b"\r\n", b"\n"),
    b"\r\n\r\n" + request(b"{}", length=b"90"),
    b"GET /v1 HTTP/1.1\r\nhost: a\r\n\r\n",
]
whole = st.builds(
    request,
    st.sampled_from(BODIES),
    fields=st.sampled_from([KEY, KEY, KEY, OTHER_KEY]),
    line=st.sampled_from([b"POST /v1", b"POST /v1", b"PUT /v1?a=b"]),
)
pieces = st.one_of(whole, whole, whole, st.sampled_from(TRICKS), st.binary(max_size=4))


def cut(data: bytes, at: int) -> list[bytes]:
    return [part for part in (data[:at], data[at:]) if part]


# What each read of the connection brings: a request, a part of one, several, or a trick.
reads = st.one_of(
    st.lists(pieces, max_size=12),
    st.builds(
        lambda sent, at: [part for data in sent for part in cut(data, at)],
        st.lists(pieces, max_size=6),
        st.integers(0, 200),
    ),
    st.lists(st.lists(pieces, min_size=1, max_size=3).map(b"".join), max_size=6),
)


class Parser:
    """aiohttp's, on a connection of its own. A request is taken down once its body is whole."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        self.broken = False

    def feed(self, data: bytes) -> list[tuple[Any, StreamReader]]:
        if self.broken:
            return []
        try:
            found, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self.broken = True
            return [(error, StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16))]
        self.broken = upgraded  # aiohttp's connection reads no requests from then on
        for _ in found:
            self._parser.message_consumed()
        return list(found)


def told(head: Head, body: bytes) -> tuple[object, ...]:
    fields = [(name.lower(), text) for name, text in head.headers.items() if name.lower() != "content-length"]
    return head.method, head.target, fields, head.keep_alive, body


async def compare(sent: list[bytes]) -> int:
    """Returns how many requests were known again."""
    everything, rest, repetitions = Parser(), Parser(), Repetitions()
    known_again = 0
    for data in sent:
        expected = everything.feed(data)
        known = repetitions.known(data)
        if known is None:
            repetitions.parsed(data, rest.feed(data))
            continue
        known_again += 1
        head, body, owed = known
        assert len(expected) == 1
        message, content = expected[0]
        assert isinstance(message, RawRequestMessage)
        assert content.is_eof() == (owed == 0)
        assert told(head, body) == told(Head(message), content.read_nowait(-1))
        assert int(message.headers["content-length"]) == len(body) + owed
        if owed:
            assert everything.feed(b"x" * owed) == []  # what comes of the body goes past the parser
            assert content.is_eof()
    return known_again


@settings(max_examples=1500, deadline=None)
@given(reads)
@example([request(b"{}"), request(b'{"model":"m"}'), request(b"{}")])
@example([request(b"{}"), *cut(request(b"x" * 100), 70), request(b"{}")])
@example([request(b"{}"), b"\r\n\r\n" + request(b"{}", length=b"90"), b"x" * 84, request(b"{}")])
@example([request(b"{}"), b"POST /v1 HTTP/1.1\r\nx: ", request(b"{}"), request(b"{}")])
@example([request(b"{}", fields=KEY + b"content-length: 2\r\n"), request(b"", fields=KEY + b"content-length: 2\r\n")])
def test_what_is_known_again_is_what_the_parser_would_have_found(sent: list[bytes]) -> None:
    with asyncio.Runner() as runner:
        runner.run(compare(sent))


async def test_a_client_that_says_the_same_again_is_known_whatever_the_length_of_its_bodies() -> None:
    assert await compare([request(body) for body in BODIES]) == len(BODIES) - 1


async def test_one_whose_body_comes_apart_from_its_head_is_known_by_the_head() -> None:
    of_a_hundred = request(b"", length=b"100")
    assert await compare([of_a_hundred, b"x" * 60, b"x" * 40, request(b"{}"), of_a_hundred, request(b"{}")]) == 3


async def test_a_body_that_comes_apart_and_is_large_is_the_parsers() -> None:
    assert await compare([request(b"{}"), request(b"", length=b"65536")]) == 1
    assert await compare([request(b"{}"), request(b"", length=b"65537")]) == 0


async def test_nothing_is_known_again_where_the_parser_may_stand_within_a_request() -> None:
    for between in (CHUNKED, UPGRADE, b"\r\n", b"P", request(b"{}") + request(b"{}"), request(b"{}") + b"P"):
        assert await compare([request(b"{}"), between, request(b"{}"), request(b"{}")]) == 0, between
    assert await compare([EXPECTING, EXPECTING]) == 0, "its client waits to be asked for the body"
    assert await compare([request(b"{}"), request(b"{}", fields=OTHER_KEY)]) == 0


async def test_nothing_is_known_again_where_a_body_ended_within_the_read_of_a_head() -> None:
    end_and_next = b"x" * 5 + request(b"{}")
    assert await compare([request(b"x" * 100)[:-5], end_and_next, end_and_next]) == 0


async def test_a_count_that_blank_lines_led_astray_is_noticed() -> None:
    """Blank lines before a request look like the end of a head: the body then seems to end too early by a head."""
    head_bytes = len(request(b"", length=b"100"))
    led_astray = b"\r\n\r\n" + request(b"", length=b"%d" % (head_bytes + 10))
    hidden = request(b"", length=b"000")  # the body's end, chosen to look like a request
    following = request(b"", length=b"%d" % (head_bytes + 20))
    assert await compare([led_astray, b"x" * 10, hidden + following, b"x" * 20, hidden]) == 0
