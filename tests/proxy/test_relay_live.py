"""What passes of a stream that has begun, and whether it is whole, wherever its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.answers import DONE, delta, event, usage_only

from gateway.dialects.openai import CHAT_END_SIGNS, END_SIGNS
from gateway.proxy.stream.live import Live
from gateway.proxy.usage_meter import UsageMeter

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
COMPACT_FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
LITELLM = event({"choices": [{"index": 0, "delta": {}}], "usage": USAGE})
NO_CHOICES = event({"id": "c", "usage": USAGE})
NULL_CHOICES = event({"choices": None, "usage": USAGE})
NULL_USAGE = event({"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": None})
BESIDE_TEXT = event({"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": USAGE})
LAST_OF_RESPONSES = ("response.completed", "response.failed", "response.incomplete")
LAST_OF_OTHERS = (
    "message_stop",
    "image_generation.completed",
    "image_edit.completed",
    "transcript.text.done",
    "speech.audio.done",
)


def live(*, chat: bool = True, take_usage_out: bool = True) -> Live:
    signs = CHAT_END_SIGNS if chat else END_SIGNS
    return Live(UsageMeter(), signs, is_numbered=not chat, take_usage_out=take_usage_out)


def passed_at_every_cut(said: bytes, *, take_usage_out: bool = True) -> set[bytes]:
    passed = set()
    for at in range(len(said) + 1):
        stream = live(take_usage_out=take_usage_out)
        passed.add(stream.feed(said[:at]) + stream.feed(said[at:]) + stream.end())
    stream = live(take_usage_out=take_usage_out)
    passed.add(b"".join([stream.feed(said[at : at + 1]) for at in range(len(said))]) + stream.end())
    return passed


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("events", "ours"),
    [
        ([delta("a"), usage_only(), DONE], usage_only()),
        ([delta("a"), NO_CHOICES, DONE], NO_CHOICES),
        ([delta("a"), NULL_CHOICES, DONE], NULL_CHOICES),
        ([delta("a"), FINISH, LITELLM, DONE], LITELLM),
        ([delta("a"), COMPACT_FINISH, b": x\n\n", LITELLM, DONE], LITELLM),
        ([delta("a"), LITELLM, FINISH, DONE], None),
        ([NULL_USAGE, FINISH, DONE], None),
        ([FINISH, BESIDE_TEXT, DONE], None),
    ],
)
def test_the_event_that_only_we_had_asked_for_is_taken_out(events: list[bytes], ours: bytes | None, end: bytes) -> None:
    """And everything else is the client's, byte for byte, at every cut."""
    said = b"".join(events).replace(b"\n", end)
    left = b"".join(each for each in events if each != ours).replace(b"\n", end)
    assert passed_at_every_cut(said) == {left}
    assert passed_at_every_cut(said, take_usage_out=False) == {said}


def test_a_usage_event_without_its_blank_line_is_ours_too() -> None:
    assert passed_at_every_cut(delta("a") + usage_only()[:-1]) == {delta("a")}


def lasts() -> list[tuple[bytes, bool]]:
    named = [event({"sequence_number": 9, "n": 1}, name=name) for name in (*LAST_OF_RESPONSES, *LAST_OF_OTHERS)]
    typed = [event({"response": {}, "type": name}) for name in (*LAST_OF_RESPONSES, *LAST_OF_OTHERS)]
    return [(each, False) for each in (*named, *typed, DONE)] + [(DONE, True), (b"data:[DONE]\r\n\r\n", True)]


@pytest.mark.parametrize(("last", "chat"), lasts())
def test_a_stream_that_has_said_its_last_is_whole(last: bytes, chat: bool) -> None:
    """Not a byte sooner; what follows and is no whole event is dropped where the connection breaks."""
    said = delta("a") + last
    for at in range(len(said)):
        stream = live(chat=chat)
        stream.feed(said[:at])
        assert not stream.is_whole or said[at:] == b"\n"
        stream.feed(said[at:])
        assert stream.is_whole
        stream.feed(b"data: x")
        assert stream.last_words() == b""


def test_the_last_event_may_lack_its_blank_line() -> None:
    """A connection that breaks behind `data: [DONE]` breaks nothing."""
    for rest in (b"data: [DONE]", b"data: [DONE]\n"):
        stream = live()
        stream.feed(delta("a") + rest)
        assert stream.last_words() == rest
    stream = live()
    stream.feed(delta("a") + b"data: [DON")
    assert stream.last_words() is None


@pytest.mark.parametrize(
    "text", ["[DONE]", "response.completed", 'say "type":"response.completed"', "transcript.text.done", "message_stop"]
)
def test_words_of_the_answer_end_nothing(text: str) -> None:
    for chat in (True, False):
        stream = live(chat=chat)
        stream.feed(delta(text) + event({"type": "response.output_text.delta", "delta": text}))
        assert not stream.is_whole
        assert stream.last_words() is None


@pytest.mark.parametrize("size", [4096, 65536, 1 << 20])
def test_a_last_event_too_large_to_hold_ends_the_stream_with_its_end(size: int) -> None:
    for start in (b"event: response.completed\ndata: {", b'data: {"type": "response.completed",'):
        said = start + b'"x":"' + b"x" * (3 << 20) + b'"}\n\n'
        stream, passed = live(chat=False), b""
        for at in range(0, len(said), size):
            assert not stream.is_whole
            passed += stream.feed(said[at : at + size])
        assert stream.is_whole
        assert passed == said


def test_a_stream_that_breaks_within_a_large_event_is_not_whole() -> None:
    stream = live(chat=False)
    stream.feed(b"event: response.completed\ndata: " + b"x" * (2 << 20))
    assert stream.mid_event
    assert stream.last_words() is None


def test_the_number_of_an_event_that_would_follow() -> None:
    stream = live(chat=False)
    assert stream.next_number == 0
    stream.feed(event({"type": "response.created", "sequence_number": 0}))
    stream.feed(b'data: {"sequence_number" : 41 }\n\n: ping\n\n')
    assert stream.next_number == 42
    stream.feed(b'data: {"sequence_number":"x"}\n\n')
    assert stream.next_number == 0


def test_bytes_that_are_no_utf8_pass_as_they_are() -> None:
    """Wherever in an event they stand: a model's text may be cut within a character."""
    for event_ in (
        delta("@"),
        LITELLM,
        NO_CHOICES,
        event({"type": "@", "usage": {"x": "@"}, "choices": [{"text": "@"}]}),
    ):
        said = event_.replace(b"@", b"\xf0\x9f")
        stream = live()
        assert stream.feed(FINISH + said + DONE).endswith(DONE)
        assert stream.is_whole


parts = st.sampled_from(
    [delta("a"), FINISH, LITELLM, NO_CHOICES, usage_only(), DONE, b": x\n\n", b"\n", b"data: 1\r\n\r\n"]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(parts, max_size=6), st.data())
def test_no_cut_changes_what_passes(events: list[bytes], data: st.DataObject) -> None:
    said = b"".join(events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=5)))
    whole, cut = live(), live()
    passed = b"".join([cut.feed(said[start:end]) for start, end in pairwise([0, *cuts, len(said)])]) + cut.end()
    assert passed == whole.feed(said) + whole.end()
    assert cut.is_whole == whole.is_whole
