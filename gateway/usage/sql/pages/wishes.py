"""Name reports whose totals are kept, by spans that move on with the date."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from gateway.usage.reports import Groups, UsageQuery


class Wish(NamedTuple):
    """A report, and how its span moves on with the date.

    `days`: so many up to today, 0: the month's up to today; None: these days, whatever the date is.
    """

    usage: UsageQuery
    groups: Groups
    days: int | None

    @classmethod
    def of(cls, usage: UsageQuery, groups: Groups, today: date) -> Wish:
        if usage.to_day != today:
            return cls(usage, groups, None)
        days = 0 if usage.from_day == today.replace(day=1) else (today - usage.from_day).days + 1
        return cls(_of_all_days(usage), groups, days)

    def is_of(self, usage: UsageQuery, groups: Groups) -> bool:
        """Whether it is of the same report, whatever its days."""
        return (_of_all_days(self.usage), self.groups) == (_of_all_days(usage), groups)

    def usage_on(self, today: date) -> UsageQuery:
        if self.days is None:
            return self.usage
        first = today.replace(day=1) if self.days == 0 else today - timedelta(days=self.days - 1)
        return replace(self.usage, from_day=first, to_day=today)


def _of_all_days(usage: UsageQuery) -> UsageQuery:
    return replace(usage, from_day=date.min, to_day=date.min)
