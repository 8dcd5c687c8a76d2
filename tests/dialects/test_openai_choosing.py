"""What a body may choose, and the models that it names beside its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.openai import read_body
from gateway.dialects.openai.choosing import GUARDED, allowed_fields, fold
from gateway.errors import FieldNotAllowed, InvalidRequest

REFUSED = ("models", "fallbacks", "provider", "route", "api_base", "api_key")


def named(body: dict[str, Any]) -> dict[str, Any]:
    return {mention.param: mention.value for mention in allowed_fields(REFUSED).examine(body)}


def refusal(body: dict[str, Any]) -> str | None:
    with pytest.raises(FieldNotAllowed) as caught:
        allowed_fields(REFUSED).examine(body)
    return caught.value.param


@pytest.mark.parametrize("field", REFUSED)
def test_a_refused_field_is_named(field: str) -> None:
    assert refusal({"model": "a", field: None}) == field


@pytest.mark.parametrize("field", [*GUARDED, *REFUSED])
def test_another_case_is_no_other_field(field: str) -> None:
    """Go and .NET read them as the field itself."""
    assert refusal({"model": "a", field.upper(): 1}) == field.upper()
    assert refusal({"model": "a", field.title(): 1}) == field.title()


@pytest.mark.parametrize("field", ["modelid", "\u017ftream", "max_to\u212aens", "be\u017ft_of", "api_\u212aey"])
def test_letters_that_fold_to_ascii(field: str) -> None:
    """A long s is an s, the Kelvin sign a k."""
    assert refusal({field: 1}) == field


def test_what_is_only_alike_passes() -> None:
    """Spaces, other letters and longer names make other fields."""
    assert named({"model": "a", "model ": 1, "mode\u0142": 2, "models_": 3, "N ": 4, "": 5, "m\u00f6del": 6}) == {}
    assert named(dict.fromkeys(GUARDED, 1)) == {}


def test_an_escape_hides_nothing() -> None:
    assert refusal(read_body(b'{"M\\u006fdel":"a"}').fields) == "Model"


def test_a_refused_fields_own_case_is_the_operators() -> None:
    rules = allowed_fields(("Store",))
    for field in ("Store", "store"):
        with pytest.raises(FieldNotAllowed):
            rules.examine({field: 1})


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"tools": [{"type": "image_generation", "model": "i"}]}, {"tools[0].model": "i"}),
        (
            {"tools": [{"type": "function"}, {"type": "advisor_1", "model": "b"}]},
            {"tools[1].model": "b"},
        ),
        ({"tools": [{"type": "namespace", "tools": [{"type": "x", "model": "c"}]}]}, {"tools[0].tools[0].model": "c"}),
        ({"tools": [{"type": "openrouter:x", "parameters": {"model": "d"}}]}, {"tools[0].parameters.model": "d"}),
        ({"moderation": {"model": "e"}}, {"moderation.model": "e"}),
        ({"input_audio_transcription": {"model": "f"}}, {"input_audio_transcription.model": "f"}),
        ({"audio": {"input": {"transcription": {"model": "g"}}}}, {"audio.input.transcription.model": "g"}),
        (
            {"session": {"model": "h", "audio": {"input": {"transcription": {"model": "g"}}}}},
            {"session.model": "h", "session.audio.input.transcription.model": "g"},
        ),
        ({"input": ["x", {"type": "additional_tools", "tools": [{"model": "k"}]}]}, {"input[1].tools[0].model": "k"}),
        ({"Tools": [{"model": "l"}]}, {"Tools[0].model": "l"}),
        ({"tools": [{"model": 5}, {"model": []}, {"model": None}]}, {"tools[0].model": 5, "tools[1].model": []}),
    ],
)
def test_models_named_elsewhere_are_found(body: dict[str, Any], found: dict[str, Any]) -> None:
    assert named(body) == found


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"model": "a", "tools": [{"model": "b"}], "transcription": {"model": "c"}}},
        {"tools": [{"type": "function", "function": {"parameters": {"properties": {"model": {"type": "string"}}}}}]},
        {"tools": [{"type": "function", "parameters": {"model": "a"}}]},
        {"tools": [{"name": "f", "input_schema": {"properties": {"model": {"enum": ["a"]}}}}]},
        {"response_format": {"json_schema": {"schema": {"properties": {"model": {}}, "model": "a"}}}},
        {"text": {"format": {"schema": {"model": "a"}}}},
        {"messages": [{"role": "user", "content": '{"model":"a"}', "tool_calls": [{"function": {"arguments": "{}"}}]}]},
        {"input": [{"type": "function_call", "arguments": '{"tools":[{"model":"a"}]}'}]},
        {"prompt": {"id": "p", "variables": {"model": "a"}}},
        {"tools": "model", "moderation": "a", "audio": {"voice": "alloy"}, "input": {"model": "a"}, "session": None},
    ],
)
def test_what_is_the_callers_own_names_no_model(body: dict[str, Any]) -> None:
    assert named(body) == {}


def test_a_tools_model_in_another_case() -> None:
    assert refusal({"tools": [{"type": "x", "Model": "a"}]}) == "tools[0].Model"


def test_not_any_number_of_models() -> None:
    assert len(named({"tools": [{"model": "a"}] * 1_000})) == 1_000
    with pytest.raises(InvalidRequest):
        named({"tools": [{"model": "a"}] * 1_001})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "tools", "input", "x"]), inner)
    ),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(["model", "tools", "moderation", "session", "input", "audio", "t"]), values)


@settings(deadline=None, max_examples=300)
@given(bodies, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_only_the_names_are_replaced(fields: dict[str, Any], indent: Any, include_usage: bool) -> None:
    """Each model that is named gets its name; every other value keeps its bytes, wherever it stands."""
    raw = json.dumps(fields, indent=indent).encode()
    body = read_body(raw)
    body.mentions = allowed_fields(REFUSED).examine(body.fields)
    names = [f"provider/{number}" for number in range(len(body.mentions))]
    rewritten = body.rewritten("P", include_usage=include_usage, mentioned=names)

    expected = json.loads(raw) | {"model": "P"}
    if include_usage:
        expected["stream_options"] = {"include_usage": True}
    for mention, name in zip(body.mentions, names, strict=True):
        place: Any = expected
        for step in mention.path[:-1]:
            place = place[step]
        place[mention.path[-1]] = name
    assert json.loads(rewritten) == expected
    if "model" in fields and not include_usage:
        assert len(rewritten) == len(raw) + sum(
            len(json.dumps(new)) - len(json.dumps(old, indent=indent))
            for new, old in [("P", fields["model"]), *zip(names, (each.value for each in body.mentions), strict=True)]
            if not isinstance(old, list | dict)
        ) or any(isinstance(each, list | dict) for each in (fields["model"], *(one.value for one in body.mentions)))


@given(st.text(max_size=8))
def test_folding_is_the_same_for_every_case(text: str) -> None:
    ascii_only = "".join(character for character in text if character.isascii())
    assert fold(ascii_only.upper()) == fold(ascii_only.lower()) == fold(ascii_only)
