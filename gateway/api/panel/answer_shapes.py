"""The shapes of what a panel is answered."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.config import id_of_grant
from gateway.dialects.openai import Usage
from gateway.limits import Used, nano
from gateway.types import Access, Id, Limits, Model, OperationKind, Period, Source
from gateway.usage import Cost, exact_cost


class UsageView(msgspec.Struct, frozen=True):
    """Tokens of one answer, under OpenAI's names."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(msgspec.Struct, frozen=True):
    reply: str


class ChatEnd(msgspec.Struct, frozen=True):
    """The last event of a streamed chat.

    `usage` is null where the upstream reports none.
    """

    reply: str
    usage: UsageView | None


class StudioAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of the studio.

    `model` is the public name of the model that answered; null where there is none for this caller.
    """

    reply: str
    model: str | None
    usage: UsageView | None
    finish_reason: str | None


class ModelView(msgspec.Struct, frozen=True):
    """A model as callers may see it: nothing of its endpoints.

    `operations`: what it serves; null: anything.
    """

    id: Id
    name: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    operations: tuple[OperationKind, ...] | None


class LimitsView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits that are set.

    `period` is what `requests`, `tokens` and `cost` count in.
    """

    period: Period
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None


class UsedView(msgspec.Struct, frozen=True):
    """Used in the present period; `cost` in currency units."""

    requests: int
    tokens: int
    cost: Cost


class MyModel(msgspec.Struct, frozen=True, rename="camel"):
    """A model of the caller, by the source that grants it.

    `link_id` is the grant's; null for `global`.
    """

    model: ModelView
    limits: LimitsView | None
    used: UsedView
    source: Source
    link_id: Id | None


def usage_view(usage: Usage | None) -> UsageView | None:
    if usage is None:
        return None
    return UsageView(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def view(model: Model) -> ModelView:
    return ModelView(model.id, model.name, model.aliases, model.tags, model.operations)


def my_model(access: Access, used: Used) -> MyModel:
    grant, owner = access.grant, access.owner
    link = id_of_grant(grant, access.source, owner) if grant is not None and owner is not None else None
    return MyModel(view(access.model), _limits_view(access.limits), _used_view(used), access.source, link)


def _limits_view(limits: Limits | None) -> LimitsView | None:
    """None where nothing is limited: a period alone is no limit."""
    fields: dict[str, Any] = msgspec.structs.asdict(limits or Limits())
    is_limiting = any(value is not None for name, value in fields.items() if name != "period")
    return LimitsView(**fields) if is_limiting else None


def _used_view(used: Used) -> UsedView:
    return UsedView(used.requests, used.tokens, exact_cost(nano(used.cost)))
