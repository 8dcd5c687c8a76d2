"""Ids in a text column: they keep their type and compare as strings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.rows import id_of, stored_forms, stored_id

IDS = st.one_of(
    st.integers(-(10**20), 10**20),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
    st.integers().map(str),
    st.integers().map(lambda number: f'"{number}"'),
)


@settings(max_examples=500, deadline=None)
@given(IDS)
def test_an_id_comes_back_with_its_type(value: int | str) -> None:
    """42 stays a number and "42" a string, whatever looks like what."""
    assert id_of(stored_id(value)) == value
    assert type(id_of(stored_id(value))) is type(value)


@settings(max_examples=500, deadline=None)
@given(IDS, IDS)
def test_ids_are_found_by_their_text(one: int | str, other: int | str) -> None:
    """A query for an id finds it in either type, and finds no other."""
    assert (stored_id(other) in stored_forms(one)) == (str(one) == str(other))


@pytest.mark.parametrize(
    ("value", "text"), [(42, "42"), ("42", '"42"'), ("laptop", "laptop"), ('"x', '""x"'), ("042", "042"), ("", "")]
)
def test_stored_ids_are_readable(value: int | str, text: str) -> None:
    """People query the table by hand: only what would be ambiguous is quoted."""
    assert stored_id(value) == text


def test_an_id_that_no_column_holds_is_cut() -> None:
    """One absurd id must not keep its row, and with it the journal, from the database."""
    assert len(stored_id("9" * 1_000)) == 255
    assert stored_id("a\0b") == "ab"
