"""Rows on their way into the table: nothing of one is lost or lent to another, however many go together."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from ledgerkit import admission, settlement, stored
from sumskit import Store, check_sums, row_of

from gateway.types import Secret, UsageDetails
from gateway.usage.sql.rows import KIND_COLUMNS, PLACE, stored_kind

RARE: dict[str, Any] = {
    "details": UsageDetails(audio_input_tokens=3),
    "price": '{"input": 3.0}',
    "first_byte_ms": 12.5,
    "duration_ms": 99.25,
    "cached_tokens": 5,
    "requests": 7,
}


def rows(count: int, *, rare: int) -> list[dict[str, Any]]:
    """One of them has what the others lack."""
    found = []
    for number in range(count):
        is_rare = number == rare
        asked = admission(
            f"{number:06}",
            time=1_700_000_000 + number,
            client_request_id="theirs" if is_rare else None,
            organisation=10 if is_rare else None,
            counted_on="user:42" if is_rare else None,
            streamed=is_rare,
        )
        found.append(row_of(asked, settlement(asked.request_id, answered=is_rare, **(RARE if is_rare else {}))))
    return found


def test_columns_that_few_rows_fill_are_theirs_alone(url: Secret) -> None:
    """Statements of several hundred rows, of a few, and of one: what is left out is left out of all or of none."""
    written = rows(907, rare=906)
    with closing(Store(url)) as store:
        store.prepare()
        assert store.insert(written) == []
        assert store.insert(rows(908, rare=907)[907:]) == []  # alone
    expected = [*written, rows(908, rare=907)[907]]
    for row in expected:
        del row["price"]
    assert [{name: each[name] for name in row} for each, row in zip(stored(url), expected, strict=True)] == expected
    check_sums(url)


def test_what_was_made_for_one_id_is_not_taken_for_another(url: Secret) -> None:
    """42 and "42" are kept apart, though what rows have in common is remembered by their ids."""
    written = []
    for number, (user, key) in enumerate([(42, "42"), ("42", 42), (42, 42), ("42", "42")]):
        asked = admission(f"{number:06}", user=user, key=key, time=1_700_000_000 + number)
        written.append(row_of(asked, settlement(asked.request_id)))
    with closing(Store(url)) as store:
        store.prepare()
        assert store.insert(written) == []
    assert [(row["user_id"], row["key_id"]) for row in stored(url)] == [
        ("42", '"42"'),
        ('"42"', "42"),
        ("42", "42"),
        ('"42"', '"42"'),
    ]
    check_sums(url)


def test_places_sort_as_the_keys_of_the_sums_do() -> None:
    """Statements touch one page after the other: an id that another begins with comes first, whatever follows."""
    ids = ["", '"', "a", "a b", "a\x01", "ab", "é", "\U0001f600"]
    base = dict.fromkeys(KIND_COLUMNS, "x") | {"answered": 1, "further_requests": None}
    kinds = [stored_kind(**(base | {"user_id": user, "key_id": key})) for user in ids for key in ids]
    days = [kind.day for kind in kinds]
    assert sorted(days) == [PLACE.join(key) for key in sorted(tuple(day.split(PLACE)) for day in days)]
