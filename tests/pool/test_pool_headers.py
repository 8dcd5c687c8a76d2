"""How long an upstream asks to be left alone: every header form, in its order, whatever is written there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.pool import LONGEST_WAIT_SECONDS, retry_after_seconds

NOW = datetime(2026, 11, 21, 20, 0, 0, tzinfo=UTC)
UNUSABLE = [
    "",
    " ",
    "-1",
    "nan",
    "inf",
    "Infinity",
    "1e3",
    "1_0",
    "0x10",
    "soon",
    "1.2.3",
    "٣",
    "5 minutes",
    "1s2",
    "s",
]


def wait(**headers: str) -> float | None:
    return retry_after_seconds({name.replace("_", "-"): text for name, text in headers.items()}, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("20", 0.02), ("1500", 1.5), ("1500.5", 1.5005), (" 250 ", 0.25), ("600001", 600), ("9" * 400, 600)],
)
def test_retry_after_ms_is_a_number_of_milliseconds(text: str, seconds: float) -> None:
    assert wait(retry_after_ms=text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("7", 7), ("1.5", 1.5), (".5", 0.5), ("2.", 2), (" 3 ", 3), ("600", 600), ("86400", 600)],
)
def test_retry_after_is_a_number_of_seconds(text: str, seconds: float) -> None:
    assert wait(retry_after=text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sat, 21 Nov 2026 20:00:30 GMT", 30),
        ("Saturday, 21-Nov-26 20:01:00 GMT", 60),
        ("Sat Nov 21 20:00:05 2026", 5),
        ("Sat, 21 Nov 2026 21:00:30 +0100", 30),
        ("Sat, 21 Nov 2026 20:00:30 -0000", 30),
        ("Sat, 21 Nov 2026 19:59:00 GMT", 0),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0),
        ("Sun, 21 Nov 2027 20:00:00 GMT", 600),
    ],
)
def test_retry_after_may_be_an_http_date_of_any_form_and_a_past_one_is_no_wait(text: str, seconds: float) -> None:
    assert wait(retry_after=text) == seconds


@settings(max_examples=100, deadline=None)
@given(st.integers(-3600, 3600), st.integers(-12, 12))
def test_a_date_means_the_same_whatever_the_zone_of_our_own_clock(seconds: int, hours: int) -> None:
    now = NOW.astimezone(timezone(timedelta(hours=hours)))
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds({"retry-after": date}, now) == min(max(seconds, 0), 600)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("59.5s", 59.5),
        ("1m30.25s", 90.25),
        ("1h2m3.5s", 600),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1000ns", 0.000001),
        ("0s", 0),
        ("12", 12),
        ("1.5", 1.5),
        (" 3s ", 3),
    ],
)
@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_a_rate_limit_reset_is_a_duration_as_go_prints_it_or_seconds(kind: str, text: str, seconds: float) -> None:
    assert wait(**{f"x_ratelimit_reset_{kind}": text}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("remaining", "seconds"),
    [
        ({}, 9),
        ({"requests": "0"}, 2),
        ({"tokens": "0"}, 9),
        ({"requests": "0", "tokens": "0"}, 9),
        ({"requests": "0", "tokens": "17"}, 2),
        ({"requests": "5", "tokens": "17"}, 9),
        ({"requests": "none", "tokens": "-0"}, 9),
    ],
)
def test_of_both_resets_the_one_that_is_used_up_counts_else_the_longer(
    remaining: dict[str, str], seconds: float
) -> None:
    resets = {"x-ratelimit-reset-requests": "2s", "x-ratelimit-reset-tokens": "9s"}
    left = {f"x-ratelimit-remaining-{kind}": text for kind, text in remaining.items()}
    assert retry_after_seconds(resets | left, NOW) == seconds


def test_a_used_up_limit_with_an_unusable_reset_gives_way_to_the_other() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "whenever",
        "x-ratelimit-reset-tokens": "4s",
    }
    assert retry_after_seconds(headers, NOW) == 4


def test_the_forms_are_looked_at_in_the_order_of_the_contract() -> None:
    forms = {"retry-after-ms": "1000", "retry-after": "2", "x-ratelimit-reset-requests": "3s"}
    assert retry_after_seconds(forms, NOW) == 1
    del forms["retry-after-ms"]
    assert retry_after_seconds(forms, NOW) == 2
    del forms["retry-after"]
    assert retry_after_seconds(forms, NOW) == 3
    assert retry_after_seconds({}, NOW) is None


@pytest.mark.parametrize("bad", UNUSABLE)
def test_a_form_that_cannot_be_read_gives_way_to_the_next(bad: str) -> None:
    assert wait(retry_after_ms=bad, retry_after="4") == 4
    assert wait(retry_after_ms=bad, retry_after=bad, x_ratelimit_reset_requests="5s") == 5
    assert wait(retry_after_ms=bad, retry_after=bad, x_ratelimit_reset_requests=bad) is None


@pytest.mark.parametrize(
    "date",
    [
        "Sat, 99 Nov 2026 20:00:30 GMT",
        "Sat, 21 Nov 99999 20:00:30 GMT",
        "Sat, 21 Nov 2026 20:00:30 +9999999999",
        "Sat, 21 Nov 2026 20:00:30 +99999999999999999999",
        "Sat, 21 Nov 2026 99:99:99 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2300",
    ],
)
def test_an_impossible_date_never_raises_and_never_lasts_beyond_the_bounds(date: str) -> None:
    assert wait(retry_after=date) in (None, 0.0)


IN_TWENTY_SECONDS = NOW + timedelta(seconds=20)
MOMENTS = {
    "an HTTP date": format_datetime(IN_TWENTY_SECONDS, usegmt=True),
    "ISO 8601, UTC": "2026-11-21T20:00:20Z",
    "ISO 8601, small letters": "2026-11-21t20:00:20z",
    "ISO 8601 with a fraction": "2026-11-21T20:00:20.000000000Z",
    "ISO 8601 with an offset": "2026-11-21T22:30:20+02:30",
    "ISO 8601, basic": "20261121T200020Z",
    "ISO 8601 with a space and no zone": "2026-11-21 20:00:20",
    "epoch seconds": str(int(IN_TWENTY_SECONDS.timestamp())),
    "epoch seconds with a fraction": f"{IN_TWENTY_SECONDS.timestamp():.3f}",
    "epoch milliseconds": str(int(IN_TWENTY_SECONDS.timestamp() * 1000)),
    "a duration": "20s",
    "a duration in parts": "0m20.0s",
}
HEADERS = ["retry-after-ms", "retry-after", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("form", MOMENTS)
def test_every_header_is_read_in_every_form(header: str, form: str) -> None:
    assert retry_after_seconds({header: MOMENTS[form]}, NOW) == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(("text", "seconds"), [("1700000000", 0), ("1e9", None), ("1000000000", 600), ("1d", 600)])
def test_a_moment_that_is_past_is_no_wait_and_no_wait_is_longer_than_ten_minutes(
    header: str, text: str, seconds: float | None
) -> None:
    assert retry_after_seconds({header: text}, NOW) == seconds


@pytest.mark.parametrize("text", ["1" * 100 + "s" + "1" * 10, "1s" * 40_000, "2026-13-01", "2026-11-21T"])
def test_what_only_looks_like_a_form_gives_way_to_the_next(text: str) -> None:
    assert wait(retry_after=text, x_ratelimit_reset_requests="5s") == 5


NAMES = st.sampled_from(
    ["retry-after-ms", "retry-after"]
    + [f"x-ratelimit-{what}-{kind}" for what in ("reset", "remaining") for kind in ("requests", "tokens")]
)
NEAR_MISSES = st.text(alphabet="0123456789.-+:, hmsuµnGMTZSatNov", max_size=40)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(NAMES, NEAR_MISSES | st.text(max_size=40)))
@example({"retry-after-ms": "0\x1f"})
def test_whatever_an_upstream_writes_the_wait_is_bounded_or_none(headers: dict[str, str]) -> None:
    seconds = retry_after_seconds(headers, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS
