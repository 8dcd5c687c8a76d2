"""Docstrings begin with a line that is read at a glance, in the words of the field."""

from __future__ import annotations

import re

from house_kit import summaries

MOST_WORDS = 12
OWN_ENGLISH = re.compile(r"\b(told|tells?|heard|hears?|let be|somebody|nobody|whoever|story)\b", re.IGNORECASE)
FEW = 10  # what is being written may be longer for a while


def test_first_lines_are_short() -> None:
    found = {place: text for place, text in summaries() if len(text.split()) > MOST_WORDS}
    assert len(found) <= FEW, found


def test_first_lines_have_the_words_of_the_field() -> None:
    found = {place: text for place, text in summaries() if OWN_ENGLISH.search(text)}
    assert len(found) <= FEW, found
