"""Usage as JSON, for routes and `gateway usage --json` (§6)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from gateway.types import Id, id_text
from gateway.usage import Cost, Group, Totals, UsageQuery, UsageReport, UsageRow, exact_cost


class AmountsAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """Totals of some requests.

    `cost` in units of the currency, as everywhere outside of the ledger.
    """

    requests: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost: Cost
    calls: int | UnsetType = UNSET  # that ran no model, where there were any


class UsageRowAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One group's amounts, by day, model or endpoint.

    `endpoint` null: none was reached.

    `name` is the model's public one; null: the model is gone.
    """

    day: str | UnsetType = UNSET
    model: Id | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    endpoint: Id | UnsetType | None = UNSET
    requests: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cost: Cost
    calls: int | UnsetType = UNSET  # that ran no model, where there were any


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of one user or organisation.

    `from` and `to` are days in UTC and both count.
    """

    user: Id | UnsetType = UNSET
    organisation: Id | UnsetType = UNSET
    from_day: str = msgspec.field(name="from")
    to_day: str = msgspec.field(name="to")
    totals: AmountsAnswer
    rows: tuple[UsageRowAnswer, ...]


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


def answer_of(usage: UsageQuery, report: UsageReport, group: Group, names: Mapping[str, str]) -> UsageAnswer:
    """Build the answer about a user or an organisation.

    `names`: of models, by id as text.
    """
    return UsageAnswer(
        user=_given(usage.user),
        organisation=_given(usage.organisation),
        from_day=usage.from_day.isoformat(),
        to_day=usage.to_day.isoformat(),
        totals=_amounts(report.totals),
        rows=_rows(report, group, names),
    )


def summary_of(usage: UsageQuery, days: UsageReport, models: UsageReport, names: Mapping[str, str]) -> UsageSummary:
    return UsageSummary(
        user=_given(usage.user),
        organisation=_given(usage.organisation),
        model=_given(usage.model),
        from_day=usage.from_day.isoformat(),
        to_day=usage.to_day.isoformat(),
        totals=_amounts(days.totals),
        days=_rows(days, "day", names),
        models=_rows(models, "model", names),
    )


def _given(value: Id | None) -> Id | UnsetType:
    return UNSET if value is None else value


def _amounts(totals: Totals) -> AmountsAnswer:
    cost = exact_cost(totals.cost_nano)
    used = totals.requests, totals.tokens, totals.prompt_tokens, totals.completion_tokens, cost
    return AmountsAnswer(*used, totals.calls or UNSET)


def _rows(report: UsageReport, group: Group, names: Mapping[str, str]) -> tuple[UsageRowAnswer, ...]:
    return tuple(_row(row, group, names) for row in report.rows)


def _row(row: UsageRow, group: Group, names: Mapping[str, str]) -> UsageRowAnswer:
    return UsageRowAnswer(**_of(row, group, names), **msgspec.structs.asdict(_amounts(row.totals)))  # type: ignore[arg-type]


def _of(row: UsageRow, group: Group, names: Mapping[str, str]) -> dict[str, Id | None]:
    if group == "day":
        return {"day": row.of}
    model = row.of if group == "model" else row.model
    named: dict[str, Id | None] = {"model": model, "name": None if model is None else names.get(id_text(model))}
    return named if group == "model" else {**named, "endpoint": row.of}
