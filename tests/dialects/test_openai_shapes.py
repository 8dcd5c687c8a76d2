"""Errors, models and events have the shapes that clients know, and upstreams' are recognised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from gateway import errors
from gateway.dialects.openai import (
    Usage,
    contents_of,
    error_body,
    error_event,
    flat_error_body,
    is_error_body,
    is_error_payload,
    is_usage_only,
    may_bear_usage,
    model_entry,
    models_list,
    printable,
    usage_of,
)

CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
RESPONSES_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 15,
}
ALL_COUNTS = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15, cached_tokens=4, reasoning_tokens=2)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["usage", "response", "choices", "error", "type", "prompt_tokens"]), inner)
    ),
    max_leaves=5,
)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_an_error_has_the_openai_shape() -> None:
    """Message, type, param and code, and nothing else."""
    error = errors.ModelNotFound("No such model: é.", param="model")
    assert json.loads(error_body(error)) == {
        "error": {
            "message": "No such model: é.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert json.loads(error_body(errors.Overloaded("Busy.")))["error"]["param"] is None


def test_a_feature_that_is_off_says_exactly_so() -> None:
    """Panels compare these bytes."""
    assert error_body(errors.FeatureDisabled("off")) == b'{"error":"feature_disabled"}'


def test_the_panel_gets_flat_errors() -> None:
    """`error` is the code there, not an object."""
    assert flat_error_body("tier_required", "Paid only.") == b'{"error":"tier_required","message":"Paid only."}'


def test_text_that_utf8_cannot_hold_does_not_break_an_error() -> None:
    """Paths and headers may bring lone surrogates; an answer about them is still an answer."""
    broken = "no \udcff"
    assert json.loads(error_body(errors.RouteNotFound(broken, param=broken)))["error"]["message"] == "no ?"
    assert json.loads(flat_error_body("x", broken))["message"] == "no ?"


def test_a_broken_stream_ends_with_an_error_event() -> None:
    """As the contract has it, and on the responses route with its name."""
    error = errors.StreamIncomplete("The upstream went away.")
    plain, named = error_event(error, number=None), error_event(error, number=7)
    assert plain == b"data: " + error_body(error) + b"\n\n"
    start = b'event: error\ndata: {"type":"error","sequence_number":7,'
    assert named == start + error_body(error)[1:] + b"\n\n"
    assert [event.event for event in SSEDecoder().iter_bytes(iter([plain, named]))] == [None, "error"]


@given(st.text())
@settings(deadline=None, max_examples=50)
def test_no_message_can_break_out_of_its_event(message: str) -> None:
    """Line ends in a message stay inside the JSON."""
    event = error_event(errors.UpstreamFailed(message), number=0)
    assert len(event.splitlines()) == 3
    assert json.loads(event.splitlines()[1].removeprefix(b"data: "))["error"]["message"] == message


def test_models_are_listed_in_the_openai_shape() -> None:
    """`models.list()` and `models.retrieve()` of the libraries read these."""
    entry = {"id": "org/m", "object": "model", "created": 0, "owned_by": "gateway"}
    assert json.loads(model_entry("org/m")) == entry
    assert json.loads(models_list(["org/m", "é"])) == {"object": "list", "data": [entry, entry | {"id": "é"}]}
    assert json.loads(models_list([])) == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("payload", "name", "failed"),
    [
        (b'{"error":{"message":"no"}}', None, True),
        (b'{"error":"no","x":1}', None, True),
        (b' { "id" : 1 , "error" : { } } ', None, True),
        (b'{"type":"error","message":"no"}', None, True),
        (b'{"type":"response.failed","response":{}}', None, True),
        (b'{"type":"response.created"}', b"error", True),
        (b"", b"error", True),
        (b"{}", b"response.failed", True),
        (b'{"error":null,"choices":[]}', None, False),
        (b'{"choices":[{"delta":{"content":"error"}}]}', None, False),
        (b'{"choices":[{"error":{"message":"inner"}}]}', None, False),
        (b'{"type":"response.created","response":{"error":null}}', b"response.created", False),
        (b'{"error":{"message":"cut', None, False),
        (b"[DONE]", None, False),
        (b"error", None, False),
        (b'["error"]', None, False),
        (b'"error"', None, False),
        (b"", None, False),
    ],
)
def test_an_upstream_error_is_recognised(payload: bytes, name: bytes | None, failed: bool) -> None:
    """In the three shapes of the first-event gate; what cannot be read is no error but passed on."""
    assert is_error_payload(payload, name) is failed


@pytest.mark.parametrize(
    ("event", "usage_only"),
    [
        (b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', True),
        (b'data:{"usage":{"prompt_tokens":1},"choices" : [ ] }\r\n\r\n', True),
        (b'event: x\ndata: {"choices":\ndata: [],"usage":{}}\n\n', True),
        (b': comment\rdata: {"choices":[],"usage":{}}\r\r', True),
        (b'\ndata: {"choices":[],"usage":{},"x":{"usage":null}}\n\n', True),
        (b'data: {"choices":[],"usage":null}\n\n', False),
        (b'data: {"choices":[],"usage": null}\n\n', False),
        (b'data: {"choices":[]}\n\n', False),
        (b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n', False),
        (b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}\n\n', False),
        (b'data: {"choices":null,"usage":{}}\n\n', True),
        (b'data: {"choices": null ,"usage" : {}}\n\n', True),
        (b'data: {"usage":{}}\n\n', True),
        (b'data: {"id":"c","object":"chat.completion.chunk","usage":{"total_tokens":1}}\n\n', True),
        (b'data: {"usage":{},"error":{"message":"no"}}\n\n', False),
        (b'data: {"usage":7}\n\n', False),
        (b'data: [{"choices":[],"usage":{}}]\n\n', False),
        (b'data: {"choices":[],"usage":{}\n\n', False),
        (b': {"choices":[],"usage":{}}\n\n', False),
        (b"data: [DONE]\n\n", False),
        (b"\n", False),
    ],
)
def test_the_event_to_take_out_is_recognised(event: bytes, usage_only: bool) -> None:
    """Only the one that `include_usage` adds: everything else in a stream belongs to the client."""
    assert is_usage_only(event, finished=False) is usage_only


@pytest.mark.parametrize(
    ("choices", "at_the_end"),
    [
        ('[{"index":0,"delta":{}}]', True),
        ('[{"index":0,"delta":{},"finish_reason":null,"logprobs":null}]', True),
        ('[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":null}},{"index":1,"delta":{}}]', True),
        ('[{"index":0,"delta":null}]', True),
        ('[{"index":0,"text":""}]', True),
        ('[{"index":0,"delta":{"content":"more"}}]', False),
        ('[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]', False),
        ('[{"index":0,"delta":{}},{"index":1,"delta":{"content":"x"}}]', False),
        ('[{"index":0,"delta":{},"finish_reason":"stop"}]', False),
        ('[{"index":0,"text":"x"}]', False),
        ("[7]", False),
        ('{"delta":{}}', False),
    ],
)
def test_a_usage_beside_an_empty_delta_is_ours_behind_the_finish_alone(choices: str, at_the_end: bool) -> None:
    """Some upstreams send it so; before the `finish_reason` it is an event like any other."""
    event = f'data: {{"choices":{choices},"usage":{{"total_tokens":3}}}}\n\n'.encode()
    assert is_usage_only(event, finished=True) is at_the_end
    assert not is_usage_only(event, finished=False)


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "chat.completion", "usage": CHAT_USAGE},
        {"object": "response", "usage": RESPONSES_USAGE, "response": None},
        {"type": "response.completed", "response": {"id": "r", "usage": RESPONSES_USAGE}},
        {"type": "response.failed", "usage": None, "response": {"usage": RESPONSES_USAGE}},
    ],
)
def test_usage_is_read_in_both_vocabularies(answer: dict[str, Any]) -> None:
    """From bytes and from an object that is decoded already."""
    assert usage_of(encoded(answer)) == ALL_COUNTS
    assert usage_of(answer) == ALL_COUNTS
    contents = contents_of(encoded(answer))
    assert contents is not None
    assert contents.usage == ALL_COUNTS


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(prompt_tokens=3, total_tokens=3)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)),
        ({"total_tokens": 9}, Usage(total_tokens=9)),
        ({"prompt_tokens": 0}, Usage()),
        ({"prompt_tokens": -1, "completion_tokens": 4}, Usage(completion_tokens=4, total_tokens=4)),
        ({"prompt_tokens": "3", "completion_tokens": 4.0}, Usage(3, 4, 7)),
        ({"prompt_tokens": " 12 ", "total_tokens": "13.5"}, Usage(12, 0, 12)),
        ({"prompt_tokens": 1e15, "completion_tokens": -1.0, "total_tokens": "9" * 14}, None),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 0}, Usage(10, 5, 15)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 90}, Usage(10, 5, 90)),
        ({"input_tokens": 9.0, "input_tokens_details": {"cached_tokens": "4"}}, Usage(9, 0, 9, 4)),
        ({"prompt_tokens": 1, "prompt_tokens_details": 7}, Usage(prompt_tokens=1, total_tokens=1)),
        ({"prompt_tokens": True, "completion_tokens": [], "total_tokens": 10**30}, None),
        ({"queries": 3}, None),
        ({}, None),
        (None, None),
        ([1], None),
        ("many", None),
    ],
)
def test_usage_is_taken_where_it_makes_sense(usage: object, expected: Usage | None) -> None:
    """Upstreams write all sorts of things there; a ledger holds numbers of tokens."""
    assert usage_of(encoded({"usage": usage})) == expected
    assert usage_of({"usage": usage}) == expected
    contents = contents_of(encoded({"usage": usage}))
    assert contents is not None
    assert contents.usage == expected


@pytest.mark.parametrize(
    "payload", [b"", b"[DONE]", b'{"usage":', b'["usage"]', b'"usage"', b'{"usage":{"total_tokens":1e999}}']
)
def test_what_tells_no_usage_is_no_error(payload: bytes) -> None:
    """Whatever an upstream sends, the answer goes on to the client."""
    assert usage_of(payload) is None


@settings(deadline=None, max_examples=200)
@given(json_values)
def test_any_json_is_looked_at_without_fail(value: Any) -> None:
    """And the cheap look never misses what the close one would find."""
    payload = encoded(value)
    event = b"data: " + payload + b"\n\n"
    assert usage_of(payload) is None or may_bear_usage(payload)
    fields = value if isinstance(value, dict) else {}
    assert is_usage_only(event, finished=False) == (
        fields.get("choices") in ([], None) and isinstance(fields.get("usage"), dict) and fields.get("error") is None
    )
    failed = fields.get("error") is not None or fields.get("type") in ("error", "response.failed")
    assert is_error_payload(payload, None) == failed
    assert is_error_body(payload) == (failed and fields.get("object") != "response")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt 4 100%", "gpt 4 100%"),
        ("a\r\nx: 1", "a%0D%0A..."),
        ("a\r\nb", "a%0D%0Ab"),
        ("é", "%C3%A9"),
        ("🙂", "..."),
        ("\x00\x7f", "%00%7F"),
        ("\ud800", "%ED%A0%80"),
        ("", ""),
        ("1234567890", "1234567890"),
        ("12345678901", "1234567..."),
        ("123456é", "123456..."),
        ("1234é", "1234%C3%A9"),
        ("éééé", "%C3%A9..."),
    ],
)
def test_any_text_becomes_printable(text: str, shown: str) -> None:
    """For headers and logs: no line end gets through, and the limit cuts no escape in two."""
    assert printable(text, limit=10) == shown


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=300), st.integers(3, 250))
def test_printable_text_is_ascii_and_bounded(text: str, limit: int) -> None:
    """Whatever comes in."""
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
