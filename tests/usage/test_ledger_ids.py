"""Ids in a text column: they keep their type and compare as strings."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgerkit import OpenLedger, admission, engine_of, serve, settlement
from sqlalchemy import Column, MetaData, String, Table

from gateway.types import Secret
from gateway.usage import UsageQuery
from gateway.usage.sql.long_ids import fitted, hash_in, shortened
from gateway.usage.sql.rows import id_of, row_of, stored_forms, stored_id
from gateway.usage.sql.table import ai_usage

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


@pytest.mark.parametrize("text", ["-0", "00", "+1", "1_0", "٣"])
def test_only_numbers_as_they_are_written_are_numbers(text: str) -> None:
    """What Python would read as a number, and nobody else, is a text, and no other id's."""
    assert id_of(stored_id(text)) == text
    assert not set(stored_forms(text)) & set(stored_forms(int(text)))


def test_ids_of_any_length_are_kept_whole() -> None:
    """Python reads no number of 5,000 digits: it stays a text, and nothing fails for it."""
    digits = "9" * 5_000
    assert id_of(stored_id(digits)) == digits
    assert stored_forms(digits) == (f'"{digits}"',)
    number = int("9" * 4_300)
    assert id_of(stored_id(number)) == number
    assert id_of(stored_id("a\0b")) != id_of(stored_id("ab"))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=700), st.text(max_size=700), st.integers(66, 300))
def test_ids_that_were_shortened_stay_apart(one: str, other: str, most: int) -> None:
    """However much they share: a column has room for each, and what it has names but one."""
    assert len(shortened(one, most)) <= most
    assert (shortened(one, most) == shortened(other, most)) == (one == other)
    assert (hash_in(shortened("x" * most + one, most)) is None) == (one == "")


def test_what_fits_is_left_alone() -> None:
    """To the last character; one more, and it is cut and kept whole elsewhere."""
    asked = admission(user="u" * 255, model="m")
    row, beside = row_of(asked, settlement(asked.request_id)), dict[str, str]()
    assert fitted(row, {"user_id": 255, "model": 255}, beside) == row
    assert beside == {}
    assert fitted(row, {"user_id": 254}, beside).kind.columns != row.kind.columns
    assert list(beside.values()) == ["u" * 255]


async def test_ids_come_back_whole_from_every_database(url: Secret, open_ledger: OpenLedger) -> None:
    """Users that share their first 253 characters, digits by the thousand: none becomes another."""
    ledger = await open_ledger(url)
    users: list[int | str] = ["u" * 253 + "1", "u" * 253 + "2", "u" * 650 + "1", "u" * 650 + "2", "9" * 5_000]
    users += ["bob", "bob ", "Bob", "é", "e\N{COMBINING ACUTE ACCENT}", "-0", 0]
    endpoint, model = "e" * 1_500, "m" * 2_000
    for user in users:
        admitted = admission(
            user=user, model=model, key=user, organisation=user, counted_on=f"user:{user}:model:{model}"
        )
        ledger.admit(admitted)
        ledger.settle(settlement(admitted.request_id, served_model=model, endpoint=endpoint))
    await ledger.flushed(20)
    for user in users:
        for whose in ({"user": user}, {"organisation": user}, {"key": user}):
            assert (await ledger.reader.report(UsageQuery(date.min, date.max, **whose))).totals.requests == 1
        assert (await ledger.reader.counted_on(f"user:{user}:model:{model}", 0)).requests == 1
        assert (await ledger.reader.used_by_key(user, 0)).requests == 1
        exported = [each async for each in ledger.reader.export(UsageQuery(date.min, date.max, user=user))]
        assert [(each.user, each.organisation, each.key, each.model) for each in exported] == [
            (user, user, user, model)
        ]
    (row,) = (await ledger.reader.report(UsageQuery(date.min, date.max), "endpoint")).rows
    assert (row.of, row.model, row.totals.requests) == (endpoint, model, len(users))
    assert sorted(await ledger.reader.limit_totals("key", 0)) == sorted(map(str, users))
    assert ledger.status().refused == 0


async def test_a_table_of_an_earlier_version_takes_long_ids(url: Secret, open_ledger: OpenLedger) -> None:
    """Its columns take 255 characters; what is longer is kept beside it, and no row is refused."""
    engine = engine_of(url)
    with engine.begin() as connection:
        old = MetaData()
        columns = [
            Column(each.name, String(255) if each.type.python_type is str else each.type, primary_key=each.primary_key)
            for each in ai_usage.columns
        ]
        Table("ai_usage", old, *columns, mysql_collate="utf8mb4_bin", mariadb_collate="utf8mb4_bin")
        old.create_all(connection)
    engine.dispose()
    ledger = await open_ledger(url)
    users = ["u" * 300 + "1", "u" * 300 + "2"]
    for user in users:
        serve(ledger, user=user)
    await ledger.flushed(20)
    for user in users:
        exported = [each async for each in ledger.reader.export(UsageQuery(date.min, date.max, user=user))]
        assert [each.user for each in exported] == [user]
    assert ledger.status().refused == 0
