"""What a request reserves: the size of its prompt, and the largest answer that its body allows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.base import Operation
from gateway.dialects.openai.operations import (
    CHAT_COMPLETIONS,
    COMPLETIONS,
    EMBEDDINGS,
    IMAGES,
    MODERATIONS,
    OPERATIONS,
    RERANK,
    SPEECH,
)
from gateway.limits import EstimatedUsage, estimated_tokens, estimated_usage, prompt_tokens, reserved_tokens
from gateway.limits.estimate import DEFAULT_ANSWER_TOKENS, LONGEST_ANSWER_TOKENS
from gateway.limits.prompt import ATTACHMENT_TOKENS

PROMPT = CHAT_COMPLETIONS.prompt
TEXT = "word " * 20_000  # 100 KB: 25,000 tokens
DATA = "iVBORw0K" * 100_000  # 800 KB of what may be base64
DATA_URL = "data:image/png;base64," + DATA


def prompt_of(**fields: Any) -> int:
    raw = orjson.dumps(fields)
    return prompt_tokens(orjson.loads(raw), len(raw), PROMPT)


def of_chat(*parts: Any) -> int:
    return prompt_of(messages=[{"role": "user", "content": list(parts)}])


# -- answers


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
@pytest.mark.parametrize("bound", [1000, 1000.0, "1000", " 1000 ", "1000.0", "1e3", 999.5])
def test_the_answers_bound_is_reserved(name: str, bound: object) -> None:
    """Prompt at four bytes a token, and the bound, in each spelling that some upstream takes."""
    assert reserved_tokens({name: bound, "messages": []}, 400, CHAT_COMPLETIONS) == 1100


@pytest.mark.parametrize("bound", [None, True, -1, "", "many", "nan", [100], {}, float("nan"), float("inf"), "9" * 99])
def test_what_is_no_bound_counts_as_none(bound: object) -> None:
    """The upstream refuses it, or goes by its default."""
    fields = {"max_tokens": bound, "messages": []}
    assert reserved_tokens(fields, 400, CHAT_COMPLETIONS) == 100 + DEFAULT_ANSWER_TOKENS


def test_the_largest_of_several_bounds_is_reserved() -> None:
    """Upstreams differ in which they go by."""
    for fields in (
        {"max_tokens": 9000, "max_completion_tokens": 1},
        {"max_tokens": 1, "max_completion_tokens": "9000"},
        {"max_tokens": 1, "max_output_tokens": 9000.0, "max_completion_tokens": None},
    ):
        assert reserved_tokens(fields, 40, CHAT_COMPLETIONS) == 9010


def test_n_reserves_n_fold() -> None:
    """`n: 50` reserves fifty answers, and so does `best_of`; the prompt counts once."""
    for many in (50, 50.0, "50"):
        assert reserved_tokens({"max_tokens": 100, "n": many}, 40, CHAT_COMPLETIONS) == 10 + 5000
        assert reserved_tokens({"max_tokens": 100, "n": 2, "best_of": many}, 40, COMPLETIONS) == 10 + 5000


def test_each_prompt_of_a_list_has_its_answers() -> None:
    """Lists of texts, and of lists of tokens; one list of tokens is one prompt."""
    many: dict[str, Any] = {"max_tokens": 100, "n": 2}
    assert reserved_tokens(many | {"prompt": ["a"] * 30}, 400, COMPLETIONS) == 100 + 6000
    assert reserved_tokens(many | {"prompt": [[1, 2], [3]]}, 400, COMPLETIONS) == 3 + 400
    assert reserved_tokens(many | {"prompt": [1, 2, 3]}, 400, COMPLETIONS) == 3 + 200
    assert reserved_tokens(many | {"prompt": "abc"}, 400, COMPLETIONS) == 100 + 200
    assert reserved_tokens({"max_tokens": 100, "prompt": []}, 400, COMPLETIONS) == 100 + 100


def test_no_answer_is_taken_for_longer_than_models_write() -> None:
    """A bound of a billion is a mistake or malice; of others' room it takes no more than the longest answer."""
    for bound in (10**9, 10**30, 1e300, "1e30"):
        assert reserved_tokens({"max_tokens": bound}, 40, CHAT_COMPLETIONS) == 10 + LONGEST_ANSWER_TOKENS


@pytest.mark.parametrize("operation", [EMBEDDINGS, RERANK, MODERATIONS, IMAGES, SPEECH])
def test_routes_without_text_reserve_their_prompt_only(operation: Operation) -> None:
    """There is no answer to count."""
    assert reserved_tokens({"input": "x" * 400, "max_tokens": 1000}, 420, operation) == 105


# -- prompts


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "auto"}},
        {"type": "image_url", "image_url": DATA_URL},
        {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + DATA, "filename": "a.pdf"}},
        {"type": "input_file", "file_data": DATA, "filename": "a.pdf"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": DATA}}]},
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": DATA_URL}},
        {"type": "image_generation_call", "status": "completed", "result": DATA},
    ],
)
def test_a_picture_is_not_counted_by_its_bytes(part: dict[str, Any]) -> None:
    """Pictures, sounds and files cost what they usually cost, in chat, responses and messages alike."""
    words = {"type": "text", "text": TEXT}
    for found in (of_chat(words, part), prompt_of(input=[part, {"role": "user", "content": [words]}])):
        assert 25_000 + ATTACHMENT_TOKENS < found < 25_100 + ATTACHMENT_TOKENS


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "data:;base64,\n" + TEXT}]},
        {"messages": [{"role": "user", "type": "file", "content": TEXT}]},
        {"messages": [{"role": "user", "content": [1, {"type": "text", "text": TEXT}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "data:image/png;base64," + TEXT}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": TEXT}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a", "b": TEXT}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"image_url": TEXT}}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "input": {"file_data": TEXT}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": TEXT}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "search_result", "source": TEXT}]}]},
        {"messages": [], "tools": [{"type": "file", "function": {"description": TEXT}}]},
        {"messages": [], "tools": [{"function": {"parameters": {"image_url": TEXT}}}]},
        {"messages": [], "response_format": {"json_schema": {"file_data": TEXT}}},
        {"input": "data:image/png;base64," + TEXT},
        {"input": [{"type": "function_call_output", "result": "a", "output": TEXT}]},
        {"input": [{"type": "function_call_output", "result": TEXT}]},
        {"input": ["data:image/png;base64," + TEXT, "another"]},
        {"prompt": [TEXT]},
        {"messages": [], "instructions": TEXT},
        {"messages": [], "documents": [{"text": TEXT}]},
    ],
)
def test_a_text_counts_by_its_bytes_whatever_it_claims_to_be(fields: dict[str, Any]) -> None:
    """Nobody gets a discount for calling a text a file."""
    assert 25_000 <= prompt_of(**fields) < 25_000 + ATTACHMENT_TOKENS + 100


def test_prompts_of_tokens_count_their_tokens() -> None:
    """`prompt` and `input` may be lists of tokens, or of lists of them, in small bodies too."""
    assert reserved_tokens({"input": [[1] * 3000, [2] * 3000]}, 20_000, EMBEDDINGS) == 6000
    assert 900 <= prompt_of(input=[1] * 900) < 910


def test_other_letters_count_by_their_bytes() -> None:
    """Three bytes each in UTF-8."""
    assert 7_500 <= prompt_of(messages=[{"role": "user", "content": "語" * 10_000}]) < 7_550


def test_a_body_of_tiny_values_counts_by_its_length() -> None:
    """Walking through all of them would hold up everybody else."""
    raw = b'{"messages":[' + b"[0]," * 200_000 + b"[]]}"
    assert prompt_tokens(orjson.loads(raw), len(raw), PROMPT) == len(raw) // 4


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(
            st.one_of(st.text(), st.sampled_from(["type", "image_url", "source", "data", "file", "result", "content"])),
            inner,
        ),
    ),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "prompt", "input", "max_tokens", "n", "best_of", "max_output_tokens", "tools"]),
        JSON,
    ),
    st.integers(0, 10**8),
    st.sampled_from(OPERATIONS),
)
@settings(max_examples=200, deadline=None)
def test_nonsense_is_reserved_within_bounds(fields: dict[str, object], size: int, operation: Operation) -> None:
    """Whatever a body holds: no error, at least one token, never more than counters can hold."""
    assert 1 <= reserved_tokens(fields, size, operation) <= 10**9


# -- answers that tell no usage


def test_an_answer_that_tells_no_usage_is_estimated() -> None:
    """Four characters a token, at least one where anything was seen, none where nothing was."""
    assert [estimated_tokens(count) for count in (1, 4, 5, 4000)] == [1, 1, 2, 1000]
    assert estimated_usage(10, 0) == EstimatedUsage(10, 0)
    assert estimated_usage(10, 9).total_tokens == 13
