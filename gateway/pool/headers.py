"""How long an upstream asks to be left alone: the header forms of the contract, §5, and nothing of the pool's state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 600.0

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|µs|ns)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def retry_after_seconds(headers: Mapping[str, str], now_utc: datetime) -> float | None:
    """Seconds from 0 to 600, or None where no header says anything usable.

    `headers` has lower-case names; `now_utc` bears a time zone. Looked at in this order, a form that cannot be read
    gives way to the next: `retry-after-ms`, `retry-after` (seconds or HTTP date), `x-ratelimit-reset-requests|-tokens`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    retry_after = headers.get("retry-after")
    seconds = _number(retry_after)
    if seconds is None:
        seconds = _seconds_until(retry_after, now_utc)
    if seconds is None:
        seconds = _reset_seconds(headers)
    return None if seconds is None else _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _number(text: str | None) -> float | None:
    # Stricter than float(), which also takes "nan", "inf", "-1", "1_0" and digits of other scripts.
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    return float(text)


def _seconds_until(http_date: str | None, now_utc: datetime) -> float | None:
    if http_date is None:
        return None
    try:
        moment = parsedate_to_datetime(http_date)
        # The oldest form of an HTTP date (asctime) names no zone; all of them are UTC.
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (aware - now_utc).total_seconds()
    except (ValueError, OverflowError):
        return None


def _reset_seconds(headers: Mapping[str, str]) -> float | None:
    """Of both limits the one that is used up; where that is not told, the one that takes longer."""
    exhausted: list[float] = []
    others: list[float] = []
    for kind in ("requests", "tokens"):
        seconds = _duration(headers.get(f"x-ratelimit-reset-{kind}"))
        if seconds is not None:
            is_exhausted = _number(headers.get(f"x-ratelimit-remaining-{kind}")) == 0
            (exhausted if is_exhausted else others).append(seconds)
    return max(exhausted or others, default=None)


def _duration(text: str | None) -> float | None:
    """Durations as Go prints them (`6m0s`, `20ms`, `1h2m3.5s`), or a bare number of seconds."""
    if text is None:
        return None
    compact = text.strip()
    if _DURATION.fullmatch(compact):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(compact))
    return _number(compact)
