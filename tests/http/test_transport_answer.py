"""The answer parser: every framing, every bound, every split of the bytes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.client.answer import MAX_INTERIM_HEADS
from gateway.http.client.transport import AnswerParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_HEAD_BYTES = 65536


class Outcome(NamedTuple):
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool
    reusable: bool
    until_close: bool
    faulty: bool


def parse(*pieces: bytes, max_head_bytes: int = MAX_HEAD_BYTES) -> Outcome:
    """Feeds the pieces until the answer is complete or faulty; pieces after that are surplus, as on a connection.

    And as there, what is one whole chunk is not fed.
    """
    parser = AnswerParser(max_head_bytes)
    body = b""
    rest = list(pieces)
    while rest and not parser.complete and parser.fault is None:
        piece = rest.pop(0)
        lone = parser.lone_chunk(piece) if parser.between_chunks else None
        if lone is None:
            parser.feed(piece)
            lone = b"".join(parser.parts)
        body += lone
    return Outcome(
        parser.status,
        tuple(parser.headers) if parser.status else (),
        body,
        parser.complete,
        parser.reusable and not rest,
        parser.until_close,
        parser.fault is not None and not parser.complete,
    )


# name → (bytes, status, body, complete, reusable)
GOOD = {
    "content-length": (OK + b"content-length: 3\r\n\r\nabc", 200, b"abc", True, True),
    "empty": (OK + b"content-length: 0\r\n\r\n", 200, b"", True, True),
    "chunks": (CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", 200, b"abcdefg", True, True),
    "chunk extension": (CHUNKED + b'3;name="v;x"\r\nabc\r\n0\r\n\r\n', 200, b"abc", True, True),
    "padded chunk size": (CHUNKED + b"0000003\r\nabc\r\n0000\r\n\r\n", 200, b"abc", True, True),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 5\r\nX-None:\r\n\r\n", 200, b"a", True, True),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        + OK
        + b"content-length: 2\r\n\r\nok",
        200,
        b"ok",
        True,
        True,
    ),
    "unknown interim": (b"HTTP/1.1 199 X\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx", 200, b"x", True, True),
    "204": (b"HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n", 204, b"", True, True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b"", True, True),
    "asked to close": (OK + b"connection: close\r\ncontent-length: 1\r\n\r\nx", 200, b"x", True, False),
    "until close": (OK + b"server: x\r\n\r\nabc", 200, b"abc", False, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nabc", 200, b"abc", False, False),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, b"x", True, False),
    "HTTP/1.0 kept alive": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
        200,
        b"x",
        True,
        True,
    ),
    "no reason phrase": (b"HTTP/1.1 404\r\ncontent-length: 0\r\n\r\n", 404, b"", True, True),
    "cut in the body": (OK + b"content-length: 5\r\n\r\nabc", 200, b"abc", False, False),
    "no last chunk": (CHUNKED + b"3\r\nabc\r\n", 200, b"abc", False, False),
    "cut in the head": (OK + b"content-le", 0, b"", False, False),
    "a second answer": (
        OK + b"content-length: 1\r\n\r\na" + OK + b"content-length: 1\r\n\r\nb",
        200,
        b"a",
        True,
        False,
    ),
    "a byte too many": (OK + b"content-length: 1\r\n\r\naX", 200, b"a", True, False),
    "a line end too many": (OK + b"content-length: 1\r\n\r\na\r\n", 200, b"a", True, False),
    "a line end after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\n\r\n", 200, b"a", True, False),
    "a line end after nothing": (OK + b"content-length: 0\r\n\r\n\n", 200, b"", True, False),
    "a line end after line ends": (OK + b"content-length: 2\r\n\r\n\n\n\n", 200, b"\n\n", True, False),
    "bytes after 204": (b"HTTP/1.1 204 No\r\ncontent-length: 4\r\n\r\nHTTP", 204, b"", True, False),
    "bytes after close": (OK + b"connection: close\r\ncontent-length: 1\r\n\r\naX", 200, b"a", True, False),
}

FAULTY = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "length and chunks": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc",
    "two lengths": OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "two lengths in one": OK + b"content-length: 3, 4\r\n\r\nabcd",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "length with a plus": OK + b"content-length: +1\r\n\r\na",
    "huge length": OK + b"content-length: 99999999999999999999\r\n\r\n",
    "no length": OK + b"content-length:\r\n\r\n",
    "bad chunk size": CHUNKED + b"zz\r\nabc\r\n",
    "huge chunk": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk too long": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "bare LF in chunks": CHUNKED + b"1\na\n0\n\n",
    "gzip, chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding identity": OK + b"transfer-encoding: identity\r\n\r\nabc",
    "folded header": OK + b"x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "NUL in a header": OK + b"x-a: b\0c\r\ncontent-length: 0\r\n\r\n",
    "CR in a header": OK + b"x-a: b\rc\r\ncontent-length: 0\r\n\r\n",
    "space before the colon": OK + b"content-length : 0\r\n\r\n",
    "header without a name": OK + b": b\r\ncontent-length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x00",
    "bare 101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "interim with a body": b"HTTP/1.1 199 X\r\ncontent-length: 3\r\n\r\nabc",
    "too many interim": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM_HEADS + 1),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_framing_gives_its_body_and_says_whether_the_connection_may_live_on(name: str) -> None:
    data, *expected = GOOD[name]
    outcome = parse(data)
    assert [outcome.status, outcome.body, outcome.complete, outcome.reusable] == expected
    assert not outcome.faulty


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_no_answer_of_http_1_is_a_fault_whole_and_byte_by_byte(name: str) -> None:
    data = FAULTY[name]
    assert parse(data).faulty
    assert parse(*(data[i : i + 1] for i in range(len(data)))).faulty


CANNED = {name: data for name, (data, *_) in GOOD.items()} | FAULTY


@given(name=st.sampled_from(sorted(CANNED)), cuts=st.lists(st.integers(0, 160), max_size=8))
@settings(max_examples=400, deadline=None)
def test_no_split_of_the_bytes_changes_what_is_understood(name: str, cuts: list[int]) -> None:
    data = CANNED[name]
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    whole = parse(data)
    split = parse(*(data[a:b] for a, b in itertools.pairwise(edges)))
    assert split._replace(reusable=False) == whole._replace(reusable=False)
    assert whole.reusable or not split.reusable
    if whole.body.strip() and b"content-length" in data:
        assert split.reusable == whole.reusable, (
            "an ordinary answer must not cost its connection for the way it arrived"
        )


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
    trailer=st.sampled_from([b"", b"x-sum: 1\r\n"]),
)
@settings(max_examples=200, deadline=None)
def test_any_chunks_in_any_split_give_their_bytes_joined(chunks: list[bytes], cuts: list[int], trailer: bytes) -> None:
    data = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    outcome = parse(*(data[a:b] for a, b in itertools.pairwise(edges)))
    assert outcome.complete
    assert not outcome.faulty
    assert outcome.body == b"".join(chunks)
    assert outcome.headers == ((b"transfer-encoding", b"chunked"),)


@given(data=st.binary(max_size=200), start=st.sampled_from([b"", OK, CHUNKED, b"HTTP/1.1 "]))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_never_raise(data: bytes, start: bytes) -> None:
    outcome = parse(start + data, data)
    assert outcome.status >= 200 or not (outcome.complete or outcome.body)
    assert outcome.complete or not outcome.reusable


def test_header_names_are_lower_case_and_values_without_outer_space() -> None:
    outcome = parse(OK + b"Content-Length:\t1 \r\nX-Empty:\r\nX-Odd:  \xe9 \t\r\n\r\na")
    assert outcome.headers == ((b"content-length", b"1"), (b"x-empty", b""), (b"x-odd", b"\xe9"))


def test_trailers_of_one_answer_never_reach_the_headers_of_the_next() -> None:
    parser = AnswerParser(MAX_HEAD_BYTES)
    parser.feed(CHUNKED + b"1\r\na\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert parser.reusable
    parser.begin()
    parser.feed(OK + b"content-length: 1\r\n\r\nb")
    assert parser.headers == [(b"content-length", b"1")]
    assert parser.parts == [b"b"]


def test_chunks_of_one_read_come_together() -> None:
    parser = AnswerParser(MAX_HEAD_BYTES)
    parser.feed(CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
    assert parser.parts == [b"a", b"b", b"c"]


def test_a_header_of_64_kb_is_refused_and_one_just_below_the_bound_is_not() -> None:
    tail = b"\r\ncontent-length: 0\r\n\r\n"
    fits = OK + b"x-big: " + b"a" * (MAX_HEAD_BYTES - 100) + tail
    large = OK + b"x-big: " + b"a" * MAX_HEAD_BYTES + tail
    for size in (len(large), 4096, 1400):
        assert parse(*_pieces(fits, size)).reusable
        assert parse(*_pieces(large, size)).faulty


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 ", OK + b"x-a: ", OK + b"x-", OK], ids=["reason", "value", "name", "many headers"]
)
def test_a_head_without_end_is_cut_off_at_the_bound(start: bytes) -> None:
    line = b"x-a: b\r\n" * 128 if start == OK else b"a" * 1024
    parser = AnswerParser(4096)
    parser.feed(start)
    reads = 0
    while parser.fault is None:
        parser.feed(line)
        reads += 1
        assert reads <= 4
    assert "4096 bytes" in parser.fault


def test_interim_heads_count_against_the_same_bound() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: " + b"a" * 1000 + b"\r\n\r\n"
    assert parse(*[hint] * 6, max_head_bytes=4096).faulty


@pytest.mark.parametrize("flood", [b"1;" + b"e" * 1000, b"0\r\n"], ids=["extension", "trailers"])
def test_chunk_extensions_and_trailers_without_end_are_cut_off(flood: bytes) -> None:
    parser = AnswerParser(4096)
    parser.feed(CHUNKED)
    parser.feed(flood)
    more = b"x-t: t\r\n" * 100 if flood == b"0\r\n" else b"e" * 1000
    for _ in range(8):
        parser.feed(more)
    assert parser.fault == "chunk extensions or trailers without end"


def test_an_extension_before_every_chunk_is_cut_off_too() -> None:
    parser = AnswerParser(4096)
    parser.feed(CHUNKED)
    for _ in range(8):
        parser.feed(b"1;" + b"e" * 1000 + b"\r\nx\r\n")
    assert parser.fault is not None


def test_a_long_stream_of_single_byte_chunks_is_no_flood() -> None:
    parser = AnswerParser(4096)
    parser.feed(CHUNKED)
    for _ in range(5000):
        parser.feed(b"1\r\nx\r\n")
        assert parser.parts == [b"x"]
    assert parser.fault is None


def test_a_fault_after_good_bytes_leaves_the_good_bytes() -> None:
    outcome = parse(CHUNKED + b"3\r\nabc\r\nzz\r\n")
    assert (outcome.status, outcome.body, outcome.faulty) == (200, b"abc", True)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


chunks = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"a" * 256]), max_size=5)
SPELLINGS = (b"%x\r\n", b"%X\r\n", b"0%x\r\n", b"%x;ext\r\n", b"%x \r\n")


@given(chunks, st.lists(st.sampled_from(SPELLINGS), min_size=5, max_size=5), st.data())
def test_a_chunk_that_is_not_fed_changes_nothing(bodies: list[bytes], spelt: list[bytes], data: st.DataObject) -> None:
    """Cut behind line ends, where a read may look like a whole chunk and be none."""
    said = b"".join([how % len(each) + each + b"\r\n" for how, each in zip(spelt, bodies, strict=False)])
    said = CHUNKED + said + data.draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"", b"5\r\nhello"]))
    ends = [at + 2 for at in range(len(said)) if said.startswith(b"\r\n", at)]
    cuts = sorted(data.draw(st.sets(st.sampled_from(ends) | st.integers(1, len(said)), max_size=8)))
    pieces = [said[a:b] for a, b in itertools.pairwise([0, *cuts, len(said)]) if a < b]
    fed = AnswerParser(MAX_HEAD_BYTES)
    body = b""
    for piece in pieces:
        fed.feed(piece)
        body += b"".join(fed.parts)
        if fed.fault is not None or fed.complete:
            break
    found = parse(*pieces)
    assert (found.body, found.complete, found.faulty) == (body, fed.complete, fed.fault is not None)


@pytest.mark.parametrize("size", [b"+3", b" 3", b"0x3", b"03", b"3 ", b"", b"1_0", b"-3", b"4", b"2"])
def test_a_size_of_another_spelling_is_the_parsers_to_judge(size: bytes) -> None:
    parser = AnswerParser(MAX_HEAD_BYTES)
    parser.feed(CHUNKED + b"1\r\na\r\n")
    assert parser.between_chunks
    assert parser.lone_chunk(size + b"\r\nabc\r\n") is None
    assert parser.lone_chunk(b"3\r\nabc\r\n") == b"abc"
