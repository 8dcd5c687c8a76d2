"""Usage told to people and spreadsheets: days, tables with bars, CSV that does nothing but hold values."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage import Totals, UsageQuery, UsageReport, UsageRow
from gateway.usage.receipts import RequestRecord
from gateway.usage.row_pages import cut
from gateway.usage.views import CSV_HEADER, answer_of, csv_line, days_asked, summary_of, summary_text

TODAY = date(2028, 2, 29)
JANUARY = UsageQuery(date(2027, 1, 1), date(2027, 1, 31), user=42)
DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


# --- days


@pytest.mark.parametrize(
    ("first", "last", "meant"),
    [
        (None, None, ("2028-02-01", "2028-02-29")),
        ("2028-01-31", None, ("2028-01-31", "2028-02-29")),
        (None, "2027-12-24", ("2027-12-01", "2027-12-24")),
        ("2027-12-24", "2027-12-24", ("2027-12-24", "2027-12-24")),
        ("0001-01-01", "9999-12-31", ("0001-01-01", "9999-12-31")),
    ],
)
def test_days_default_to_the_month_to_date(first: str | None, last: str | None, meant: tuple[str, str]) -> None:
    """What is left out is filled in so that the question makes sense."""
    assert days_asked(first, last, TODAY) == tuple(map(date.fromisoformat, meant))


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        ("2027-02-29", None, "`from`"),
        (None, "tomorrow", "`to`"),
        ("", None, "`from`"),
        ("2027-01-01T00:00:00Z", None, "`from`"),
        ("2027-01-02", "2027-01-01", "`from` (2027-01-02) must not be after `to` (2027-01-01)"),
        ("2028-03-01", None, "must not be after"),
    ],
)
def test_days_that_make_no_sense_are_refused_by_name(first: str | None, last: str | None, told: str) -> None:
    """People learn which of the two was wrong."""
    with pytest.raises(ValueError) as refusal:
        days_asked(first, last, TODAY)
    assert told in str(refusal.value)


# --- JSON


def totals(requests: int, tokens: int, cost_nano: int = 0, *, cached: int = 0) -> Totals:
    return Totals(requests, tokens, tokens // 3, tokens - tokens // 3, cost_nano, cached_tokens=cached)


def test_an_answer_names_what_it_is_about_and_nothing_else() -> None:
    """The contract's shape: `user` or `organisation`, and each row under the name of its group."""
    report = UsageReport(
        totals(3, 30, 1), (UsageRow("a", totals(2, 21, cached=5), 1), UsageRow(None, totals(1, 9), "gone"))
    )
    told = answer_of(JANUARY, cut(report, None), ("endpoint",), {"1": "gpt"})
    answer = msgspec.json.decode(msgspec.json.encode(told))
    assert answer == {
        "user": 42,
        "from": "2027-01-01",
        "to": "2027-01-31",
        "totals": {"requests": 3, "tokens": 30, "promptTokens": 10, "completionTokens": 20, "cost": 1e-9},
        "rows": [
            {"model": 1, "name": "gpt", "endpoint": "a", "requests": 2, "tokens": 21}
            | {"promptTokens": 7, "cachedTokens": 5, "completionTokens": 14, "cost": 0.0},
            {"model": "gone", "name": None, "endpoint": None, "requests": 1, "tokens": 9}
            | {"promptTokens": 3, "completionTokens": 6, "cost": 0.0},
        ],
    }


@pytest.mark.parametrize("label", [7, "7"])
def test_ids_keep_their_type(label: int | str) -> None:
    """7 and "7" are one model, and still each comes out as it went in."""
    report = UsageReport(totals(1, 1), (UsageRow(label, totals(1, 1)),))
    (row,) = answer_of(JANUARY, cut(report, None), ("model",), {}).rows
    assert (row.model, type(row.model)) == (label, type(label))


# --- the table


def table(days: list[UsageRow], models: list[UsageRow] | None = None, **usage: Any) -> list[str]:
    whole = sum((row.totals for row in days), Totals())
    asked = UsageQuery(JANUARY.from_day, JANUARY.to_day, **usage)
    summary = summary_of(asked, UsageReport(whole, tuple(days)), UsageReport(whole, tuple(models or ())), {})
    return summary_text(summary, {"1": "gpt-4o"}, unicode=True).splitlines()


def test_a_table_has_every_day_a_total_and_the_models() -> None:
    """Quiet days in between are there, columns line up, and bars are in proportion."""
    days = [
        UsageRow("2027-01-03", totals(12, 400_000, 10**7, cached=90_000)),
        UsageRow("2027-01-05", totals(1_222, 100_000, 10**9)),
    ]
    assert table(days, [UsageRow(1, totals(1_234, 500_000, 10**9))], user=42) == [
        "Usage of user 42, 2027-01-01 to 2027-01-31 (UTC)",
        "",
        "day         requests   tokens  cached    cost",
        "2027-01-03        12  400,000  90,000  0.0100  ████████████████████████",
        "2027-01-04         0        0       0  0.0000",
        "2027-01-05     1,222  100,000       0  1.0000  ██████",
        "total          1,234  500,000  90,000  1.0100",
        "",
        "model   requests   tokens  cached    cost",
        "gpt-4o     1,234  500,000       0  1.0000  ████████████████████████",
    ]


def test_nothing_recorded_is_said() -> None:
    """An empty table would leave people wondering."""
    assert table([], organisation=10) == [
        "Usage of organisation 10, 2027-01-01 to 2027-01-31 (UTC): nothing is recorded."
    ]


def test_bars_show_requests_where_no_tokens_were_counted() -> None:
    """A day of pictures is not an empty day."""
    lines = table([UsageRow("2027-01-03", totals(4, 0)), UsageRow("2027-01-04", totals(2, 0))])
    assert [line.count("█") for line in lines[3:5]] == [24, 12]


def test_what_was_cached_has_a_column_where_anything_was() -> None:
    assert table([UsageRow("2027-01-03", totals(4, 10))])[2].split() == ["day", "requests", "tokens", "cost"]


def test_the_smallest_use_is_seen() -> None:
    """One token beside a billion still gets the thinnest bar."""
    lines = table([UsageRow("2027-01-03", totals(1, 1)), UsageRow("2027-01-04", totals(1, 10**9))])
    assert lines[3].endswith("  ▏")


def test_a_terminal_without_unicode_gets_bars_all_the_same() -> None:
    """A pipe to a log in ASCII must not fail on a block character."""
    report = UsageReport(totals(1, 5), (UsageRow("2027-01-03", totals(1, 5)),))
    text = summary_text(summary_of(JANUARY, report, UsageReport(Totals()), {}), {}, unicode=False)
    assert text.isascii()
    assert "#" * 24 in text


def test_names_are_no_commands_for_a_terminal() -> None:
    """Ids come from records that others write."""
    lines = table([UsageRow("2027-01-03", totals(1, 1))], [UsageRow("x\x1b[2Jy\r\n", totals(1, 1))], user="\x1b]0;z")
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("x?[2Jy??")


# --- CSV


def record(**fields: Any) -> RequestRecord:
    plain: dict[str, Any] = {
        "request_id": "r1",
        "client_request_id": None,
        "time": datetime(2027, 1, 31, 23, 59, 59, 7_999, UTC),
        "user": 42,
        "organisation": None,
        "key": "laptop",
        "model": 1,
        "endpoint": "a",
        "route": "chat/completions",
        "streamed": True,
        "status": 200,
        "outcome": "ok",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "total_tokens": 3,
        "usage_source": "reported",
        "cost_nano": 100,
        "first_byte_ms": None,
        "duration_ms": 12.5,
        "attempts": 1,
        "details": None,
        "price": None,
        "failures": (),
    }
    return RequestRecord(**(plain | fields))


def read(line: str) -> dict[str, str]:
    """As a reader that nobody here wrote sees it."""
    (row,) = csv.DictReader(io.StringIO(CSV_HEADER + line, newline=""), strict=True)
    return row


def test_a_line_holds_each_value_under_its_name() -> None:
    """Times in UTC, money without an exponent, nothing as nothing."""
    line = csv_line(record())
    assert line.startswith(
        "r1,,2027-01-31T23:59:59.007Z,42,,laptop,1,a,chat/completions,true,200,ok,1,2,0,0,3,reported,0.0000001,,12.5,1,"
    )
    assert read(line)["cost"] == "0.0000001"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_comes_back_and_none_is_a_formula(text: str) -> None:
    """Quotes, commas and line ends survive any reader, and no cell begins as a formula does."""
    cell = read(csv_line(record(client_request_id=text, model=text)))["client_request_id"]
    assert cell == (f"'{text}" if text.startswith(DANGEROUS) else text)
    assert not cell.startswith(DANGEROUS)


def test_numbers_are_left_alone() -> None:
    """An id that is a negative number is a number, and no formula."""
    assert read(csv_line(record(user=-7)))["user"] == "-7"
    assert read(csv_line(record(user="-7")))["user"] == "'-7"


def test_a_batch_whose_cost_was_reserved_paid_for_its_lines() -> None:
    """The dearest price is more than that of its tokens; the rest is no further requests."""
    price = msgspec.json.encode({"input": 1.0, "cache_write": 1.25, "request": 0.001, "batch": 0.5}).decode()
    of = {"route": "batches", "prompt_tokens": 10**6, "completion_tokens": 0, "total_tokens": 10**6, "price": price}
    line = csv_line(record(**of, cost_nano=626_000_000, lines=2))
    assert read(line)["request"] == "2"
