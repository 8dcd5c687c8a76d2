"""Ids are found where the table says, however they are spelled, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.openai.operations import CHAT_COMPLETIONS, RESPONSES
from gateway.dialects.openai.request_body import RequestBody, may_have
from gateway.dialects.references import NONE, Position, Positions, is_of_type

FOUND = [
    ({"previous_response_id": "r"}, "previous_response_id", "response"),
    ({"conversation": "c"}, "conversation", "conversation"),
    ({"conversation": {"id": "c"}}, "conversation.id", "conversation"),
    ({"input": [{"role": "user", "content": [{"file_id": "f"}]}]}, "input[0].content[0].file_id", "file"),
    ({"input": [{"type": "computer_call_output", "output": {"file_id": "f"}}]}, "input[0].output.file_id", "file"),
    ({"input": [{"type": "function_call_output", "output": [{"file_id": "f"}]}]}, "input[0].output[0].file_id", "file"),
    ({"input": [{"type": "item_reference", "id": "i"}]}, "input[0].id", "item"),
    ({"input": [{}, {"id": "i"}]}, "input[1].id", "item"),
    ({"input": [{"type": None, "id": "i"}]}, "input[0].id", "item"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].vector_store_ids[0]", "vector_store"),
    ({"tools": [{"type": "code_interpreter", "container": "c"}]}, "tools[0].container", "container"),
    ({"tools": [{"container": {"type": "auto", "file_ids": [1, "f"]}}]}, "tools[0].container.file_ids[1]", "file"),
    ({"tools": [{"input_image_mask": {"file_id": "f"}}]}, "tools[0].input_image_mask.file_id", "file"),
    ({"input": [{"tools": [{"vector_store_ids": ["v"]}]}]}, "input[0].tools[0].vector_store_ids[0]", "vector_store"),
    ({"Previous_Response_ID": "r"}, "Previous_Response_ID", "response"),
    ({"previou\u017f_response_id": "r"}, "previou\u017f_response_id", "response"),
]  # fmt: skip
NOT_FOUND: list[dict[str, Any]] = [
    {"input": "previous_response_id file_id", "metadata": {"previous_response_id": "r", "file_id": "f"}},
    {"prompt": {"id": "p", "variables": {"file_id": "f", "picture": {"type": "input_image", "file_id": "f"}}}},
    {"tools": [{"type": "function", "parameters": {"properties": {"file_id": {"const": "f"}}}}]},
    {"text": {"format": {"schema": {"vector_store_ids": ["v"]}}}},
    {"input": [{"type": "function_call", "id": "i", "arguments": '{"file_id":"f"}'}]},
    {
        "input": [
            {"type": "message", "id": "i", "content": [{"type": "output_text", "annotations": [{"file_id": "f"}]}]}
        ]
    },
    {"previous_response_id": None, "conversation": None, "input": [{"type": "reasoning", "id": "i"}]},
    {"previous_response_id": "", "input": [{"id": 7}]},
]


@pytest.mark.parametrize(("body", "param", "kind"), FOUND)
def test_an_id_is_found_at_its_position(body: dict[str, Any], param: str, kind: str) -> None:
    found = list(RESPONSES.pins.within(body))
    assert [(each.param, each.kind) for each in found] == [(param, kind)]
    for raw in (json.dumps(body), json.dumps(body, ensure_ascii=False)):
        assert may_have(RESPONSES.pins.signs, raw.encode())


@pytest.mark.parametrize("body", NOT_FOUND)
def test_nothing_is_found_elsewhere(body: dict[str, Any]) -> None:
    assert list(RESPONSES.pins.within(body)) == []


def test_a_plain_chat_is_not_looked_through() -> None:
    plain = {"model": "m", "messages": [{"role": "user", "content": "Grüße, 你好 – see file_id and audio"}]}
    assert not RequestBody(json.dumps(plain).encode(), plain).may_concern_objects(CHAT_COMPLETIONS)
    assert not RequestBody(json.dumps(plain, ensure_ascii=False).encode(), plain).may_concern_objects(CHAT_COMPLETIONS)


@pytest.mark.parametrize("spelled", [rb'"file_\u0069d"', rb'"FILE_ID"', rb'"f\u0049le_id"', rb'"file\u005fid"'])
def test_another_spelling_of_a_name_is_looked_at(spelled: bytes) -> None:
    body = b'{"messages":[{"role":"user","content":[{"type":"file","file":{%b:"f"}}]}]}' % spelled
    assert may_have(CHAT_COMPLETIONS.pins.signs, body)
    assert [each.id for each in CHAT_COMPLETIONS.pins.within(json.loads(body))] == ["f"]


def test_a_condition_is_of_the_object_around() -> None:
    positions = Positions((Position("source.id", "file", is_of_type("file_id")),))
    assert [each.id for each in positions.within({"source": {"type": "file_id", "id": "f"}})] == ["f"]
    assert list(positions.within({"source": {"type": "file_content", "id": "f"}})) == []


def test_no_positions_are_in_nothing() -> None:
    assert not NONE
    assert not may_have(NONE.signs, b'{"id":"x"}')
