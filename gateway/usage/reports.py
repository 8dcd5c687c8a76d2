"""Queries of the ledger and their results, without SQLAlchemy.

Days are UTC. Tokens are each request's total; costs are kept exact and told in units of the currency.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec

from gateway.types import Id
from gateway.usage.journal.records import NANO

# An exact decimal of at most nine places, as JSON has it: a float would lose the end of a large sum.
Cost = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
Group = Literal["day", "hour", "model", "endpoint", "key", "user", "organisation"]
Groups = tuple[Group, ...]  # none, one or two
Order = Literal["cost", "tokens", "requests"]
LimitScope = Literal["counted_on", "key"]


def exact_cost(cost_nano: int) -> msgspec.Raw:
    """Write billionths as units of the currency, in JSON."""
    return msgspec.Raw(cost_text(cost_nano).encode())


def cost_text(cost_nano: int) -> str:
    units, billionths = divmod(abs(cost_nano), NANO)
    places = f".{billionths:09d}".rstrip("0").rstrip(".")
    return f"{'-' if cost_nano < 0 else ''}{units}{places}"


class Totals(msgspec.Struct, frozen=True, gc=False):
    """What some requests used together."""

    requests: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0
    calls: int = 0  # that ran no model: objects read, made or deleted, lists; they are not among `requests`
    cached_tokens: int = 0  # among the prompt's, or beside them: as the row has them

    @property
    def cost(self) -> float:
        """In units of the currency."""
        return self.cost_nano / NANO

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class UsageRow(msgspec.Struct, frozen=True, gc=False):
    """One group's totals.

    `of`: a day as `YYYY-MM-DD`, an hour as `YYYY-MM-DDTHH:00:00Z`, or an id (None: no endpoint was reached, no
    organisation counted it). `second`: the same of the second group, where there are two.

    An endpoint's row has its `model` besides: ids of endpoints are unique within their model only.
    """

    of: Id | None
    totals: Totals
    model: Id | None = None
    second: Id | None = None


class UsageReport(msgspec.Struct, frozen=True):
    totals: Totals
    rows: tuple[UsageRow, ...] = ()


class UsageQuery(msgspec.Struct, frozen=True):
    """Whose usage is queried, and of which days.

    Both inclusive, UTC. What is None does not narrow it.
    """

    from_day: date
    to_day: date
    user: Id | None = None
    organisation: Id | None = None
    key: Id | None = None
    model: Id | None = None
