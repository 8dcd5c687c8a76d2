"""Usage as JSON, for routes and `gateway usage --json` (§6)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from gateway.types import Id, id_text
from gateway.usage import Cost, Groups, Totals, UsageQuery, UsageReport, UsageRow, exact_cost
from gateway.usage.row_pages import Page


class AmountsAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """Totals of some requests.

    `cost` in units of the currency, as everywhere outside of the ledger.
    """

    requests: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost: Cost
    cached_tokens: int | UnsetType = UNSET  # where there were any
    calls: int | UnsetType = UNSET  # that ran no model, where there were any


class UsageRowAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One group's amounts, by what was asked for.

    `endpoint` null: none was reached. `organisation` null: it was counted on none.

    `name` is the model's public one; null: the model is gone.
    """

    day: str | UnsetType = UNSET
    hour: str | UnsetType = UNSET
    model: Id | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    endpoint: Id | UnsetType | None = UNSET
    key: Id | UnsetType = UNSET
    user: Id | UnsetType = UNSET
    organisation: Id | UnsetType | None = UNSET
    requests: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost: Cost
    cached_tokens: int | UnsetType = UNSET  # where there were any
    calls: int | UnsetType = UNSET  # that ran no model, where there were any


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of one user or organisation; of everybody without either.

    `from` and `to` are days in UTC and both count. Where a limit holds, `after` of the next page is `lastId`.
    """

    user: Id | UnsetType = UNSET
    organisation: Id | UnsetType = UNSET
    from_day: str = msgspec.field(name="from")
    to_day: str = msgspec.field(name="to")
    totals: AmountsAnswer
    rows: tuple[UsageRowAnswer, ...]
    has_more: bool | UnsetType = msgspec.field(name="hasMore", default=UNSET)
    last_id: str | UnsetType | None = msgspec.field(name="lastId", default=UNSET)


class UsageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of `gateway usage`.

    What it was narrowed to, totals, and a row for each day and each model.
    """

    user: Id | UnsetType = UNSET
    organisation: Id | UnsetType = UNSET
    model: Id | UnsetType = UNSET
    from_day: str = msgspec.field(name="from")
    to_day: str = msgspec.field(name="to")
    totals: AmountsAnswer
    days: tuple[UsageRowAnswer, ...]
    models: tuple[UsageRowAnswer, ...]


def answer_of(
    usage: UsageQuery, page: Page, groups: Groups, names: Mapping[str, str], *, is_page: bool = False
) -> UsageAnswer:
    """Build the answer about a user, an organisation or everybody.

    `names`: of models, by id as text. `is_page`: it says what comes next.
    """
    return UsageAnswer(
        user=_given(usage.user),
        organisation=_given(usage.organisation),
        from_day=usage.from_day.isoformat(),
        to_day=usage.to_day.isoformat(),
        totals=_amounts(page.report.totals),
        rows=_rows(page.report, groups, names),
        has_more=page.has_more if is_page else UNSET,
        last_id=page.last if is_page else UNSET,
    )


def summary_of(usage: UsageQuery, days: UsageReport, models: UsageReport, names: Mapping[str, str]) -> UsageSummary:
    return UsageSummary(
        user=_given(usage.user),
        organisation=_given(usage.organisation),
        model=_given(usage.model),
        from_day=usage.from_day.isoformat(),
        to_day=usage.to_day.isoformat(),
        totals=_amounts(days.totals),
        days=_rows(days, ("day",), names),
        models=_rows(models, ("model",), names),
    )


def _given(value: Id | None) -> Id | UnsetType:
    return UNSET if value is None else value


def _amounts(totals: Totals) -> AmountsAnswer:
    return AmountsAnswer(
        totals.requests,
        totals.tokens,
        totals.prompt_tokens,
        totals.completion_tokens,
        exact_cost(totals.cost_nano),
        totals.cached_tokens or UNSET,
        totals.calls or UNSET,
    )


def _rows(report: UsageReport, groups: Groups, names: Mapping[str, str]) -> tuple[UsageRowAnswer, ...]:
    return tuple(_row(row, groups, names) for row in report.rows)


def _row(row: UsageRow, groups: Groups, names: Mapping[str, str]) -> UsageRowAnswer:
    return UsageRowAnswer(**_of(row, groups, names), **msgspec.structs.asdict(_amounts(row.totals)))  # type: ignore[arg-type]


def _of(row: UsageRow, groups: Groups, names: Mapping[str, str]) -> dict[str, Id | None]:
    """Name what a row is of.

    A model has its name beside it, an endpoint its model.
    """
    named: dict[str, Id | None] = dict(zip(groups, (row.of, row.second), strict=False))
    if "endpoint" in named:
        named["model"] = row.model
    if (model := named.get("model")) is not None:
        named["name"] = names.get(id_text(model))
    return named
