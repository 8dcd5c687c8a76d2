"""What the first bytes of an answer to a stream are, wherever they are cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.answers import DONE, delta, event

from gateway.proxy.endpoint_client import Content
from gateway.proxy.stream.opening import MAX_HELD_BYTES, Opening, Verdict

ERROR = b'data: {"error":{"message":"no"}}\n\n'
CREATED = event({"type": "response.created", "response": {}}, name="response.created")
WHOLE = b'{"object":"chat.completion"}'
LABELS = list(Content)
SILENT = (
    b": a comment\n\n",
    b"data:\n\n",
    b"data: \n\n",
    b"data\n\n",
    b"data:\ndata:  \t\n\n",
    b"id: 7\nretry: 5\n\n",
    b"event: x\n\n",
    b"event: ping\ndata: {}\n\n",
    b'event: keepalive\ndata: {"a":1}\n\n',
    b'data: {"type":"ping"}\n\n',
    b'data:{"type" : "keepalive","n":1}\n\n',
    b"data: : keepalive\n\n",
    b"event: error\ndata:\n\n",
    b"\n\n\n",
)
LINE_ENDS = (b"\n", b"\r\n", b"\r")


def verdict_on(pieces: list[bytes], content: Content = Content.EVENTS, *, responses: bool = False) -> Verdict:
    """What is found out by the end of these reads."""
    opening = Opening(content, holds_preparations=responses)
    for number, piece in enumerate(pieces):
        verdict = opening.feed(piece)
        if verdict is not Verdict.UNDECIDED:
            assert bytes(opening.held) == b"".join(pieces[: number + 1]), "what is held is what came"
            return verdict
    return opening.end()


def at_every_cut(data: bytes, content: Content = Content.EVENTS, *, responses: bool = False) -> set[Verdict]:
    halves = [verdict_on([data[:at], data[at:]], content, responses=responses) for at in range(1, len(data))]
    singles = verdict_on([data[at : at + 1] for at in range(len(data))], content, responses=responses)
    return {*halves, singles}


@pytest.mark.parametrize("content", [Content.EVENTS, Content.TEXT, Content.OTHER])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n\n", b"\r\n", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize(
    "first", [b"data:1", b"event: x\ndata: 1", b"id: 1\ndata: 1", b"retry: 1\ndata: 1", b":\n\ndata: 1"]
)
def test_a_stream_is_known_by_its_bytes(content: Content, mark: bytes, first: bytes) -> None:
    """Whatever the upstream calls it, and with a byte order mark or blank lines before it."""
    assert at_every_cut(mark + first + b"\n\n", content) == {Verdict.EVENTS}


@pytest.mark.parametrize("content", LABELS)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \r\n\t"])
def test_json_as_a_whole_is_no_stream(content: Content, start: bytes) -> None:
    assert at_every_cut(start + WHOLE, content) == {Verdict.WHOLE}
    assert at_every_cut(start + b'[\n{"data": 1}\n]', content) == {Verdict.WHOLE}


def test_other_bytes_are_what_they_are_called() -> None:
    """Text is held, everything else flows; what begins like a field and is none is waited for no longer than that."""
    assert at_every_cut(b"dataset", Content.TEXT) == {Verdict.WHOLE}
    assert at_every_cut(b"dataset", Content.OTHER) == {Verdict.FLOW}
    assert at_every_cut(b"  data: 1\n\n", Content.TEXT) == {Verdict.WHOLE}
    assert at_every_cut(b"ID3\x04\x00", Content.OTHER) == {Verdict.FLOW}
    assert verdict_on([b"dat"], Content.OTHER) is Verdict.WHOLE


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("silent", SILENT)
def test_what_bears_no_news_opens_no_gate(silent: bytes, end: bytes) -> None:
    """Comments, empty data and signs of life are waited through: the error behind them is still a failed attempt."""
    silent = silent.replace(b"\n", end)
    assert at_every_cut(silent) == {Verdict.UNDECIDED}
    assert at_every_cut(silent + ERROR.replace(b"\n", end)) == {Verdict.ERROR}
    assert at_every_cut(silent + delta("a").replace(b"\n", end)) == {Verdict.EVENTS}


@pytest.mark.parametrize(
    "error",
    [
        ERROR,
        b'event: error\ndata: {"message":"no"}\n\n',
        b'data: {"type":"error","message":"no"}\n\n',
        b'data: {"type":"response.failed","response":{}}\n\n',
        b': x\nid: 1\ndata: {"error":\ndata: "no"}\n\n',
        b'data: {"error":{"message":"no"}}',
    ],
)
def test_an_error_in_the_place_of_the_first_event(error: bytes) -> None:
    assert at_every_cut(error) == {Verdict.ERROR}
    opening = Opening(Content.EVENTS, holds_preparations=False)
    opening.feed(error)
    opening.end()
    assert json.loads(opening.error_text)


def test_preparations_count_for_nothing_where_they_are_known() -> None:
    """Other routes pass the same bytes on as they pass any event."""
    queued = event({"type": "response.queued"})
    running = event({"n": 1}, name="response.in_progress")
    first = event({"type": "response.output_text.delta", "delta": "a"})
    prepared = CREATED + queued + running
    assert at_every_cut(prepared, responses=True) == {Verdict.UNDECIDED}
    assert at_every_cut(prepared + first, responses=True) == {Verdict.EVENTS}
    assert at_every_cut(prepared + ERROR, responses=True) == {Verdict.ERROR}
    assert at_every_cut(CREATED) == {Verdict.EVENTS}


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert verdict_on([b"data: 1"]) is Verdict.EVENTS
    assert verdict_on([b"data: 1\n"]) is Verdict.EVENTS
    assert verdict_on([b"data: \n"]) is Verdict.UNDECIDED
    assert verdict_on([DONE]) is Verdict.EVENTS


@pytest.mark.parametrize("silent", [b": x\n\n", b"\n", b"data:\n\n", b"event: ping\ndata: {}\n\n", b":" + b"x" * 9999])
@pytest.mark.parametrize("size", [1_000, 100_000])
def test_silence_without_end_is_too_much(silent: bytes, size: int) -> None:
    """A megabyte of it is held, and a stream may begin behind it; more is a failed attempt."""
    enough = silent * (MAX_HELD_BYTES // len(silent) - 2)
    reads = [enough[at : at + size] for at in range(0, len(enough), size)]
    more = silent * (200_000 // len(silent))
    assert verdict_on([*reads, more]) is Verdict.TOO_MUCH
    # Also where an event comes with it, in one read.
    late = silent * (MAX_HELD_BYTES // len(silent) + 1) + b"\n\n" + delta("late")
    assert verdict_on([late]) is verdict_on([late[:-9], late[-9:]]) is Verdict.TOO_MUCH
    assert verdict_on([*reads, b"\n\n" + delta("a")]) is Verdict.EVENTS


def test_a_first_event_too_large_to_hold_flows() -> None:
    opening = Opening(Content.EVENTS, holds_preparations=False)
    assert opening.feed(b": x\n\ndata: " + b"x" * (MAX_HELD_BYTES - 6)) is Verdict.UNDECIDED
    assert opening.feed(b"xxxx") is Verdict.EVENTS


@pytest.mark.parametrize(
    "evil",
    [
        b"\n",
        b":\n\n",
        b"\r\r",
        b":\r\n\r\n",
        b"data:\n\n",
        b" data:x\n",
        b"data: :\n\n",
        b"x:y\n",
        b'data: {"type":"ping"}\n\n',
    ],
)
def test_a_megabyte_that_says_nothing_takes_no_time(evil: bytes) -> None:
    """In one read of the socket or in many: the loop is everybody's."""
    megabyte = evil * (MAX_HELD_BYTES // len(evil) - 1)
    for size in (4_096, 262_144, len(megabyte)):
        opening = Opening(Content.EVENTS, holds_preparations=False)
        began = time.process_time()
        for at in range(0, len(megabyte), size):
            opening.feed(megabyte[at : at + size])
        opening.feed(b"\n\n" + delta("a"))
        assert time.process_time() - began < 0.5


pieces = st.sampled_from(
    [*SILENT, DONE, ERROR, CREATED, delta("a"), b"data: x\n", b"\xef\xbb\xbf", b"{", b"\r", b"\n", b"id:1"]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(pieces, max_size=6), st.sampled_from(LABELS), st.booleans(), st.data())
def test_no_cut_changes_the_verdict(parts: list[bytes], content: Content, responses: bool, data: st.DataObject) -> None:
    """But for a blank line of CRs, which is over with the CR, be there an LF behind it or not."""
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    reads = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert verdict_on(reads, content, responses=responses) is verdict_on([whole], content, responses=responses)
