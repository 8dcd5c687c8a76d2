"""What lies near positions is found in a document of any size, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.openai.operations.positions import CONTENTS, ITEM_IDS, RESPONSE_IDS
from gateway.dialects.pruned import MOST_TEXT_BYTES, Pruned
from gateway.dialects.references import Positions

EVERYWHERE = Positions((*RESPONSE_IDS.positions, *CONTENTS.positions))
_NAMES = st.sampled_from(
    ["id", "output", "data", "object", "conversation", "encrypted_content", "metadata", 'x"\\', "ü"]
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.floats(allow_nan=False)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)


def pruned(text: bytes, cuts: int, positions: Positions = EVERYWHERE) -> Pruned:
    found = Pruned(positions)
    for start in range(0, len(text), cuts):
        found.feed(text[start : start + cuts])
    return found


def named(positions: Positions, document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each.kind, each.id) for each in positions.within(document)]


@given(st.dictionaries(_NAMES, _VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_it_finds_what_the_whole_document_has(
    document: dict[str, Any], cuts: int, indent: int | None, is_ascii: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode()
    for positions in (EVERYWHERE, ITEM_IDS):
        found = pruned(text, cuts, positions).fields
        assert named(positions, found) == named(positions, document)


def test_what_stands_beside_an_id_is_kept_and_the_rest_is_not() -> None:
    document = {"id": "a", "created_at": 5, "status": "queued", "text": "x" * 600, "metadata": {"k": "v"}, "output": []}
    assert pruned(json.dumps(document).encode(), 7).fields == {
        "id": "a",
        "created_at": 5,
        "status": "queued",
        "output": [],
    }


def test_a_text_without_end_is_passed_over() -> None:
    found = Pruned(EVERYWHERE)
    found.feed(b'{"id":"')
    for _ in range(3):
        found.feed(b"\\\\" * MOST_TEXT_BYTES)
    found.feed(b'","conversation":{"id":"conv_1"}')
    assert found.fields == {"conversation": {"id": "conv_1"}}


@pytest.mark.parametrize("text", [b"[1]", b'"id"', b"}", b"nothing", b'{"id":"a"}{"conversation":{"id":"b"}}'])
def test_what_is_no_object_names_nothing_more(text: bytes) -> None:
    assert pruned(text + b" ", 3).fields in ({}, {"id": "a"})


def test_most_of_a_flood_is_passed_over() -> None:
    found = pruned(b'{"output":[' + b'{"id":"x"},' * 200_000, 1 << 16)
    assert found.found < 60_000
