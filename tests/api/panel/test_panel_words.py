"""The logic under the panel's routes, without a socket: bodies, tiers, replies, streams cut anywhere."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.panel import ChatBody, StudioBody, Transcript, chat_completion, reaches, read_as, studio_completion
from gateway.api.panel.replies import parsed, transcript_of
from gateway.api.panel.responders import Listener
from gateway.dialects.openai import read_body
from gateway.errors import InvalidJson, InvalidRequest

STREAM = [("content-type", "text/event-stream")]
TIERS = ("free", "paid", "enterprise")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
text_with_halves = st.text(st.characters(codec=None) | st.sampled_from(["\ud83d", "\ude00", "😀"]), max_size=6)
said = st.none() | text_with_halves | st.lists(st.fixed_dictionaries({"text": text_with_halves | anything})) | anything
message = anything | st.fixed_dictionaries(
    {}, optional={"content": said, "refusal": said, "tool_calls": anything, "function_call": anything}
)
choice = anything | st.fixed_dictionaries(
    {}, optional={"message": message, "delta": message, "text": said, "finish_reason": anything}
)
document = st.fixed_dictionaries({}, optional={"choices": anything | st.lists(choice, max_size=2)})


# --- bodies


@given(raw=st.binary(max_size=60) | anything.map(json.dumps).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_body_or_a_refusal(raw: bytes) -> None:
    """Nothing but a refusal comes out of a bad body: there is no way to a 500."""
    for shape in (ChatBody, StudioBody):
        asked, refused = None, ""
        try:
            read = read_as(shape, read_body(raw).fields)
            if isinstance(read, StudioBody):
                studio_completion(read)
            asked = read
        except (InvalidJson, InvalidRequest) as refusal:
            refused = refusal.message
        assert refused.endswith(".") if asked is None else asked.message or isinstance(asked, StudioBody)


@given(
    turns=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), max_size=4),
    prompt=st.none() | st.text(),
    said=st.text(min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_a_conversation_survives_being_written_down(
    turns: list[tuple[str, str]], prompt: str | None, said: str
) -> None:
    """What is sent upstream reads as what was asked: order, roles and every character."""
    history = [{"role": role, "content": content} for role, content in turns]
    asked = read_as(ChatBody, {"message": said, "systemPrompt": prompt, "history": history})
    body = chat_completion(asked, max_tokens=9)
    sent = read_body(body.rewritten("provider/name")).fields
    first = [{"role": "system", "content": prompt}] if prompt else []
    assert sent["messages"] == [*first, *history, {"role": "user", "content": said}]
    assert sent == body.fields | {"model": "provider/name"}


# --- tiers


@pytest.mark.parametrize(
    ("tier", "required", "reached"),
    [
        ("free", "free", True),
        ("free", "paid", False),
        ("paid", "paid", True),
        ("enterprise", "paid", True),
        ("paid", "enterprise", False),
        ("unheard-of", "free", True),
        ("unheard-of", "paid", False),
        ("", "paid", False),
    ],
)
def test_tiers_are_compared_by_their_order(tier: str, required: str, reached: bool) -> None:
    """A tier that nobody listed counts as the lowest."""
    assert reaches(tier, required, TIERS) is reached


# --- replies


@given(documents=st.lists(document, max_size=4))
@settings(max_examples=300, deadline=None)
def test_whatever_is_heard_there_is_a_reply(documents: list[dict[str, Any]]) -> None:
    """It is never blank, can be written as UTF-8, and is the sum of its pieces."""
    transcript = Transcript()
    pieces = [transcript.add(each) for each in documents] + [transcript.conclude()]
    assert transcript.reply == "".join(pieces)
    assert transcript.reply.strip()
    assert transcript.reply.encode("utf-8")


@given(text=st.text(min_size=1).filter(str.strip), cuts=st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=200, deadline=None)
def test_text_cut_anywhere_within_its_utf16_comes_back_whole(text: str, cuts: list[int]) -> None:
    """Half a pair at the end of one piece finds its other half at the start of the next."""
    units = text.encode("utf-16-le")
    edges = sorted({0, len(units), *(2 * cut for cut in cuts if 2 * cut < len(units))})
    transcript = Transcript()
    for start, end in pairwise(edges):
        transcript.add_text(units[start:end].decode("utf-16-le", "surrogatepass"))
    transcript.conclude()
    assert transcript.reply == text


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"<html>", b'{"choices":null}', b"[" * 100_000])
def test_what_is_no_chat_completion_has_no_transcript(body: bytes) -> None:
    """So that the caller is told of a failure instead of a made-up silence."""
    assert transcript_of(body) is None


@given(payload=st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_payload_is_an_object_or_nothing(payload: bytes) -> None:
    """A reader within a stream may never raise."""
    assert parsed(payload) is None or isinstance(parsed(payload), dict)


def test_a_tools_name_cannot_fill_the_page() -> None:
    """Names come from the upstream: few of them are shown, short and printable."""
    calls = [{"function": {"name": "evil\n\u202e" * 100}}] * 50
    transcript = Transcript()
    transcript.add({"choices": [{"message": {"tool_calls": calls}}]})
    transcript.conclude()
    assert len(transcript.reply) < 400
    assert "\n" not in transcript.reply
    assert "\u202e" not in transcript.reply


# --- streams


def heard(pieces: list[bytes]) -> tuple[str, str | None]:
    """The reply and the fault's code of a stream that comes in these pieces."""
    listener = Listener()
    listener.begin(200, STREAM)
    texts = [text for piece in pieces for text in listener.feed(piece)] + listener.end()
    fault = listener.fault.code if listener.fault is not None else None
    if fault is None:
        assert "".join(text for text in texts if text) == listener.transcript.reply
    return listener.transcript.reply, fault


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode() + b"\n\n"


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"", b"data: [DONE]"])
def test_a_stream_reads_the_same_wherever_it_is_cut(end: bytes) -> None:
    """Within an emoji, within a line's end, within `[DONE]`; a last event without its blank line counts as well."""
    stream = b": hello\n\n" + chunk("Smile 😀, ") + chunk("Zürich").replace(b"\n\n", b"\r\n\r\n") + end
    for cut in range(len(stream) + 1):
        assert heard([stream[:cut], stream[cut:]]) == ("Smile 😀, Zürich", None)
    assert heard([stream[at : at + 1] for at in range(len(stream))]) == ("Smile 😀, Zürich", None)


@given(events=st.lists(document.map(lambda each: b"data: " + json.dumps(each).encode() + b"\n\n") | st.binary()))
@settings(max_examples=200, deadline=None)
def test_no_stream_makes_the_listener_raise(events: list[bytes]) -> None:
    """An exception in a sink would look like a fault of the upstream's connection."""
    reply, fault = heard(events)
    assert fault is not None or reply.strip()


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([b'data: {"error":{"code":"stream_incomplete"}}\n\n'], "stream_incomplete"),
        ([b'data: {"error":{"code":"upstream_error"}}\n\n'], "ai_unavailable"),
        ([b'data: {"error":"in words"}\n\n'], "ai_unavailable"),
        ([b'event: error\ndata: {"odd":1}\n\n'], "ai_unavailable"),
        ([chunk("Well"), b'data: {"error":{"code":"upstream_error"}}\n\n'], "stream_incomplete"),
        ([chunk("Well"), b'data: {"error":{}}\n\n', chunk("and on")], "stream_incomplete"),
    ],
)
def test_an_error_event_is_a_fault_of_the_stream(events: list[bytes], code: str) -> None:
    """As the first event it says that there is no answer; later, that the answer broke off."""
    reply, fault = heard(events)
    assert (fault, "and on" in reply) == (code, False)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, [("content-type", "application/json")]), (400, STREAM), (200, [*STREAM, ("content-encoding", "gzip")])],
)
def test_what_is_no_plain_event_stream_is_not_listened_to(status: int, headers: list[tuple[str, str]]) -> None:
    """It ends as a fault, whatever is in it."""
    listener = Listener()
    listener.begin(status, headers)
    assert listener.feed(chunk("Hi")) + listener.end() == []
    assert listener.fault is not None
    assert listener.fault.code == "ai_unavailable"


def test_an_endless_reply_is_given_up() -> None:
    """What is held of a reply has a bound, however long the upstream goes on."""
    listener = Listener()
    listener.begin(200, STREAM)
    long = chunk("x" * (4 << 20))
    for _ in range(6):
        listener.feed(long)
    assert listener.fault is not None
    assert listener.fault.code == "stream_incomplete"
    assert len(listener.transcript.reply) <= 20 << 20
