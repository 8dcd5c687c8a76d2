"""What was seen of an answer, however it is spelled, split and packed, and whether it counts."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.openai import CHAT_END_SIGNS, JsonScan, Usage
from gateway.http.content_coding import STEP_BYTES, Unpacker, zstd
from gateway.proxy.answer_view import MOST_DECODED_BYTES, View
from gateway.proxy.stream.live import Live
from gateway.proxy.usage_meter import UsageMeter

REPORT = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
REPORTED = Usage(11, 7, 18)
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


def delta(**words: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": words, "finish_reason": None}]})


def seen_of(stream: bytes, sizes: Iterable[int] = ()) -> UsageMeter:
    """A stream's bytes, cut after so many each, as an attempt would look at them."""
    meter = UsageMeter()
    live = Live(meter, CHAT_END_SIGNS, is_numbered=False, take_usage_out=False)
    for size in [*sizes, len(stream)]:
        live.feed(stream[:size])
        stream = stream[size:]
    live.end()
    meter.conclude()
    return meter


def look(view: View, *pieces: bytes) -> None:
    for piece in pieces:
        view.feed(piece)
    view.end()
    while view.step():
        pass


def whole(body: bytes, encoding: bytes = b"", cut: int = 1 << 30) -> UsageMeter:
    meter = UsageMeter()
    view = meter.body_view(encoding)
    look(view, *[body[at : at + cut] for at in range(0, len(body), cut)])
    meter.whole(view, is_text=True)
    return meter


# --- whether it counts


@pytest.mark.parametrize("event", [USAGE, TEXT])
def test_what_an_upstream_answered_counts_though_its_client_had_left(event: bytes) -> None:
    """The client may go between an upstream's first event and our head: what the ledger bills, limits must count."""
    meter = UsageMeter()
    assert not meter.counts
    meter.events(event)
    assert meter.counts


def test_an_answer_that_tells_of_nothing_counts() -> None:
    """An upstream's refusal, say."""
    meter = UsageMeter()
    meter.answered = True
    assert meter.counts


@pytest.mark.parametrize(
    "event",
    [
        "data: [DONE]",
        "data:[DONE]",
        "data: {}",
        "data:",
        ": keep-alive",
        "data: : keep-alive",
        "event: ping\ndata: {}",
        'event: ping\ndata: {"type":"ping"}',
        f"data: {delta(role='assistant', content='')}",
        f"data: {delta(content=None, tool_calls=None)}",
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        'data: {"choices":null,"usage":null}',
        'data: {"type":"response.audio.delta","delta":"AAAA"}',
        'data: {"type":"response.output_text.done","text":"told before"}',
    ],
)
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_events_without_text_count_nothing(event: str, end: str) -> None:
    once = (event.replace("\n", end[: len(end) // 2]) + end).encode()
    for stream in (once, once * 50):
        assert not seen_of(stream).counts


# --- usage

SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda data: f"data: {data}\n\n".encode(),
    "no blank": lambda data: f"data:{data}\n\n".encode(),
    "CRLF": lambda data: f"data: {data}\r\n\r\n".encode(),
    "CR": lambda data: f"data: {data}\r\r".encode(),
    "name": lambda data: f"event: message\ndata: {data}\n\n".encode(),
    "id, retry, comment": lambda data: f": so\nid: 1\nretry: 9\ndata: {data}\n\n".encode(),
    "id behind": lambda data: f"data: {data}\nid: 1\n\n".encode(),
    "mixed ends": lambda data: f"id: 1\r\ndata: {data}\r\n\n".encode(),
    "lines": lambda data: f"data: {data}\n\n".replace(",", ",\ndata:").encode(),
}
COUNTS: list[Callable[[int], Any]] = [int, float, str, lambda count: f" {count} "]
LIKE_A_REPORT = ['"usage":', '"usage"', "{", '{"total_tokens":5}', "null", " ", "x", '\\"usage\\":']
cuts = st.lists(st.integers(1, 90), max_size=25)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(["one ", "zwei ", 'drei; \\ "', "vier é😀"]), max_size=8),
    st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=10, max_size=10),
    st.sampled_from(COUNTS),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
    cuts,
)
def test_usage_is_read_in_every_spelling_and_at_every_split(
    words: list[str],
    spellings: list[str],
    count: Callable[[int], Any],
    marks: tuple[str, str],
    ends: bool,
    sizes: list[int],
) -> None:
    """With `usage: null` in each other event, in any of JSON's and SSE's forms, the last event ended or not."""
    events = [{"choices": [{"delta": {"content": word}}], "usage": None} for word in words]
    events.append({"choices": [], "usage": {name: count(value) for name, value in REPORT.items()}})
    spelled = [
        SPELLINGS[name](json.dumps(each, separators=marks)) for name, each in zip(spellings, events, strict=False)
    ]
    stream = b"".join(spelled)
    meter = seen_of(stream if ends else stream.rstrip(b"\r\n"), sizes)
    assert meter.usage == REPORTED
    assert meter.text_bytes == sum(len(word.encode()) for word in words)


@pytest.mark.parametrize(
    "later", ['{"choices":[],"usage":null}', '{"choices":[],"usage":{}}', '{"usage": {"total_tokens": 0}}', "[DONE]"]
)
def test_a_later_report_of_nothing_does_not_erase_the_usage(later: str) -> None:
    assert seen_of(f'data: {{"usage":{json.dumps(REPORT)}}}\n\ndata: {later}\n\n'.encode()).usage == REPORTED


def test_the_last_usage_counts_and_no_sum() -> None:
    first = 'data: {"choices":[],"usage":{"prompt_tokens":90,"completion_tokens":80}}\n\n'
    assert seen_of(f'{first}data: {{"usage":{json.dumps(REPORT)}}}\n\n'.encode()).usage == REPORTED


@pytest.mark.parametrize("behind", [b"", b'"x":1,'])
@pytest.mark.parametrize("size", [10, 3 * 2**20])
def test_usage_is_read_in_an_event_of_any_size(size: int, behind: bytes) -> None:
    picture = b'"output":[{"type":"image_generation_call","result":"' + b"A" * size + b'"}]'
    report = b'"usage" : {"input_tokens":11,"output_tokens":7,"total_tokens":18}'
    for inner in (picture + b"," + behind + report, report + b"," + behind + picture):
        event = b'event: response.completed\ndata: {"type":"response.completed","response":{%b}}\n\n' % inner
        for step in (65_536, 1 << 22):
            meter = seen_of(TEXT + event + TEXT, [step] * (len(event) // step))
            assert (meter.usage, meter.text_bytes) == (REPORTED, 4)


@pytest.mark.parametrize(
    "before", [b"", b" ", b"\n\n\n", b"\xef\xbb\xbf", b"\r\n\t" * 2_000, b" " * (MOST_DECODED_BYTES + 70_000)]
)
@pytest.mark.parametrize("size", [0, 2 * MOST_DECODED_BYTES])
def test_usage_is_read_in_a_whole_answer_behind_blanks_and_of_any_size(before: bytes, size: int) -> None:
    """Upstreams send blank lines while they think."""
    for fields in ({"a": "x" * size, "usage": REPORT, "z": [1]}, {"usage": REPORT, "a": "x" * size}):
        body = before + json.dumps(fields).encode()
        for cut in (1000, 65_536, 1 << 30):
            assert whole(body, cut=cut).usage == REPORTED


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(['"usage":', '"usage"', "{", '{"total_tokens":5}', "null", " ", "x", '\\"usage\\":']),
        max_size=9,
    ),
    cuts,
)
def test_a_scan_is_the_same_at_every_split(parts: list[str], sizes: list[int]) -> None:  # fmt: skip
    """What is said within a text is no key."""
    text = "".join(parts)
    body = json.dumps({"content": text, "usage": REPORT, "text": "é\n\\u" + text, "z": "x" * 40}).encode()
    scans = [JsonScan(), JsonScan()]
    scans[0].feed(body)
    for size in [*sizes, len(body)]:
        scans[1].feed(body[:size])
        body = body[size:]
    for scan in scans:
        scan.end()
    assert scans[0].usage == scans[1].usage == REPORTED
    assert scans[0].text_bytes == scans[1].text_bytes == 2 * len(text) + 5


# --- compressed


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "gzip of two members": (b"x-gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    "zlib": (b"deflate", zlib.compress),
    "deflate alone": (b"deflate", raw_deflate),
    "Brotli": (b"br", lambda body: bytes(brotli.compress(body, quality=1))),
    "Brotli at its best": (b"br", lambda body: bytes(brotli.compress(body))),
    "Zstandard": (b"zstd", zstd.compress),
    "Zstandard of two frames": (b"zstd", lambda body: zstd.compress(body[:9]) + zstd.compress(body[9:])),
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [0, 20 * 2**20])
def test_usage_is_read_in_whatever_an_answer_came_packed(name: str, size: int) -> None:
    """Of twenty megabytes in a few kilobytes, too; and what is unpacked at a time stays bounded."""
    encoding, pack = PACKERS[name]
    body = pack(json.dumps({"pad": "hello " * (size // 6), "usage": REPORT}).encode())
    for cut in (1, 7, 4096) if not size else (4096, 1 << 30):
        assert whole(body, encoding, cut).usage == REPORTED
    unpacker = Unpacker(encoding)
    unpacker.feed(body)
    while unpacker.more:
        assert len(unpacker.step()) <= 2 * STEP_BYTES  # Brotli takes its space in blocks


@pytest.mark.parametrize("name", PACKERS)
def test_usage_is_read_in_a_packed_stream(name: str) -> None:
    encoding, pack = PACKERS[name]
    stream = pack(TEXT * 500 + USAGE + b"data: [DONE]\n\n")
    for cut in (1, 100, len(stream)):
        meter = UsageMeter()
        look(meter.events_view(encoding), *[stream[at : at + cut] for at in range(0, len(stream), cut)])
        assert (meter.usage, meter.text_bytes) == (Usage(1, 2, 3), 1000)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"compress", b"gzip, br"])
def test_what_nobody_can_unpack_counts_by_its_bytes(encoding: bytes) -> None:
    """Else an answer would be free for being unreadable."""
    body = b"\xff\xfe\xfd\xfc" * 1000
    assert whole(body, encoding).text_bytes == len(body)
    meter = UsageMeter()
    look(meter.events_view(encoding), body)
    assert meter.text_bytes == len(body)


def test_little_is_unpacked_of_a_few_bytes_that_unfold_without_end() -> None:
    bomb = zlib.compress(b"\n" * (200 * 2**20))
    unpacker = Unpacker(b"deflate")
    unpacker.feed(bomb)
    unpacked = 0
    while unpacker.more:
        unpacked += len(unpacker.step())
    assert unpacked <= 64 * 2**20


# --- text

CARRIERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "content": lambda text: {"choices": [{"delta": {"content": text}}]},
    "reasoning_content": lambda text: {"choices": [{"delta": {"content": None, "reasoning_content": text}}]},
    "reasoning": lambda text: {"choices": [{"delta": {"reasoning": text}}]},
    "refusal": lambda text: {"choices": [{"delta": {"refusal": text}}]},
    "arguments": lambda text: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}]},
    "function call": lambda text: {"choices": [{"delta": {"function_call": {"arguments": text}}}]},
    "completion": lambda text: {"choices": [{"index": 0, "text": text}]},
    "parts": lambda text: {"choices": [{"delta": {"content": [{"type": "text", "text": text}]}}]},
    "response": lambda text: {"type": "response.output_text.delta", "delta": text},
    "response's arguments": lambda text: {"type": "response.function_call_arguments.delta", "delta": text},
    "response's reasoning": lambda text: {"type": "response.reasoning_summary_text.delta", "delta": text},
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_text_counts_the_same_in_one_event_and_in_a_thousand(carrier: str, spelling: str, pieces: int) -> None:
    text = "words and 8 KB " * 534
    size = -(-len(text) // pieces)
    events = [CARRIERS[carrier](text[at : at + size]) for at in range(0, len(text), size)]
    stream = b"".join(SPELLINGS[spelling](json.dumps(event)) for event in events)
    assert seen_of(stream).text_bytes == len(text)
    assert seen_of(stream, [50] * 100).text_bytes == len(text)


@pytest.mark.parametrize("text", ["x" * 3_000_000, "語" * 1_000_000, 'a"\\\n' * 500_000])
def test_text_counts_in_an_event_too_large_to_be_held(text: str) -> None:
    for escaped in (True, False):
        event = f"data: {json.dumps({'choices': [{'delta': {'content': text}}]}, ensure_ascii=escaped)}\n\n".encode()
        assert seen_of(TEXT + event, [2, 65_536, 2**20]).text_bytes == pytest.approx(len(text.encode()), rel=0.01)


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        ({"choices": [{"message": {"content": "four", "reasoning": "six..."}}, {"message": {"content": "2é"}}]}, 13),
        ({"choices": [{"text": "four"}], "padding": "x" * 100}, 4),
        ({"output": [{"content": [{"text": "four"}]}, {"arguments": "{}"}, {"summary": [{"text": "1"}]}]}, 7),
        ({"type": "response.completed", "response": {"output": [{"content": [{"text": "four"}]}]}}, 4),
        ({"embeddings": [1]}, 0),
    ],
)
def test_text_counts_in_a_whole_answer(answer: dict[str, Any], size: int) -> None:
    assert whole(json.dumps(answer).encode()).text_bytes == size


def test_text_told_again_at_the_end_counts_once() -> None:
    deltas = b"".join(SPELLINGS["name"](json.dumps(CARRIERS["response"](word))) for word in ("one ", "two "))
    completed = {"type": "response.completed", "response": {"output": [{"content": [{"text": "one two "}]}]}}
    assert seen_of(deltas + SPELLINGS["name"](json.dumps(completed))).text_bytes == 8


def test_an_answer_that_was_cut_off_counts_by_the_text_that_came() -> None:
    body = b'{"padding":"xxxxxxxx","choices":[{"message":{"content":"sixsix'
    assert whole(body).text_bytes == 6
    assert whole(b"just a text").text_bytes == 11


# --- what is no answer


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"error":{"message":"no","code":429}}', True),
        (b' \n{"error": "no"}', True),
        (b'{"error":null,"choices":[]}', False),
        (b'{"error": {} ,"choices":[]}', False),
        (b"<!DOCTYPE html><p>Bad gateway</p>", True),
        (b"\n <html>", True),
        (b"<?xml version='1.0'?><Error/>", True),
        (b"a < b, as text", False),
        (b"", False),
    ],
)
def test_an_error_object_and_a_page_are_no_answer(body: bytes, failed: bool) -> None:
    for encoding, packed in ((b"", body), (b"gzip", gzip.compress(body))):
        meter = whole(packed, encoding)
        assert meter.failed is failed
        assert not (failed and meter.text_bytes)


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (b'data: {"error":{"message":"no"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}\n\n', True),
        (b'event: error\ndata: {"message":"no"}\n\n', True),
        (b'event: error\r\ndata: {"message":"no"}\r\n\r\n', True),
        (b'data: {"type":"error","message":"no"}\n\n', True),
        # It ends a stream as it should, whatever it says of the response.
        (b'data: {"type":"response.failed","response":{"error":{"message":"no"}}}\n\n', False),
        (
            b'data: {"type":"response.failed","error":{"message":"no"},"response":{"usage":{"input_tokens":"1"}}}\n\n',
            False,
        ),
        (b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n', False),
        (b'data: {"choices":[{"delta":{"content":"event: error"}}],"error":null}\n\n', False),
    ],
)
def test_an_error_in_the_midst_of_a_stream_is_seen(event: bytes, failed: bool) -> None:
    for stream in (TEXT, event, TEXT), (TEXT + event + TEXT,):
        meter = UsageMeter()
        for piece in stream:
            meter.events(piece)
        assert meter.failed is failed


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=60), st.integers(0, 5_000_000), st.binary(max_size=3), cuts)
def test_unpacking_comes_to_an_end_whatever_is_fed(
    name: str, junk: bytes, size: int, spoilt: bytes, sizes: list[int]
) -> None:
    """Spoilt, cut off, with something behind its end, or just as large as a step."""
    encoding, pack = PACKERS[name]
    packed = pack(b"\n" * size + b"end")
    middle = len(packed) // 2
    for body in (packed + junk, packed[:middle] + spoilt + packed[middle:], junk):
        unpacker = Unpacker(encoding)
        places = [0, *itertools.accumulate(sizes), len(body)]
        for start, end in itertools.pairwise(places):
            unpacker.feed(body[start:end])
            for _ in range(20):
                unpacker.step()
        assert not unpacker.more


@pytest.mark.parametrize("name", PACKERS)
def test_content_of_just_some_steps_comes_to_its_end(name: str) -> None:
    encoding, pack = PACKERS[name]
    for size in (STEP_BYTES - 1, STEP_BYTES, 2 * STEP_BYTES, 2_064_288):
        unpacker = Unpacker(encoding)
        unpacker.feed(pack(b"x" * size))
        assert sum(len(unpacker.step()) for _ in range(6)) == size
        assert not unpacker.more
