"""Heads that are known again, against the parser that reads everything; and requests at every split of their bytes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.http.body_reader import read_body
from gateway.http.bounds import ClientBounds
from gateway.http.fast_lane import LaneConnection
from gateway.http.fast_lane.heads import Framed, Repetition, head_end, read_head
from gateway.http.memory_budget import Memory
from gateway.http.message import Head, Request
from gateway.http.reply import Answer, Reply

KEY = b"authorization: Bearer sk-one\r\n"
OTHER_KEY = b"authorization: Bearer sk-two\r\n"
BODIES = [b"", b"{}", b'{"model":"m"}', b"x" * 100, b"\r\n", b"GET / HTTP/1.1\r\n\r\n"]


def request(body: bytes, *, fields: bytes = KEY, length: bytes | None = None, line: bytes = b"POST /v1") -> bytes:
    """A request; with `length` it says another one than its body has."""
    digits = b"%d" % len(body) if length is None else length
    return b"%b HTTP/1.1\r\nhost: a\r\n%bContent-Length: %b\r\naccept: */*\r\n\r\n%b" % (line, fields, digits, body)


CHUNKED = b"POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
TRICKS = [
    *(b"\r\n", b"\r\n\r\n", b"\n", b"G", b"POST /v1 HTTP/1.1\r\nx: ", CHUNKED),
    *(request(b"{}", length=length) for length in (b"02", b"+2", b"2 ", b" 2", b"1", b"3", b"", b"9" * 30)),
    request(b"{}", fields=KEY + b"content-length: 2\r\n"),
    request(b"{}", fields=KEY + b"transfer-encoding: chunked\r\n"),
    request(b"{}", fields=KEY + b"expect: 100-continue\r\n"),
    request(b"{}", fields=b"x: content-length: 2\r\n"),
    request(b"{}", fields=b"x: y\r\n content-length: 2\r\n"),
    request(b"{}").replace(b"\r\n", b"\n"),
    b"GET /v1 HTTP/1.1\r\nhost: a\r\n\r\n",
]
VALUES = (b"1", b"22", b"", b" 3", b"4 ", b"5\r\n 6", b"\xc3\xa9", b"7\0", b"8\n9: 1")
FIELDS = [
    *(KEY, KEY, OTHER_KEY, KEY.replace(b"Bearer", b"\tBearer"), KEY.replace(b": ", b":"), KEY.replace(b": ", b" : ")),
    *(KEY + b"x-id: %b\r\n" % value for value in VALUES),
    *(KEY + field + b"\r\n" for field in (b"X-Id: 1", b"x-ids: 1", b"connection: close", b"connection: keep-alive")),
    *(KEY + b"x-id: %b\r\nx-id: 2\r\n" % value for value in (b"1", b"3")),
    *(KEY + b"x-id: 1\r\nexpect: %b\r\n" % value for value in (b"100-continue", b"nothing")),
    *(KEY + b"te: %b\r\n" % value for value in (b"trailers", b"gzip")),
]
whole = st.builds(
    request,
    st.sampled_from(BODIES),
    fields=st.sampled_from([KEY, KEY, KEY, OTHER_KEY, KEY + b"x-id: 1\r\n", KEY + b"x-id: 2\r\n"]),
    line=st.sampled_from([b"POST /v1", b"POST /v1", b"PUT /v1?a=b"]),
)
alike = st.builds(
    request,
    st.sampled_from(BODIES),
    fields=st.sampled_from(FIELDS),
    length=st.sampled_from([None, None, None, b"2", b"02", b"+2", b"2 ", b""]),
    line=st.sampled_from([b"POST /v1", b"POST /v1", b"POST /v1", b"POST /v2"]),
)


def read(data: bytes) -> Framed | None:
    """What the parser finds; None where the head is broken, or not whole."""
    try:
        end = head_end(data)
        return read_head(data, end) if end else None
    except GatewayError:
        return None


def told(head: Head) -> tuple[object, ...]:
    fields = [(name.lower(), text) for name, text in head.headers.items() if name.lower() != "content-length"]
    return head.method, head.target, fields, head.keep_alive, head.http11


@settings(max_examples=1500, deadline=None)
@given(st.one_of(whole, st.sampled_from(TRICKS)), st.one_of(whole, st.sampled_from(TRICKS), st.binary(max_size=200)))
@example(request(b"{}"), request(b"x" * 100))
@example(request(b"{}", fields=KEY + b"content-length: 2\r\n"), request(b"", fields=KEY + b"content-length: 2\r\n"))
def test_what_is_known_again_is_what_the_parser_would_have_found(first: bytes, second: bytes) -> None:
    repetition = Repetition()
    framed = read(first)
    if framed is not None:
        repetition.keep(first, framed)
    known = repetition.known(second)
    if known is not None:
        check_against_the_parser(*known, second)


def check_against_the_parser(head: Head, body_at: int, length: int, data: bytes) -> None:
    """It would have found the same head, and the same body behind it."""
    parsed = read(data)
    assert parsed is not None
    assert parsed.chunks is None
    assert (body_at, length) == (parsed.body_at, parsed.head.declared_length)
    assert told(head) == told(parsed.head)


@settings(max_examples=3000, deadline=None)
@given(st.one_of(alike, st.sampled_from(TRICKS)), st.lists(st.one_of(alike, st.sampled_from(TRICKS)), max_size=5))
@example(request(b"{}", fields=KEY + b"x-id: 1\r\n"), [request(b"{}", fields=KEY + b"x-id: 1\r\nx: 2\r\n")])
def test_what_is_like_the_last_head_is_what_the_parser_would_have_found(first: bytes, later: list[bytes]) -> None:
    repetition = Repetition()
    framed = read(first)
    if framed is not None:
        repetition.keep(first, framed)
    for second in later:
        varied = repetition.varied(second)
        if varied is None:
            continue
        check_against_the_parser(*varied, second)
        head = varied[0]
        assert framed is not None
        assert head.like is framed.head
        before, after = (dict(told(each)[2]) for each in (framed.head, head))  # type: ignore[call-overload]
        assert head.varying >= {name for name in before if before[name] != after[name]}


def test_a_head_is_known_whatever_the_length_of_its_body_and_nothing_else_is() -> None:
    repetition = Repetition()
    framed = read(request(b"{}"))
    assert framed is not None
    repetition.keep(request(b"{}"), framed)
    for body in BODIES:
        known = repetition.known(request(body))
        assert known is not None
        assert known[2] == len(body)
    for other in (request(b"{}", fields=OTHER_KEY), request(b"{}", line=b"POST /v2"), CHUNKED, b"\r\n" + request(b"")):
        assert repetition.known(other) is None


class Wires(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class Echo:
    """A server that answers each request with its number and writes down what it was asked."""

    memory = Memory(lambda: 2**30)
    bounds = staticmethod(lambda: ClientBounds(10, 60, 60, 60, 2**30))
    retiring = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []

    async def handler(self, request: Request) -> Reply:
        body = await read_body(request, max_bytes=2**20, seconds=10)
        self.asked.append((request.method, request.head.target, body))
        return Answer(200, (), b"%d" % len(self.asked))

    def serves(self, head: Head) -> bool:
        return True

    def render_error(self, fault: GatewayError, path: str) -> Answer:
        return Answer(fault.status, (), b"")

    def when_application_is_there(self, connection: LaneConnection) -> None:
        raise AssertionError("everything is for the lane here")

    def joined(self, connection: LaneConnection) -> None: ...

    def left(self, connection: LaneConnection) -> None: ...

    def made_a_mistake(self) -> None:
        raise AssertionError("a mistake")


async def serve(reads: Sequence[bytes]) -> tuple[list[tuple[str, str, bytes]], int]:
    """What a connection asks that brings these reads one by one; and how many answers went out."""
    server, transport = Echo(), Wires()
    connection = LaneConnection(server, asyncio.get_running_loop())
    connection.connection_made(transport)
    for data in reads:
        connection.data_received(data)
        for _ in range(4):
            await asyncio.sleep(0)
    for _ in range(20 * len(reads)):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return server.asked, transport.written.count(b"HTTP/1.1 200")


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@settings(max_examples=300, deadline=None)
@given(st.lists(whole, min_size=1, max_size=5), st.lists(st.integers(0, 10**6), max_size=12))
@example([request(b"{}"), request(b"x" * 100), request(b"")], [])
def test_requests_are_the_same_at_every_split_of_their_bytes(sent: list[bytes], places: list[int]) -> None:
    """One by one, all in one read, or cut anywhere: the same requests, each answered once."""
    with asyncio.Runner() as runner:
        apart = runner.run(serve(sent))
        together = runner.run(serve(cut(b"".join(sent), places)))
    assert len(apart[0]) == len(sent)
    assert apart == together


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 10**6), max_size=12))
def test_a_chunked_body_is_the_same_at_every_split(parts: list[bytes], places: list[int]) -> None:
    head = b"POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with asyncio.Runner() as runner:
        asked, answers = runner.run(serve(cut(head + chunks, places)))
    assert (asked, answers) == ([("POST", "/v1", b"".join(parts))], 1)
