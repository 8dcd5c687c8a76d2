"""A translated stream is the same however its bytes arrive, and ends honestly."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.anthropic.translation import MessagesOverChat
from gateway.dialects.base import Usage
from gateway.errors import GatewayError, StreamIncomplete, UpstreamFailed
from gateway.http.memory_budget import Held, Memory
from gateway.proxy.responder import Head
from gateway.proxy.stream.translating import TranslatingResponder
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Model

EVENTS = Head(200, [("content-type", "text/event-stream")], [("x-request-id", "r1")])


class Client:
    """A responder that keeps what it is given."""

    def __init__(self) -> None:
        self.started = False
        self.head: Head | None = None
        self.sent = b""
        self.end: str | None = None

    def on_head(self, head: Head) -> None:
        self.started, self.head = True, head

    def on_heartbeat(self) -> None:
        self.sent += b"beat"

    def on_event(self, data: bytes) -> None:
        self.sent += data

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        self.head, self.sent = head, body

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        self.head, self.sent = head, body

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        self.end = f"{fault.code} {number}"

    def on_end(self, usage: Usage | None) -> None:
        self.end = self.end or "well"


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return json.dumps({"id": "c-1", "model": "m", "choices": choices}, ensure_ascii=False)


def call(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": "t", "arguments": arguments}}]}


PAYLOADS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Hm."}),
    chunk({"content": "Grüße\n\n🙂"}),
    chunk(call(0, '{"a":')),
    chunk(call(1, '{"b":2}')),
    chunk(call(0, "1}")),
    chunk({}, "tool_calls"),
    '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}',
    "[DONE]",
]
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def translating(memory: Held | None = None) -> tuple[Client, TranslatingResponder, UsageMeter]:
    client, meter = Client(), UsageMeter()
    asked = {"max_tokens": 9, "metadata": {}, "messages": [{"role": "user", "content": "Hi"}]}
    translated = MessagesOverChat(asked, Model(id=1, name="m"))
    return client, TranslatingResponder(client, translated, memory, meter), meter


def answered(*pieces: bytes) -> bytes:
    client, responder, _ = translating()
    responder.on_head(EVENTS)
    for piece in pieces:
        responder.on_event(piece)
    responder.on_end(None)
    assert client.end == "well"
    return client.sent


WHOLE = answered("".join(f"data: {payload}\n\n" for payload in PAYLOADS).encode())


@given(LINE_ENDS, st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_at_every_split_of_the_bytes(line_end: str, places: list[int], comments: bool) -> None:
    noise = f": a comment{line_end}" if comments else ""
    data = "".join(f"{noise}data: {payload}{line_end}{line_end}" for payload in PAYLOADS).encode()
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    assert answered(*(data[start:end] for start, end in itertools.pairwise(bounds))) == WHOLE


def test_byte_by_byte() -> None:
    data = "".join(f"data: {payload}\n\n" for payload in PAYLOADS).encode()
    assert answered(*(data[place : place + 1] for place in range(len(data)))) == WHOLE
    assert WHOLE.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_the_head_names_what_was_dropped() -> None:
    client, responder, _ = translating()
    responder.on_head(EVENTS)
    assert client.head is not None
    assert ("x-gateway-dropped", "metadata") in client.head.own


@pytest.mark.parametrize(
    "passed", [[], [("content-type", "application/octet-stream")], [*EVENTS.passed, ("content-encoding", "gzip")]]
)
def test_what_is_no_stream_of_events_is_not_begun(passed: list[tuple[str, str]]) -> None:
    client, responder, _ = translating()
    with pytest.raises(UpstreamFailed):
        responder.on_head(msgspec.structs.replace(EVENTS, passed=passed))
    assert not client.started


def test_a_stream_that_breaks_ends_with_its_error_alone() -> None:
    """In the middle of an event as well, of which nothing went out."""
    client, responder, _ = translating()
    responder.on_head(EVENTS)
    responder.on_event(f"data: {PAYLOADS[2]}\n\ndata: {{".encode())
    responder.on_error(StreamIncomplete("It broke."), None)
    assert client.end == "stream_incomplete 0"
    assert b"message_stop" not in client.sent


def test_nothing_follows_an_error_that_has_been_said() -> None:
    client, responder, meter = translating()
    responder.on_head(EVENTS)
    responder.on_event(f'data: {PAYLOADS[2]}\n\ndata: {{"choices\n\n'.encode())
    assert meter.failed
    said = client.sent
    assert said.endswith(b"\n\n")
    assert b"event: error" in said
    responder.on_event(f"data: {PAYLOADS[2]}\n\n".encode())
    responder.on_error(StreamIncomplete("It broke."), 0)
    assert (client.end, client.sent) == ("well", said)


def test_an_event_that_cannot_be_kept_ends_the_stream() -> None:
    client, responder, meter = translating(Held(Memory(lambda: 0)))
    responder.on_head(EVENTS)
    responder.on_event(b'data: {"choices":[' + b" " * 2**20)
    assert meter.failed
    assert client.sent.startswith(b"event: error")


def test_a_whole_answer_after_a_heartbeat_goes_as_events() -> None:
    client, responder, _ = translating()
    client.started = True
    said = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    responder.on_answer(EVENTS, json.dumps(said).encode(), b"")
    assert client.sent.startswith(b"event: message_start")
    assert client.sent.count(b"message_stop") == 2
