"""Calendar periods in UTC: their first and last seconds.

POSIX time has no leap seconds, so that all but months have one length.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.types import Period

_LENGTHS_SECONDS: dict[Period, int] = {"minute": 60, "hour": 3_600, "day": 86_400}


def bounds(period: Period, now: float) -> tuple[int, int]:
    """Return the first second of `now`'s period and of the next.

    All are seconds since the epoch.
    """
    length = _LENGTHS_SECONDS.get(period)
    if length is not None:
        start = int(now // length) * length
        return start, start + length
    today = datetime.fromtimestamp(now, UTC)
    following = (today.year + 1, 1) if today.month == 12 else (today.year, today.month + 1)
    return _first_of(today.year, today.month), _first_of(*following)


def _first_of(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())
