"""JSON is measured before it is parsed: exactly, at every cut of its bytes, and in passing where it is malicious."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.openai import read_body
from gateway.dialects.openai.scan import Size, measure, tame
from gateway.errors import InvalidJson

MOST = 1_000_000

texts = st.text(st.sampled_from(':,"\\/{}[]eE1 \n<é🙂'), max_size=5)
documents = st.recursive(
    st.none() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def size_of(value: Any) -> Size:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    sizes = [size_of(each) for each in inner]
    members = len(value) if isinstance(value, dict) else 0
    return Size(1 + sum(each.values for each in sizes), members + sum(each.members for each in sizes))


@settings(deadline=None, max_examples=300)
@given(documents, st.integers(1, 9), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_values_and_members_are_counted_at_every_cut(value: Any, window: int, ascii_only: bool, indent: Any) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert measure(raw, MOST, window=window) == measure(raw, MOST) == size_of(value)


numbers = st.sampled_from(["1", "1e400", "-1e400", "1E+400", "1e-400", "0.5e999", "9" * 400, "10e307", "1e08"])


@settings(deadline=None, max_examples=300)
@given(st.lists(numbers | texts.map(json.dumps), max_size=8), st.integers(1, 9))
def test_only_numbers_beyond_a_double_are_tamed(items: list[str], window: int) -> None:
    """Texts that look like them stay, wherever the bytes are cut."""
    raw = f"[{','.join(items)}]".encode()
    expected = [value if abs(value) != float("inf") else 1e308 * (1 if value > 0 else -1) for value in floats(raw)]
    assert json.loads(tame(raw, window=window), parse_int=float) == expected
    assert tame(raw, window=window) == tame(raw)


def floats(raw: bytes) -> Any:
    class Text(str):
        def __abs__(self) -> float:
            return 0.0

    return [Text(each) if isinstance(each, str) else each for each in json.loads(raw, parse_int=float)]


def test_a_million_values_is_the_bound() -> None:
    """Itself, the array and its items."""
    within = b'{"a":[' + b"1," * (MOST - 3) + b"1]}"
    assert len(read_body(within).fields["a"]) == MOST - 2
    for beyond in (
        b'{"a":[' + b"1," * (MOST - 2) + b"1]}",
        b'{"a":[' + b"[]," * MOST + b"1]}",
        b'{"a":[' + b'{"a":1},' * (MOST // 2) + b"1]}",
        b"{" + b",".join(b'"%x":""' % number for number in range(MOST)) + b"}",
    ):
        with pytest.raises(InvalidJson, match="too many values"):
            read_body(beyond)


def test_marks_within_texts_are_no_values() -> None:
    """Megabytes of commas and of quotes are one text."""
    for text in (b"," * 3_000_000, b'\\"' * 3_000_000, b"[]" * 3_000_000, b"\\\\" * 1_500_000, b"\\u0022," * 500_000):
        assert measure(b'{"a":"' + text + b'"}', MOST) == (2, 1)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_no_json_is_measured_in_passing(seed: int) -> None:
    """Whatever it comes to: no exception, no endless walk."""
    chance = random.Random(seed)
    raw = bytes(chance.choices(b'"\\{}[]:,e1 ', k=300_000))
    measure(raw, MOST)
    tame(raw)
    assert measure(b'{"a":"' + b"," * 1_100_000 + b'"' + b'""' * 4_000_000 + b"}", MOST) is None
