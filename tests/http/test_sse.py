"""Whole events, byte for byte and at once, however the bytes are split; and readers agree on what they say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from gateway.http.sse import EventFramer, Fragment, event_data, event_name, events_data, whole_events

LINES = [
    b"data: hello",
    b"data:hello",
    b"data",
    b"data:",
    b"data:  two blanks",
    "data: é漢🙂".encode(),
    b'data: {"choices":[{"delta":{"content":"a\\n\\nb"}}]}',
    b"data: [DONE]",
    b"event: error",
    b"event",
    b"id: 7",
    b"retry: 100",
    b": a comment",
    b":",
    b"datum: no",
    b"eventually: no",
]
LINE_ENDS = [b"\n", b"\r\n", b"\r"]

line = st.sampled_from(LINES)
line_end = st.sampled_from(LINE_ENDS)
streams = st.lists(st.one_of(line, line_end, line_end), max_size=40).map(b"".join)


def split(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream cut at these places; some parts may be empty."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(bounds)]


def events_by_the_book(stream: bytes) -> tuple[list[bytes], bytes]:
    """The events of a stream that is all there, and its unfinished rest: lines, gathered up to each blank one."""
    events, event = [], b""
    for one in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)", stream):
        event += one
        if not one.strip(b"\r\n"):
            events.append(event)
            event = b""
    return events, stream[len(b"".join(events)) :]


def read_by_the_book(event: bytes) -> tuple[bytes | None, bytes | None]:
    """Name and data of one event, in the steps of the standard's text."""
    name, data = b"", None
    for one in re.split(rb"\r\n|\n|\r", event.removeprefix(b"\xef\xbb\xbf")):
        field, value = one, b""
        if b":" in one:
            field, value = one[: one.index(b":")], one[one.index(b":") + 1 :]
            if value[:1] == b" ":
                value = value[1:]
        if field == b"event":
            name = value
        if field == b"data":
            data = value if data is None else data + b"\n" + value
    return name or None, data


def with_late_lf_rejoined(pieces: Iterable[bytes]) -> list[bytes]:
    """The pieces as if no split had parted a CR from its LF."""
    whole: list[bytes] = []
    for piece in pieces:
        if piece == b"\n" and whole and whole[-1].endswith(b"\r"):
            whole[-1] += piece
        else:
            whole.append(piece)
    return whole


def feed_all(framer: EventFramer, parts: Iterable[bytes]) -> list[bytes]:
    return [piece for part in parts for piece in framer.feed(part)]


def every_split(stream: bytes) -> Iterator[list[bytes]]:
    inner = range(1, len(stream))
    for count in range(len(stream)):
        for places in itertools.combinations(inner, count):
            yield split(stream, places)


@settings(deadline=None, max_examples=400)
@given(streams, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_gives_the_events_of_the_whole(stream: bytes, places: list[int]) -> None:
    """Where the network cuts the bytes changes neither the events nor the rest."""
    framer = EventFramer()
    pieces = feed_all(framer, split(stream, places))
    assert (with_late_lf_rejoined(pieces), framer.end()) == events_by_the_book(stream)
    assert not any(isinstance(piece, Fragment) for piece in pieces)
    assert EventFramer().feed(stream) == events_by_the_book(stream)[0]


def test_every_split_of_every_short_stream_gives_its_events() -> None:
    """All streams of up to six letters and line ends, at all their splits: no corner is left to chance."""
    for length in range(1, 7):
        for letters in itertools.product(b"a\n\r", repeat=length):
            stream = bytes(letters)
            expected = events_by_the_book(stream)
            for parts in every_split(stream):
                framer = EventFramer()
                assert (with_late_lf_rejoined(feed_all(framer, parts)), framer.end()) == expected, parts


@settings(deadline=None, max_examples=200)
@given(streams)
def test_an_event_goes_out_with_the_byte_that_completes_it(stream: bytes) -> None:
    """Nothing waits for a byte that may never come: not after CR either, and a late LF goes out alone and at once."""
    framer, given_out = EventFramer(), 0
    for seen in range(1, len(stream) + 1):
        given_out += sum(map(len, framer.feed(stream[seen - 1 : seen])))
        assert given_out == len(b"".join(events_by_the_book(stream[:seen])[0]))


@settings(deadline=None, max_examples=300)
@given(streams, st.lists(st.integers(0, 10_000), max_size=12), st.integers(0, 30))
@example(b"data: abcdef\r\n\r\ndata: x\r\r", [13, 14, 15, 16], 3)
def test_an_event_too_large_flows_as_fragments_up_to_its_end(stream: bytes, places: list[int], max_held: int) -> None:
    """Never is more held than allowed, no byte is lost, and the end of the event is known to the byte."""
    framer, fed, out = EventFramer(max_held), b"", b""
    for part in split(stream, places):
        fed += part
        for piece in framer.feed(part):
            out += piece
            if not isinstance(piece, Fragment):
                assert piece == b"\n" or events_by_the_book(piece) == ([piece], b"")
        assert fed.startswith(out)
        assert len(fed) - len(out) <= max_held
        events, rest = events_by_the_book(fed)
        assert framer.mid_event == (len(out) > len(b"".join(events)))
        assert framer.mid_event or len(fed) - len(out) == len(rest)
    assert out + framer.end() == stream


@settings(deadline=None, max_examples=500)
@given(streams, st.lists(st.integers(0, 10_000), max_size=12), st.integers(0, 40))
@example(b"data: a\r\n\r\n\r", [10, 12, 13], 40)
@example(b"data: a\n\r\n\ndata", [8, 9], 40)
def test_events_taken_together_are_those_of_a_feed(stream: bytes, places: list[int], max_held: int) -> None:
    """In one piece for all that follow each other, at the same moments; then they can be told apart again."""
    one_by_one, together = EventFramer(max_held), EventFramer(max_held)
    for part in split(stream, places):
        fed, taken = one_by_one.feed(part), together.take(part)
        assert b"".join(taken) == b"".join(fed)
        assert together.mid_event == one_by_one.mid_event
        whole = [piece for piece in taken if not isinstance(piece, Fragment)]
        assert len(whole) <= 1 + sum(isinstance(piece, Fragment) for piece in taken)
        for piece in whole:
            read = [data for event in whole_events(piece) if (data := event_data(event)) is not None]
            assert [data for data in events_data(piece) if data] == [data for data in read if data]
    assert together.end() == one_by_one.end()


def test_fragments_flow_without_delay_and_end_with_a_fragment() -> None:
    """A reader of pieces can tell an oversize event's last piece from a whole event, and sees each byte at once."""
    framer = EventFramer(max_held=4)

    def fed(data: bytes) -> tuple[list[tuple[type, bytes]], bool]:
        return [(type(piece), bytes(piece)) for piece in framer.feed(data)], framer.mid_event

    assert fed(b"data") == ([], False)
    assert fed(b":") == ([(Fragment, b"data:")], True)
    assert fed(b"x\n") == ([(Fragment, b"x\n")], True)
    assert fed(b"\ndata: y\n\nda") == ([(Fragment, b"\n"), (bytes, b"data: y\n\n")], False)
    assert fed(b"ta") == ([], False)
    assert fed(b": z") == ([(Fragment, b"data: z")], True)
    assert fed(b"z\n\n") == ([(Fragment, b"z\n\n")], False)
    assert fed(b"data: y\n\n") == ([(bytes, b"data: y\n\n")], False)


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("size", [1, 4_000, 65_535, 65_536, 1 << 20])
@pytest.mark.parametrize("read", [1_000, 65_536, 1 << 21])
def test_events_of_any_size_come_whole(size: int, end: bytes, read: int) -> None:
    """From one byte of data to a megabyte, in small and in large reads."""
    event = b"data: " + b"x" * size + end + end
    stream = event * 3
    framer = EventFramer(max_held=2 << 20)
    parts = [stream[start : start + read] for start in range(0, len(stream), read)]
    assert with_late_lf_rejoined(feed_all(framer, parts)) == [event] * 3
    assert event_data(event) == b"x" * size


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_event_may_come_byte_by_byte(end: bytes) -> None:
    """A quarter of a megabyte in single bytes: work that grew with what is held would not come to an end here."""
    event = b"data: " + b"x" * (1 << 18) + end + end
    framer = EventFramer()
    pieces = [piece for byte in event for piece in framer.feed(bytes([byte]))]
    assert with_late_lf_rejoined(pieces) == [event]


def test_a_single_event_is_passed_on_without_a_copy() -> None:
    """The common case, one whole event a read, hands on the very object."""
    event = b"data: {}\n\n"
    assert EventFramer().feed(event)[0] is event


def test_nothing_fed_is_nothing_given() -> None:
    """An empty read has no meaning, not even between a CR and its LF."""
    framer = EventFramer()
    assert framer.feed(b"") == []
    assert framer.feed(b"data: x\r\r") == [b"data: x\r\r"]
    assert framer.feed(b"") == []
    assert framer.feed(b"\ndata: y\n\n") == [b"\n", b"data: y\n\n"]


def test_the_rest_is_given_up_once() -> None:
    """After `end` the framer holds nothing and starts anew."""
    framer = EventFramer()
    assert framer.feed(b"data: a\n\ndata: b") == [b"data: a\n\n"]
    assert framer.end() == b"data: b"
    assert framer.end() == b""
    assert framer.feed(b"\n\n") == [b"\n", b"\n"]


def test_a_framer_shows_its_state_but_no_content() -> None:
    """What users wrote has no place in a log line."""
    framer = EventFramer()
    framer.feed(b"data: private")
    assert repr(framer) == "<EventFramer held=13 mid_event=False>"


@settings(deadline=None, max_examples=300)
@given(
    st.lists(line, max_size=6),
    st.lists(line_end, min_size=8, max_size=8),
    st.sampled_from([b"", b"\n", b"\xef\xbb\xbf"]),
)
def test_name_and_data_are_read_by_the_book(lines: list[bytes], ends: list[bytes], before: bytes) -> None:
    """Whatever the line ends; behind a CR's late LF or the stream's byte order mark as well."""
    event = before + b"".join(each + end for each, end in zip(lines, ends, strict=False)) + ends[-1]
    assert (event_name(event), event_data(event)) == read_by_the_book(event)


@settings(deadline=None, max_examples=300)
@given(streams, st.lists(st.integers(0, 10_000), max_size=12))
def test_the_openai_library_reads_the_same_events(stream: bytes, places: list[int]) -> None:
    """Clients see, in the pieces passed on, the names and data that the gateway decides by."""
    pieces = feed_all(EventFramer(), split(stream, places))
    ours = [(event_name(piece), event_data(piece)) for piece in pieces if event_data(piece)]
    theirs = [
        (event.event.encode() if event.event else None, event.data.encode())
        for event in SSEDecoder().iter_bytes(iter(pieces))
        if event.data
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x \n\n", b" x "),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data\n\n", b""),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"data: a\rdata: b\n\r\n", b"a\nb"),
        (b": comment\ndata: x\n\n", b"x"),
        (b"data: x\x0b\x0c\xc2\x85y\n\n", b"x\x0b\x0c\xc2\x85y"),
        (b": comment\n\n", None),
        (b"retry: 5\n\n", None),
        (b"event: done\n\n", None),
        (b" data: x\n\n", None),
        (b"\n", None),
        (b"\r\n", None),
        (b"", None),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes | None) -> None:
    """None is not empty: an event without a data line is no event to a reader, one with an empty line is."""
    assert event_data(event) == data


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (b"event: error\ndata: x\n\n", b"error"),
        (b"data: x\nevent:error\n\n", b"error"),
        (b"event: a\revent: b\r\r", b"b"),
        (b"event: a\nevent:\n\n", None),
        (b"data: event\n\n", None),
        (b"data: x\n\n", None),
    ],
)
def test_name_of_an_event(event: bytes, name: bytes | None) -> None:
    """The last line wins, and an empty one takes the name back, as in a browser."""
    assert event_name(event) == name
