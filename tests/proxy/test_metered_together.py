"""Events that are read many at a time count what each of them counts alone."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.anthropic.message_contents import MESSAGES_READER
from gateway.dialects.base import UsageReader
from gateway.dialects.openai import END_SIGNS, USAGE_READER
from gateway.http.sse import whole_events
from gateway.proxy.stream.live import Live
from gateway.proxy.usage_meter import UsageMeter

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
texts = st.text(max_size=12) | st.sampled_from(["", "é", "\n\ndata: {}", '"usage":', "complete", "\u2028"])
words = (
    st.fixed_dictionaries({"content": texts | st.none()})
    | st.fixed_dictionaries({"reasoning_content": texts, "content": st.none()})
    | st.fixed_dictionaries(
        {"tool_calls": st.lists(st.fixed_dictionaries({"function": st.just({"arguments": "{1}"})}))}
    )
    | st.sampled_from([{}, None, {"content": [{"text": "odd"}]}, {"refusal": "no"}])
)
chunk_fields: dict[str, st.SearchStrategy[Any]] = {
    "usage": st.none() | st.just(USAGE),
    "service_tier": st.none() | st.sampled_from(["flex", "default"]),
    "error": st.sampled_from([None, {}, {"message": "broken"}]),
    "type": st.sampled_from([None, "error", "response.completed"]),
    "delta": texts,
}
chunks = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"delta": words}), max_size=2)}, optional=chunk_fields
)
plain_chunks = st.fixed_dictionaries({"choices": st.just([{"delta": {"content": "Hi, é"}}])})
deltas = st.fixed_dictionaries(
    {"type": st.sampled_from(["response.output_text.delta", "error", "response.audio.delta"]), "delta": texts},
    optional={"usage": st.just(USAGE), "response": st.just({"service_tier": "flex", "usage": USAGE})},
)
blocks = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["content_block_delta", "content_block_delta", "message_delta"]),
        "delta": st.fixed_dictionaries({"text": texts}) | st.fixed_dictionaries({"thinking": texts}) | st.just({}),
    },
    optional={"usage": st.just({"output_tokens": 5}), "error": st.just({"type": "api_error"})},
)
HEADS = ["data: ", "data:", "event: response.output_text.delta\ndata: ", "event: content_block_delta\ndata: "]
ODD = [b": ping\n\n", b"data: [DONE]\n\n", b"\n", b"event: error\ndata: {}\n\n", b'data: {"a":\ndata: 1}\n\n']


def events_of(bodies: st.SearchStrategy[Any], *heads: str) -> st.SearchStrategy[list[bytes]]:
    told = st.tuples(st.sampled_from(heads), bodies).map(lambda each: f"{each[0]}{json.dumps(each[1])}\n\n".encode())
    return st.lists(told | st.sampled_from(ODD), max_size=30) | st.lists(told, min_size=10, max_size=60)


def counted(meter: UsageMeter) -> tuple[object, ...]:
    meter.conclude()
    return meter.usage, meter.text_bytes, meter.failed, meter.ended, meter.service_tier, meter.tools, meter.images


@pytest.mark.parametrize("reader", [USAGE_READER, MESSAGES_READER], ids=["openai", "anthropic"])
@settings(max_examples=50)
@given(
    events=events_of(chunks, *HEADS[:2])
    | events_of(plain_chunks, HEADS[0])
    | events_of(deltas, HEADS[0], HEADS[2])
    | events_of(blocks, HEADS[0], HEADS[3]),
    data=st.data(),
)
def test_it_is_the_same_alone_and_together(reader: UsageReader, events: list[bytes], data: st.DataObject) -> None:
    """However the reads cut them, and whatever kinds come in whichever order."""
    said = b"".join(events)
    alone = UsageMeter(reader)
    for event in whole_events(said):
        alone.events(event)
    ends = list(itertools.accumulate(map(len, events)))
    cuts = sorted(data.draw(st.sets(st.sampled_from(ends) | st.integers(0, len(said))))) if ends else []
    together = UsageMeter(reader)
    live = Live(together, END_SIGNS, is_numbered=False, take_usage_out=False)
    passed = b"".join([live.feed(said[a:b]) for a, b in itertools.pairwise([0, *cuts, len(said)])]) + live.end()
    assert passed == said
    assert counted(together) == counted(alone)


ENVELOPES = [
    (b'data: {"choices":[{"index":0,"delta":{"content":"', b'"},"finish_reason":null}],"service_tier":"flex"}\n\n'),
    (b'data: {"choices": [{"index": 0, "delta": {"content": "', b'"}}], "created": 7}\n\n'),
    (b'data: {"choices":[{"delta":{"content":"', b'"}},{"delta":{"content":"twice"}}]}\n\n'),
    (b'data: {"choices":[{"delta":{"content":null,"refusal":"', b'"}}]}\n\n'),
    (b'data: {"choices":[{"delta":{"content":"more"}}],"note":{"content":"', b'"}}\n\n'),
    (b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"', b'"}}\n\n'),
    (b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"thinking": "', b'"}}\n\n'),
]
said = st.text(max_size=9).map(str.encode) | st.sampled_from(
    [b"", b"\xc3", b"\xa9", b"\xc3\xa9", b'"', b"\\n", b"\\", b'"}}]}\n\ndata: {"a":"', b"\t", b"\x7f", b"\xff"]
)


@pytest.mark.parametrize("reader", [USAGE_READER, MESSAGES_READER], ids=["openai", "anthropic"])
@settings(max_examples=100)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from(ENVELOPES), st.lists(said, min_size=1, max_size=60)), min_size=1, max_size=6
    ),
    data=st.data(),
)
def test_events_that_differ_in_their_text_alone_count_that_text(
    reader: UsageReader, runs: list[tuple[tuple[bytes, bytes], list[bytes]]], data: st.DataObject
) -> None:
    """As they would one by one: with escapes, bytes that are no UTF-8, texts that end their event, others between."""
    events = [head + text + tail for (head, tail), texts in runs for text in texts]
    alone, together = UsageMeter(reader), UsageMeter(reader)
    for event in whole_events(b"".join(events)):
        alone.events(event)
    live = Live(together, END_SIGNS, is_numbered=False, take_usage_out=False)
    while events:
        count = data.draw(st.integers(1, 12))
        live.feed(b"".join(events[:count]))
        del events[:count]
        live.catch_up()
    assert counted(together) == counted(alone)


def test_a_stream_of_one_kind_is_decoded_once() -> None:
    """All later events are known by what stands around their text."""
    decoded: list[bytes] = []

    def texts(events: bytes) -> Any:
        decoded.append(events)
        assert USAGE_READER.texts is not None
        return USAGE_READER.texts(events)

    meter = UsageMeter(msgspec.structs.replace(USAGE_READER, texts=texts))
    head, tail = ENVELOPES[0]
    for word in ("first", "second", "thïrd"):
        meter.waiting += [head + word.encode() + tail] * 8
        meter.catch_up()
    assert decoded[0].count(b"first") == 8
    assert not any(b"second" in each for each in decoded)
    assert (meter.text_bytes, meter.service_tier) == (8 * len("firstsecondthïrd".encode()), "flex")
