"""Reading Anthropic's messages: whatever an upstream says, nothing is counted twice and nothing breaks."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.anthropic import (
    contents_of_message,
    error_body,
    joined_usage,
    message_as_events,
    read_message_report,
    refusal_event,
)
from gateway.errors import FeatureDisabled, ModelNotFound, RateLimited, UpstreamTimedOut
from gateway.http.sse import events_data

COUNTS = st.one_of(st.none(), st.integers(0, 10**6), st.integers(0, 10**6).map(str), st.floats(0, 10**6))
NAMES = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
REPORTS = st.dictionaries(st.sampled_from(NAMES), COUNTS)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, st.text())
JSON = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=8)
FIELDS = st.sampled_from(("type", "delta", "content_block", "message", "content", "usage", "error"))
INNER = st.dictionaries(st.sampled_from(("text", "thinking", "partial_json", "input", "usage", "content")), JSON)


@given(st.dictionaries(FIELDS, st.one_of(JSON, INNER, st.lists(INNER), REPORTS)))
def test_any_object_is_read(event: dict[str, Any]) -> None:
    contents = contents_of_message(json.dumps(event).encode())
    assert contents is not None
    assert contents.text_bytes >= 0


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_passed_over(data: bytes) -> None:
    contents_of_message(data)


@given(REPORTS, REPORTS)
def test_the_last_of_each_field_counts(first: dict[str, Any], second: dict[str, Any]) -> None:
    """As if one report had said it all; one that is all zero says nothing."""
    joined = joined_usage(read_message_report(first), read_message_report(second))
    later = read_message_report(second)
    at_once = first | {name: count for name, count in second.items() if count is not None}
    expected = read_message_report(at_once if later is not None and later.total_tokens else first) or later
    parts = [(each.prompt_tokens, each.completion_tokens) if each else None for each in (joined, expected)]
    if read_message_report(first) is not None or later is None:
        assert parts[0] == parts[1]


def test_a_joined_report_keeps_its_kinds() -> None:
    begun = {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}}
    told = {"output_tokens": 4, "server_tool_use": {"web_search_requests": 5}}
    usage = joined_usage(read_message_report(begun | {"output_tokens": 1}), read_message_report(told))
    assert usage is not None
    assert usage.details is not None
    kinds = usage.details.cache_write_tokens, usage.details.cache_write_1h_tokens, usage.details.web_search
    assert (usage.prompt_tokens, usage.completion_tokens, *kinds) == (6, 4, 2, 3, 5)


BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "é\n"},
    {"type": "text", "text": ""},
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1, {"b": "c"}]}},
    {"type": "tool_use", "id": "t", "name": "n", "input": {}},
]


@given(st.lists(st.sampled_from(BLOCKS)))
def test_a_whole_message_and_its_events_say_the_same(blocks: list[dict[str, Any]]) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    whole = {"id": "m", "type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn"}
    events = message_as_events(orjson.dumps(whole | {"usage": usage, "stop_sequence": None}))
    assert events is not None
    told = [orjson.loads(data) for data in events_data(events)]
    assert [told[0]["type"], told[-2]["type"], told[-1]["type"]] == ["message_start", "message_delta", "message_stop"]
    assert told[0]["message"]["content"] == []
    assert (told[-2]["delta"]["stop_reason"], told[-2]["usage"]) == ("end_turn", usage)
    assert put_together(told) == blocks


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a client does."""
    blocks: list[dict[str, Any]] = []
    written: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            kind = delta["type"].removesuffix("_delta")
            if kind == "input_json":
                written[event["index"]] = written.get(event["index"], "") + delta["partial_json"]
            else:
                block[kind] += delta[kind]
    for index, text in written.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content":"x"}', b'{"type":"error","error":{}}', b"\xff"])
def test_what_is_no_message_becomes_no_events(body: bytes) -> None:
    assert message_as_events(body) is None


def test_errors() -> None:
    told = orjson.loads(error_body(ModelNotFound("No such \ud800.", param="model"), "r-1"))
    error = {"type": "not_found_error", "message": "No such ?.", "code": "model_not_found", "param": "model"}
    assert told == {"type": "error", "error": error, "request_id": "r-1"}
    kinds = [orjson.loads(error_body(fault("x"), None))["error"]["type"] for fault in (RateLimited, UpstreamTimedOut)]
    assert kinds == ["rate_limit_error", "timeout_error"]
    assert error_body(FeatureDisabled("off"), "r-1") == b'{"error":"feature_disabled"}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"type":"x","message":"m"},"request_id":"up"}', {"type": "x", "message": "m"}),
        (b'{"error":"m"}', {"type": "invalid_request_error", "message": "m"}),
        (b"<html>", {"type": "invalid_request_error", "message": "<html>"}),
        (b'{"message":"m"}', {"type": "invalid_request_error", "message": "m"}),
    ],
)
def test_a_refusal_as_an_event(body: bytes, expected: dict[str, str]) -> None:
    event = refusal_event(body)
    assert event.startswith(b"event: error\ndata: ")
    assert orjson.loads(events_data(event)[0])["error"] == expected
