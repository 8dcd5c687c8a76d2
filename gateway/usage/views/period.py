"""Which days a question about usage means."""

from __future__ import annotations

from datetime import date


def days_asked(first: str | None, last: str | None, today: date) -> tuple[date, date]:
    """Parse the first and last day of a query.

    Both count, in UTC; `from` and `to` as they were written.

    Without `to` it is today, without `from` the first of the last day's month: with neither, this month to date.
    Raises ValueError with a text for the person who asked.
    """
    last_day = today if last is None else _day("to", last)
    first_day = last_day.replace(day=1) if first is None else _day("from", first)
    if first_day > last_day:
        raise ValueError(f"`from` ({first_day}) must not be after `to` ({last_day}).")
    return first_day, last_day


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{name}` must be an ISO date, such as 2027-01-31.") from None
