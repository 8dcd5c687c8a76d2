"""Read retry-after of a refusal, in every header form.

Contract §5; nothing of the pool's state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 600.0

_EPOCH_FROM = 1e9  # a number above it is a moment: as a number of milliseconds it would be eleven days
_EPOCH_MILLISECONDS_FROM = 1e11  # in seconds that would be the year 5138
_MAX_CHARACTERS = 64  # of any form

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(d|h|ms|m|s|us|µs|ns)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def retry_after_seconds(headers: Mapping[str, str], now_utc: datetime) -> float | None:
    """Return seconds from 0 to 600, None without a usable header.

    `headers` has lower-case names; `now_utc` bears a time zone. Looked at in this order, one that cannot be read gives
    way to the next: `retry-after-ms`, `retry-after`, `x-ratelimit-reset-requests` and `-tokens`. Each may be a number
    of seconds (of milliseconds in `retry-after-ms`), `1m2.5s`, an HTTP date, ISO 8601, or an epoch's number.
    """
    seconds = _wait(headers.get("retry-after-ms"), now_utc, unit_seconds=1e-3)
    if seconds is None:
        seconds = _wait(headers.get("retry-after"), now_utc)
    if seconds is None:
        seconds = _reset_seconds(headers, now_utc)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _reset_seconds(headers: Mapping[str, str], now_utc: datetime) -> float | None:
    """Return the reset of the limit that is used up.

    Where that is not known, of the one that takes longer.
    """
    exhausted: list[float] = []
    others: list[float] = []
    for kind in ("requests", "tokens"):
        seconds = _wait(headers.get(f"x-ratelimit-reset-{kind}"), now_utc)
        if seconds is not None:
            is_exhausted = _number(headers.get(f"x-ratelimit-remaining-{kind}")) == 0
            (exhausted if is_exhausted else others).append(seconds)
    return max(exhausted or others, default=None)


def _wait(text: str | None, now_utc: datetime, *, unit_seconds: float = 1.0) -> float | None:
    """Parse seconds from now in any form; negative for the past.

    A bare number counts `unit_seconds` each.
    """
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        return number * unit_seconds if number <= _EPOCH_FROM else _seconds_from_epoch(number) - now_utc.timestamp()
    compact = text.strip()
    if len(compact) > _MAX_CHARACTERS:
        return None
    if _DURATION.fullmatch(compact):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(compact))
    return _seconds_until(compact, now_utc)


def _number(text: str | None) -> float | None:
    # Stricter than float(), which also takes "nan", "inf", "-1", "1_0" and digits of other scripts.
    if text is None or not _NUMBER.fullmatch(stripped := text.strip()):
        return None
    return float(stripped)  # which by itself leaves "\x1f" where it is


def _seconds_from_epoch(number: float) -> float:
    return number / 1000 if number >= _EPOCH_MILLISECONDS_FROM else number


def _seconds_until(date: str, now_utc: datetime) -> float | None:
    for read in (_iso_date, parsedate_to_datetime):
        try:
            moment = read(date)
            # The oldest form of an HTTP date (asctime) names no zone, nor need ISO 8601: then it is UTC.
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return (aware - now_utc).total_seconds()
        except (ValueError, OverflowError):
            continue
    return None


def _iso_date(text: str) -> datetime:
    return datetime.fromisoformat(text.upper())
