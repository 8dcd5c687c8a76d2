"""A stream of chat completions becomes one of Messages that Anthropic's own library reads to the same answer."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.dialects.anthropic import PING
from gateway.dialects.anthropic.translation import MessageStream, UntranslatableAnswer, message

Json = dict[str, Any]
event_type: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
DONE = b"[DONE]"
ENDS = b"the upstream ends its stream"

texts = st.text(min_size=1, max_size=8)
inputs = st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(st.sampled_from('{}"\\a[]')), max_size=3)


def chunk(delta: Json | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": more.pop("finish", None)} | more.pop("choice", {})
    given: Json = {"id": "chatcmpl-7", "model": "provider/m", "object": "chat.completion.chunk", "choices": [choice]}
    return json.dumps(given | more).encode()


def usage(prompt: int = 100, completion: int = 7, cached: int = 60) -> Json:
    details = {"cached_tokens": cached}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }


def usage_chunk(**counts: int) -> bytes:
    return json.dumps({"choices": [], "usage": usage(**counts)}).encode()


def call(index: int, arguments: str, **more: Any) -> Json:
    name = more.pop("name", None)
    function: Json = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, "function": function} | more]}


def stream(*stops: str) -> MessageStream:
    return MessageStream(otherwise="r1", model="m", prompt_tokens=11, stops=stops)


def translated(*chunks: bytes, stops: tuple[str, ...] = ()) -> bytes:
    translation = stream(*stops)
    return b"".join([translation.feed(each) for each in chunks])


def events_of(data: bytes) -> list[Json]:
    """The events, each of which Anthropic's types take."""
    found = []
    for event in data.split(b"\n\n")[:-1]:
        name, payload = event.split(b"\n")
        parsed = json.loads(payload.removeprefix(b"data: "))
        assert name == b"event: " + parsed["type"].encode()
        if parsed["type"] not in ("ping", "error"):
            event_type.validate_python(parsed, strict=True)
        found.append(parsed)
    return found


def read(data: bytes) -> Message:
    """What the library makes of the events; blocks stand one behind the other."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    opened: int | None = None
    expected = 0
    for event in events_of(data):
        match event["type"]:
            case "ping":
                continue
            case "content_block_start":
                assert opened is None
                assert event["index"] == expected
                opened = expected
            case "content_block_delta":
                assert event["index"] == opened
            case "content_block_stop":
                assert event["index"] == opened
                opened, expected = None, expected + 1
        parsed: Any = event_type.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    assert opened is None
    result: Message = snapshot
    return result


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], str, list[Json]]:
    """Chunks of an answer whose calls may come in turn, its text, and the inputs of its calls."""
    text = draw(st.lists(texts, max_size=4))
    given = draw(st.lists(inputs, max_size=3))
    lanes: list[list[bytes]] = [[chunk({"content": piece}) for piece in text]]
    for index, each in enumerate(given):
        arguments = json.dumps(each)
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        pieces = [arguments[a:b] for a, b in itertools.pairwise([0, *cuts, len(arguments)])]
        lane = [chunk(call(index, "", id=f"call_{index}", name=f"tool_{index}", type="function"))]
        lanes.append(lane + [chunk(call(index, piece)) for piece in pieces])
    chunks = [chunk({"role": "assistant", "content": ""})]
    # Calls begin in the order of their indexes; what follows may come in any.
    order = draw(st.booleans())
    if order:
        chunks += [piece for lane in lanes for piece in lane]
    else:
        heads = [lane.pop(0) for lane in lanes[1:]]
        chunks += heads
        while any(lanes):
            lane = draw(st.sampled_from([lane for lane in lanes if lane]))
            chunks.append(lane.pop(0))
    chunks.append(chunk(finish="tool_calls" if given else "stop"))
    chunks.append(usage_chunk())
    return [*chunks, DONE], "".join(text), given


@given(answers())
def test_the_library_reads_the_same_answer(answer: tuple[list[bytes], str, list[Json]]) -> None:
    chunks, text, given = answer
    result = read(translated(*chunks))
    assert "".join(block.text for block in result.content if block.type == "text") == text
    assert [block.input for block in result.content if block.type == "tool_use"] == given
    assert [block.id for block in result.content if block.type == "tool_use"] == [
        f"call_{index}" for index in range(len(given))
    ]
    assert result.stop_reason == ("tool_use" if given else "end_turn")
    counted = result.usage
    assert (counted.input_tokens, counted.cache_read_input_tokens, counted.output_tokens) == (40, 60, 7)


@given(answers())
def test_a_whole_answer_is_the_same_message(answer: tuple[list[bytes], str, list[Json]]) -> None:
    _, text, given = answer
    calls = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": f"tool_{index}", "arguments": json.dumps(each)},
        }
        for index, each in enumerate(given)
    ]
    said = {"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if given else "stop"}
    body = json.dumps({"id": "chatcmpl-7", "model": "provider/m", "choices": [choice], "usage": usage()}).encode()
    result = Message.model_validate_json(message(body, otherwise="r1", model="m", prompt_tokens=11), strict=True)
    streamed = read(stream().whole(body))
    assert "".join(block.text for block in result.content if block.type == "text") == text
    assert [block.input for block in result.content if block.type == "tool_use"] == given
    keys = {"id", "content", "model", "stop_reason", "usage"}
    assert result.model_dump(include=keys, exclude_none=True) == streamed.model_dump(include=keys, exclude_none=True)


def test_each_piece_goes_out_with_the_chunk_that_brought_it() -> None:
    translation = stream()
    first = events_of(translation.feed(chunk({"content": "Hel"})))
    assert [event["type"] for event in first] == ["message_start", "content_block_start", "content_block_delta"]
    assert [event["delta"]["text"] for event in events_of(translation.feed(chunk({"content": "lo"})))] == ["lo"]
    begun = events_of(translation.feed(chunk(call(0, "", id="c", name="t"))))
    assert [event["type"] for event in begun] == ["content_block_stop", "content_block_start"]
    assert events_of(translation.feed(chunk(call(0, '{"a"'))))[0]["delta"]["partial_json"] == '{"a"'
    assert events_of(translation.feed(chunk(call(0, ":1}"))))[0]["delta"]["partial_json"] == ":1}"
    following = events_of(translation.feed(chunk(call(1, "{", id="d", name="u"))))
    assert [event["type"] for event in following] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def test_usage_stands_at_both_ends_and_is_counted_once() -> None:
    events = events_of(translated(chunk({"content": "Hi"}), chunk(finish="stop"), usage_chunk(), DONE))
    assert events[0]["message"]["usage"]["input_tokens"] == 11  # the estimate: nothing is reported yet
    assert events[-2]["usage"] == {
        "input_tokens": 40,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
    }


def test_a_stream_that_has_finished_needs_no_done() -> None:
    translation = stream()
    data = translation.feed(chunk({"content": "Hi"})) + translation.feed(chunk(finish="stop"))
    assert read(data + translation.feed(usage_chunk()) + translation.end()).usage.output_tokens == 7


def test_without_a_report_it_is_estimated() -> None:
    events = events_of(translated(chunk({"content": "x" * 40}), chunk(finish="stop"), DONE))
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (11, 10)


@pytest.mark.parametrize(
    ("finish", "delta", "reason"),
    [
        ("stop", {"content": "a"}, "end_turn"),
        ("length", {"content": "a"}, "max_tokens"),
        ("content_filter", {"content": "a"}, "refusal"),
        ("stop", {"refusal": "No."}, "refusal"),
        ("tool_calls", call(0, "{}", id="c", name="t"), "tool_use"),
        ("stop", call(0, "{}", id="c", name="t"), "tool_use"),
        ("something_new", {"content": "a"}, "end_turn"),
    ],
)
def test_stop_reasons(finish: str, delta: Json, reason: str) -> None:
    assert read(translated(chunk(delta), chunk(finish=finish), DONE)).stop_reason == reason
    said = {"content": None} | delta
    body = json.dumps({"choices": [{"message": said, "finish_reason": finish}]}).encode()
    whole = Message.model_validate_json(message(body, otherwise="r1", model="m", prompt_tokens=11))
    assert whole.stop_reason == reason


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_a_stop_sequence_is_named_where_the_upstream_names_it(name: str) -> None:
    end = chunk(finish="stop", choice={name: "END"})
    result = read(translated(chunk({"content": "a"}), end, DONE, stops=("END",)))
    assert (result.stop_reason, result.stop_sequence) == ("stop_sequence", "END")
    other = read(translated(chunk({"content": "a"}), chunk(finish="stop", choice={name: 5}), DONE, stops=("END",)))
    assert (other.stop_reason, other.stop_sequence) == ("end_turn", None)


def test_calls_without_an_index_or_all_with_index_0_stay_apart() -> None:
    one = {"tool_calls": [{"id": "a", "function": {"name": "t", "arguments": '{"n":1}'}}]}
    two = {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "t", "arguments": '{"n":2}'}}]}
    result = read(translated(chunk(one), chunk(two), chunk(finish="tool_calls"), DONE))
    assert [block.input for block in result.content if block.type == "tool_use"] == [{"n": 1}, {"n": 2}]


def test_a_call_without_arguments_has_an_empty_input() -> None:
    result = read(
        translated(
            chunk(call(0, "", id="a", name="t")),
            chunk(call(1, '{"n":2}', id="b", name="t")),
            chunk(finish="tool_calls"),
            DONE,
        )
    )
    assert [block.input for block in result.content if block.type == "tool_use"] == [{}, {"n": 2}]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_signs_of_life(name: str) -> None:
    data = translated(chunk({name: "Hm."}), chunk({"content": "Hi"}), chunk(finish="stop"), DONE)
    assert data.count(PING) == 1
    assert [block.model_dump(include={"type", "text"}) for block in read(data).content] == [
        {"type": "text", "text": "Hi"}
    ]


def test_an_error_event_ends_the_stream_with_one_of_anthropics() -> None:
    error = json.dumps({"error": {"message": "It is too much.", "type": "overloaded_error", "code": 529}}).encode()
    events = events_of(translated(chunk({"content": "Hi"}), error, chunk({"content": "there"}), DONE))
    assert events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "It is too much.", "code": 529},
    }
    assert [event["type"] for event in events[-2:]] == ["content_block_delta", "error"]


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "Hi"}), b'{"choices":'],
        [chunk(call(0, "{}", id="c")), DONE],
        [DONE],
        [chunk({"content": "Hi"}), ENDS],
        [chunk(call(0, "{}", id="c", name="t")), chunk(call(1, "{", id="d", name="t")), chunk(call(0, "{}"))],
    ],
)
def test_what_is_no_answer_ends_with_an_error(chunks: list[bytes]) -> None:
    translation = stream()
    data = b"".join([translation.end() if each is ENDS else translation.feed(each) for each in chunks])
    last = events_of(data)[-1]
    assert (last["type"], last["error"]["type"], last["error"]["code"]) == ("error", "api_error", "stream_incomplete")


def test_arguments_cut_by_the_bound() -> None:
    """They flow as they came; as a whole there is no such call, for nobody may run it with half of its input."""
    data = translated(chunk(call(0, '{"path":"/et', id="c", name="t")), chunk(finish="length"), DONE)
    assert events_of(data)[-2]["delta"]["stop_reason"] == "max_tokens"
    said = {"content": "I will.", "tool_calls": [{"id": "c", "function": {"name": "t", "arguments": '{"path":"/et'}}]}
    body = {"choices": [{"message": said, "finish_reason": "length"}]}
    whole = json.loads(message(json.dumps(body).encode(), otherwise="r1", model="m", prompt_tokens=11))
    assert (whole["content"], whole["stop_reason"]) == ([{"type": "text", "text": "I will."}], "max_tokens")
    body["choices"][0]["finish_reason"] = "tool_calls"
    with pytest.raises(UntranslatableAnswer):
        message(json.dumps(body).encode(), otherwise="r1", model="m", prompt_tokens=11)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{}]}'])
def test_a_body_that_is_no_completion_is_no_message(body: bytes) -> None:
    with pytest.raises(UntranslatableAnswer):
        message(body, otherwise="r1", model="m", prompt_tokens=11)
