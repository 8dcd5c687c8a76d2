"""An upstream's refusal within a stream: its own values on one line; and which refusals say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.openai import error_words, refusal_event


def told(body: bytes | dict[str, Any] | list[Any]) -> dict[str, Any]:
    """The `error` of the event, once it is seen to be on one line."""
    raw = body if isinstance(body, bytes) else json.dumps(body, indent=1).encode()
    event = refusal_event(raw, named=False)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    document = json.loads(event[6:])
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return dict(document["error"])


def test_the_upstreams_own_values_are_told() -> None:
    own = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length"}
    assert told({"error": own}) == own
    assert told({"error": own | {"code": 400, "more": [1]}}) == own | {"code": 400}
    assert told({"object": "error"} | own) == own, "vLLM's, without the frame"
    assert told({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}) == {
        "message": "busy",
        "type": "overloaded_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'[{"error":{"code":400,"message":"bad schema"}}]', '[{"error":{"code":400,"message":"bad schema"}}]'),
        (b"bad schema in tools[3]", "bad schema in tools[3]"),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required"}]}',
            '{"detail":[{"loc":["body"],"msg":"field required"}]}',
        ),
        (b"<html>\n<h1>No</h1>\n</html>", "<html>\n<h1>No</h1>\n</html>"),
        (b'{"error":"no such model"}', "no such model"),
        (b'{"error":{"detail":"no"}}', '{"error":{"detail":"no"}}'),
        (b'{"error":null}', '{"error":null}'),
        (b'"no"', '"no"'),
        (b"\xff no", "\ufffd no"),
        (b"", ""),
    ],
)
def test_what_has_no_such_shape_becomes_the_message(body: bytes, message: str) -> None:
    assert told(body) == {"message": message, "type": "invalid_request_error", "param": None, "code": None}


@pytest.mark.parametrize("odd", [[1], {"a": 1}])
def test_values_of_another_kind_are_left_out(odd: object) -> None:
    error = told({"error": {"message": "no", "type": odd, "param": odd, "code": odd}})
    assert error == {"message": "no", "type": "invalid_request_error", "param": None, "code": None}


def test_on_the_responses_route_it_has_the_shape_of_its_endings() -> None:
    event = refusal_event(b'{"error":{"message":"no","type":"t","param":"p","code":"c"}}', named=True)
    name, data, *rest = event.split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    error = {"message": "no", "type": "t", "param": "p", "code": "c"}
    assert json.loads(data.removeprefix(b"data: ")) == {"type": "error", "sequence_number": 0, "error": error}


SAME = [
    (
        {"error": {"message": "no pictures", "request_id": "a"}},
        {"error": {"message": "no pictures", "request_id": "b"}},
    ),
    ({"error": "request req_0123abc failed"}, {"error": "request req_9f8e7d6 failed"}),
    ({"error": "at 2026-11-28T17:00:00Z"}, {"error": "at 2026-11-28T17:00:01Z"}),
    ({"id": "x", "detail": "no"}, {"detail": "no", "id": "y"}),
    ({"detail": "no", "timestamp": 1.5}, {"detail": "no", "timestamp": 2.25}),
    ({"detail": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, {"detail": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}),
    ({"error": json.dumps({"id": "x", "m": "no"})}, {"error": json.dumps({"id": "y", "m": "no"})}),
]
OTHER = [
    ({"error": "no pictures"}, {"error": "no sound"}),
    ({"error": "max 4096"}, {"error": "max 8192"}),
    ({"error": "no"}, ["no"]),
]


@pytest.mark.parametrize(("one", "another"), SAME)
def test_the_same_words_with_other_ids_are_the_same(one: Any, another: Any) -> None:
    assert error_words(json.dumps(one).encode()) == error_words(json.dumps(another, indent=2).encode()) is not None


@pytest.mark.parametrize(("one", "another"), OTHER)
def test_other_words_are_others(one: Any, another: Any) -> None:
    assert error_words(json.dumps(one).encode()) != error_words(json.dumps(another).encode())


@pytest.mark.parametrize(
    "body", [b"", b"Internal Server Error", b'"text"', b"5", b"<html>", b'{"cut":', b"[" * 300 + b"]" * 300]
)
def test_what_is_no_json_object_or_array_has_no_words(body: bytes) -> None:
    assert error_words(body) is None
