"""Bytes off the wire: answers of upstreams, streams, keys. Any bytes at any split, no exception but those promised."""

from __future__ import annotations

import itertools
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.access.authenticate import Shown, key_sha256
from gateway.api.head_reading import client_request_id
from gateway.api.panel.replies import parsed, transcript_of
from gateway.dialects import openai
from gateway.dialects.openai.metering.usage_report import usage_of
from gateway.errors import ConnectionCut, GatewayError, InvalidRequest, InvalidResponse, MissingKey, TransportError
from gateway.http.client.transport import AnswerParser
from gateway.http.sse import EventFramer, event_data, event_name
from gateway.proxy.usage_meter import UsageMeter

MAX_HEAD = 1_024
TOKENS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 103 Early Hints\r\n",
    b"HTTP/1.1 101 Switching\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"content-length: 5\r\n",
    b"content-length: 18446744073709551616\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: x\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;x=",
    b"hello",
    b"\0",
    b"\xff" * 40,
    b"x" * 600,
]
answers = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=20), max_size=12).map(b"".join)
cuts = st.lists(st.integers(0, 4_000), max_size=8)


def split(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(answers, cuts)
def test_an_upstreams_bytes_are_an_answer_or_a_fault(data: bytes, places: list[int]) -> None:
    """Any split tells the same of the answer, and what is behind its end is never read into it."""
    whole, pieces = understood([data]), understood(split(data, places))
    assert whole[:4] == pieces[:4]
    assert not whole[4] or whole[2], "only a connection whose answer has ended can be used again"


def understood(pieces: list[bytes]) -> tuple[int, bytes, bool, bool, bool]:
    """Status, body, completeness, faultiness, reusability, fed as a connection feeds: until the end or a fault."""
    parser, body, rest = AnswerParser(MAX_HEAD), b"", [piece for piece in pieces if piece]
    while rest and not parser.complete and parser.fault is None:
        parser.feed(rest.pop(0))
        body += b"".join(parser.parts)
        assert parser.status == 0 or 200 <= parser.status <= 999
    faulty = parser.fault is not None and not parser.complete
    size = sum(len(name) + len(value) for name, value in parser.headers)
    assert size <= MAX_HEAD or parser.fault is not None or not parser.status
    return parser.status, body, parser.complete, faulty, parser.reusable and not rest


@settings(max_examples=200, deadline=None)
@given(answers, st.lists(st.integers(1, 200), min_size=1, max_size=3))
def test_what_follows_an_answer_is_never_part_of_it(tail: bytes, sizes: list[int]) -> None:
    """Whatever an upstream appends: the body is as long as it said, and the connection is used no more."""
    for size in sizes:
        good = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"b" * size)
        status, body, complete, _, reusable = understood([good + tail])
        assert (status, body, complete) == (200, b"b" * size, True)
        assert reusable == (not tail)


def test_the_faults_of_an_answer_are_transport_errors() -> None:
    """What a connection makes of the parser's faults is retried as the upstream's fault, never taken for ours."""
    assert issubclass(InvalidResponse, TransportError)
    assert issubclass(ConnectionCut, TransportError)
    assert not issubclass(TransportError, GatewayError)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), cuts, st.integers(0, 40))
@example(b"\r\r\n\n\r\n\r", [1, 2, 3, 4], 0)
@example(b"data: \xff\xfe\n\n\xef\xbb\xbfdata: x\n\n", [], 10)
def test_no_byte_of_a_stream_is_lost_or_made_up(data: bytes, places: list[int], max_held: int) -> None:
    """Any bytes at all, not only events: what goes in comes out, and can be looked at."""
    framer = EventFramer(max_held)
    events = [event for piece in split(data, places) for event in framer.feed(piece)]
    assert b"".join(events) + framer.end() == data
    for event in events:
        assert b"\n" not in (event_name(event) or b"")
        payload = event_data(event)
        assert payload is None or len(payload) <= len(event)


NAMES = [b"usage", b"choices", b"error", b"response", b"prompt_tokens", b"content", b"message", b"\\ud800"]
MARKS = [b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"-", b" ", b"null", b"[]", b"1", b"1e999", b"true", b"\xff"]
HEAPS = [b"9" * 400, b"[" * 3_000, b'{"usage":' * 2_000, b'{"choices":[{"message":{"content":']
json_bits = st.sampled_from([*(b'"%b"' % name for name in NAMES), *MARKS, *HEAPS])
payloads = st.lists(json_bits, max_size=14).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(payloads)
@example(b'{"usage":' * 5_000)
@example(b'{"error":' + b"[" * 300 + b"]" * 300 + b"}")
@example(b'{"choices":[{"finish_reason":"\\ud800","message":{"content":"x"}}]}')
def test_an_upstreams_json_is_read_or_let_be(payload: bytes) -> None:
    """Every place that looks into it."""
    usage_of(payload)
    openai.is_error_payload(payload, None)
    openai.is_usage_only(b"data: " + payload + b"\n\n", finished=True)
    told = openai.refusal_event(payload, named=False)
    assert json.loads(told.removeprefix(b"data: "))["error"]["type"]
    openai.error_words(payload)
    parsed(payload)
    transcript = transcript_of(payload)
    assert transcript is None or (transcript.reply + (transcript.finish_reason or "")).encode()
    for encoding in (b"", b"gzip", b"deflate", b"br", b"zstd", b"compress"):
        meter = UsageMeter()
        for view, body in ((meter.body_view(encoding), payload), (meter.events_view(encoding), b"data: " + payload)):
            view.feed(body)
            view.end()
            while view.step():
                pass
            meter.whole(view, is_text=True)
        assert meter.text_bytes >= 0


header_text = st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cs"]), max_size=30) | st.just(
    "\udcff\udc80"
)
schemes = st.sampled_from(["Bearer", "bearer", "ApiKey", "Basic", "", "Bearer\t", "bearer ", "BEARER BEARER", "\u0130"])


@settings(max_examples=300, deadline=None)
@given(scheme=schemes, credential=header_text, other=st.none() | header_text)
def test_any_authorization_is_a_key_or_none(scheme: str, credential: str, other: str | None) -> None:
    """And a key hashes, be it no Unicode; it is what was sent, without the white space around it."""
    headers = CIMultiDict({"authorization": f"{scheme} {credential}"})
    if other is not None:
        headers["x-api-key"] = other
    try:
        key = Shown.of(CIMultiDictProxy(headers)).key()
    except InvalidRequest:  # an empty header
        assert (other is not None and not other.strip()) or not f"{scheme} {credential}".strip()
        return
    except MissingKey:
        key = None
    if key is None:
        assert not (scheme.lower() in ("bearer", "apikey") and credential.strip())
        return
    assert key
    assert key == key.strip()
    assert key in f"{scheme} {credential}" or key == (other or "").strip()
    assert len(key_sha256(key)) == 64


@settings(max_examples=200, deadline=None)
@given(st.none() | header_text)
def test_a_clients_request_id_is_harmless_or_none(text: str | None) -> None:
    told = client_request_id(text)
    assert told is None or (told == text and told.isascii() and told.isprintable() and 1 <= len(told) <= 128)
