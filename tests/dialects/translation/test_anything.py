"""Whatever clients and upstreams send is translated or refused: nothing else is raised."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.anthropic.translation import MessagesOverChat, MessageStream, UntranslatableAnswer, message
from gateway.errors import NotTranslatable
from gateway.types import Model

MODEL = Model(id=1, name="m", reasoning=True)
REQUEST_WORDS = [
    "messages",
    "system",
    "role",
    "user",
    "assistant",
    "content",
    "type",
    "text",
    "image",
    "source",
    "base64",
    "url",
    "media_type",
    "data",
    "tool_use",
    "id",
    "name",
    "input",
    "caller",
    "direct",
    "tool_result",
    "tool_use_id",
    "is_error",
    "thinking",
    "redacted_thinking",
    "tools",
    "input_schema",
    "custom",
    "strict",
    "tool_choice",
    "auto",
    "any",
    "tool",
    "none",
    "output_config",
    "format",
    "json_schema",
    "schema",
    "effort",
    "stop_sequences",
    "max_tokens",
    "stream",
    "cache_control",
    "citations",
    "enabled",
    "budget_tokens",
    "document",
    "disable_parallel_tool_use",
    "output_format",
]
ANSWER_WORDS = [
    "id",
    "model",
    "choices",
    "index",
    "delta",
    "message",
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "finish_reason",
    "stop",
    "length",
    "reasoning_content",
    "error",
    "type",
    "code",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "stop_reason",
    "matched_stop",
    "text",
]


def documents(words: list[str]) -> st.SearchStrategy[Any]:
    """JSON that is made of the protocol's own words, in any order."""
    leaves = st.none() | st.booleans() | st.integers(-1, 3) | st.floats(allow_nan=False) | st.sampled_from(words)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(words), inner, max_size=5),
        max_leaves=30,
    )


anything = documents(REQUEST_WORDS)
blocks = st.dictionaries(st.sampled_from(REQUEST_WORDS), anything, max_size=5)
near_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(blocks | anything, max_size=3)}
)
requests = st.fixed_dictionaries(
    {"messages": st.lists(near_messages | anything, max_size=3)},
    optional={word: anything for word in REQUEST_WORDS if word != "messages"},
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.dictionaries(st.sampled_from(ANSWER_WORDS), documents(ANSWER_WORDS), max_size=5), max_size=2
        ),
        "usage": documents(ANSWER_WORDS),
        "error": documents(ANSWER_WORDS),
        "id": documents(ANSWER_WORDS),
    },
)


@settings(max_examples=300)
@given(requests)
def test_any_request(fields: dict[str, Any]) -> None:
    with suppress(NotTranslatable):
        json.loads(MessagesOverChat(fields, MODEL).raw)


@settings(max_examples=300)
@given(st.lists(chunks | documents(ANSWER_WORDS), max_size=6))
def test_any_stream(events: list[Any]) -> None:
    stream = MessageStream(otherwise="r1", model="m", prompt_tokens=1, stops=["stop"])
    data = b"".join([stream.feed(json.dumps(event).encode()) for event in events]) + stream.end()
    kinds = [json.loads(event.split(b"\ndata: ")[1])["type"] for event in data.split(b"\n\n")[:-1]]
    assert kinds[-1] in ("message_stop", "error")
    assert [kind for kind in kinds if kind in ("message_stop", "error")] == kinds[-1:]
    assert stream.failed == (kinds[-1] == "error")


@settings(max_examples=300)
@given(chunks | documents(ANSWER_WORDS))
def test_any_answer(answer: Any) -> None:
    try:
        found = json.loads(message(json.dumps(answer).encode(), otherwise="r1", model="m", prompt_tokens=1))
    except UntranslatableAnswer:
        return
    assert found["type"] == "message"


def test_a_tool_whose_schema_is_as_deep_as_bodies_may_be() -> None:
    """It is a level deeper in the other protocol."""
    deep: Any = {}
    for _ in range(252):
        deep = {"a": deep}
    tool = {"name": "t", "input_schema": deep}
    asked = {"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
    with pytest.raises(NotTranslatable) as caught:
        MessagesOverChat(asked, MODEL)
    assert caught.value.param == "tools"
