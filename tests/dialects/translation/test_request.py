"""A Messages request becomes one for chat completions that asks the model the same, or is refused; hints are named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import TypeAdapter

from gateway.dialects.anthropic.translation import ChatRequest, chat_request
from gateway.errors import NotTranslatable

Json = dict[str, Any]
TOOL = {"name": "weather", "description": "Tell it.", "input_schema": {"type": "object", "properties": {}}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
IMAGE = {"type": "image", "source": PIXEL}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}

messages_type = TypeAdapter(list[ChatCompletionMessageParam])
tools_type = TypeAdapter(list[ChatCompletionToolParam])

texts = st.text(max_size=20)
inputs = st.dictionaries(
    st.text(max_size=5),
    st.integers(-(2**53), 2**53) | texts | st.booleans() | st.none() | st.lists(texts, max_size=2),
    max_size=3,
)
text_blocks = st.builds(lambda text: {"type": "text", "text": text}, texts)
images = st.sampled_from([IMAGE, {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}])


@st.composite
def turns(draw: st.DrawFn) -> list[Json]:
    """A conversation that ends with the user; each call of a tool has its result."""
    messages: list[Json] = []
    calls: list[str] = []
    for turn in range(draw(st.integers(1, 4))):
        results = [
            {"type": "tool_result", "tool_use_id": call, "is_error": draw(st.booleans()), "content": draw(contents)}
            for call in calls
        ]
        said = draw(texts | st.lists(text_blocks | images, max_size=3)) if not results else draw(st.lists(text_blocks))
        messages.append({"role": "user", "content": results + said if isinstance(said, list) else said})
        calls = [f"toolu_{turn}_{place}" for place in range(draw(st.integers(0, 2)))]
        uses = [{"type": "tool_use", "id": call, "name": "weather", "input": draw(inputs)} for call in calls]
        thought = draw(st.sampled_from([[], [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]]))
        messages.append({"role": "assistant", "content": thought + draw(st.lists(text_blocks, max_size=2)) + uses})
    messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call} for call in calls]})
    return messages


contents = texts | st.lists(text_blocks | images, max_size=3)


def chat(fields: Json | None = None, **settings: Any) -> ChatRequest:
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
    return chat_request(asked | (fields or {}), **settings)


def refused(**fields: Any) -> str | None:
    with pytest.raises(NotTranslatable) as caught:
        chat(fields)
    assert (caught.value.status, caught.value.code) == (400, "not_translatable")
    return caught.value.param


def texts_of(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if part["type"] == "text"] if isinstance(content, list) else []


def blocks_of(messages: list[Json], kind: str) -> list[Json]:
    lists = [each["content"] for each in messages if isinstance(each["content"], list)]
    return [block for blocks in lists for block in blocks if block["type"] == kind]


@given(turns())
def test_a_conversation_keeps_its_texts_calls_results_and_images(messages: list[Json]) -> None:
    translated = chat({"messages": messages}).fields["messages"]
    messages_type.validate_python(translated, strict=True)
    said = "".join(text for each in messages for text in texts_of(each["content"]))
    assert "".join(t for each in translated if each["role"] != "tool" for t in texts_of(each["content"])) == said
    calls = [call for each in translated for call in each.get("tool_calls", [])]
    uses = blocks_of(messages, "tool_use")
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [use["input"] for use in uses]
    assert [(call["id"], call["function"]["name"]) for call in calls] == [(use["id"], use["name"]) for use in uses]
    results = [each for each in translated if each["role"] == "tool"]
    given_results = blocks_of(messages, "tool_result")
    for result, block in zip(results, given_results, strict=True):
        mark = "Error: " if block.get("is_error") else ""
        assert result["tool_call_id"] == block["tool_use_id"]
        assert "".join(texts_of(result["content"])) == mark + "".join(texts_of(block.get("content")))
    pictures = len(blocks_of(messages, "image")) + sum(
        len(blocks_of([result], "image")) for result in given_results if "content" in result
    )
    assert len(blocks_of(translated, "image_url")) == pictures


@given(turns())
def test_every_call_is_answered_before_anybody_else_says_something(messages: list[Json]) -> None:
    waited_for: list[str] = []
    for message in chat({"messages": messages}).fields["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waited_for.pop(0)
        else:
            assert not waited_for
            waited_for = [call["id"] for call in message.get("tool_calls", [])]


def test_images_of_a_result_follow_it_as_a_user_message() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "Seen."}, IMAGE]}
    content = [result, {"type": "text", "text": "What is it?"}]
    assert chat({"messages": [{"role": "user", "content": content}]}).fields["messages"] == [
        {"role": "tool", "tool_call_id": "t", "content": "Seen."},
        {"role": "user", "content": [IMAGE_PART, {"type": "text", "text": "What is it?"}]},
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"system": "Be brief."}, {"role": "system", "content": "Be brief."}),
        ({"system": [{"type": "text", "text": "Be brief."}]}, {"role": "system", "content": "Be brief."}),
        (
            {"system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
            {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        ),
    ],
)
def test_the_system_prompt_comes_first(fields: Json, expected: Json) -> None:
    assert chat(fields).fields["messages"] == [expected, {"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"max_completion_tokens": 9}),
        ({"temperature": 0.5, "top_p": 0.9, "stream": True}, {"temperature": 0.5, "top_p": 0.9, "stream": True}),
        ({"stop_sequences": ["a", "b", "c", "d"]}, {"stop": ["a", "b", "c", "d"]}),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, {}),
        ({"tool_choice": {"type": "none"}, "tools": []}, {}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
    ],
)
def test_settings_are_carried_in_the_words_of_chat_completions(fields: Json, expected: Json) -> None:
    translated = chat(fields)
    rest = {key: value for key, value in translated.fields.items() if key not in ("model", "messages")}
    assert rest == {"max_completion_tokens": 9} | expected
    assert translated.dropped == ()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": False},
        ),
    ],
)
def test_a_choice_among_tools(choice: Json, expected: Json) -> None:
    translated = chat({"tools": [TOOL], "tool_choice": choice}).fields
    assert {key: translated[key] for key in ("tool_choice", "parallel_tool_calls") if key in translated} == expected


def test_the_bound_bears_the_models_own_name() -> None:
    assert chat(max_tokens_field="max_tokens").fields["max_tokens"] == 9
    assert "max_completion_tokens" not in chat(max_tokens_field="max_tokens").fields


def test_tools_are_functions() -> None:
    translated = chat({"tools": [TOOL, {**TOOL, "type": "custom", "strict": True}]}).fields["tools"]
    tools_type.validate_python(translated, strict=True)
    function = {"name": "weather", "description": "Tell it.", "parameters": TOOL["input_schema"]}
    assert [each["function"] for each in translated] == [function, function | {"strict": True}]


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "low"),
        ({"type": "enabled", "budget_tokens": 8000}, "medium"),
        ({"type": "enabled", "budget_tokens": 32000}, "high"),
        ({"type": "adaptive"}, "medium"),
    ],
)
def test_thinking_becomes_an_effort_where_the_model_reasons(thinking: Json, effort: str) -> None:
    reasoning = chat({"thinking": thinking}, reasons=True)
    assert (reasoning.fields["reasoning_effort"], reasoning.dropped) == (effort, ())
    other = chat({"thinking": thinking})
    assert ("reasoning_effort" in other.fields, other.dropped) == (False, ("thinking",))


def test_hints_are_dropped_and_named_once() -> None:
    marked = {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}
    fields = {
        "system": [marked],
        "messages": [
            {"role": "user", "content": [marked]},
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, marked]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "cache_control": {}}]},
        ],
        "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "u"},
        "context_management": {"edits": []},
        "output_config": {"effort": "high"},
        "service_tier": "auto",
        "speed": "fast",
        "inference_geo": "eu",
        "diagnostics": {"previous_message_id": None},
        "top_k": 5,
        "cache_control": {"type": "ephemeral"},
    }
    translated = chat(fields)
    assert sorted(translated.dropped) == [
        "cache_control",
        "context_management",
        "diagnostics",
        "inference_geo",
        "metadata",
        "output_config.effort",
        "service_tier",
        "speed",
        "thinking",
        "top_k",
    ]
    known = {"model", "messages", "max_completion_tokens", "tools"}
    assert translated.fields.keys() == known
    assert b"cache_control" not in json.dumps(translated.fields).encode()


def in_message(block: Json, role: str = "user") -> Json:
    return {"messages": [{"role": role, "content": [block]}, {"role": "user", "content": "Hello"}]}


def in_result(block: Json) -> Json:
    return in_message({"type": "tool_result", "tool_use_id": "t", "content": [block]})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (in_message({"type": "document", "source": PIXEL}), "messages[0].content[0].type"),
        (in_message({"type": "search_result", "content": []}), "messages[0].content[0].type"),
        (in_message({"type": "container_upload", "file_id": "f"}), "messages[0].content[0].type"),
        (in_message({"type": "something_new"}), "messages[0].content[0].type"),
        (
            in_message({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.file_id",
        ),
        (in_result({"type": "document", "source": PIXEL}), "messages[0].content[0].content[0].type"),
        (in_message({"type": "text", "text": "a", "citations": [{}]}, "assistant"), "messages[0].content[0].citations"),
        (in_message({"type": "server_tool_use", "id": "s"}, "assistant"), "messages[0].content[0].type"),
        (in_message({"type": "text", "text": "a", "mark": 1}), "messages[0].content[0].mark"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        ({"something_new": 1}, "something_new"),
        ({"output_config": {"task_budget": {"total": 9}}}, "output_config.task_budget"),
        ({"messages": [{"role": "assistant", "content": "The answer is ("}]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": "Hello"}, "messages"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema"),
    ],
)
def test_what_would_mean_something_else_is_refused_with_its_place(fields: Json, param: str) -> None:
    assert refused(**fields) == param


def test_members_that_are_null_are_as_good_as_absent() -> None:
    assert chat({"container": None, "thinking": None, "something_new": None}) == chat()
