"""The shapes of an explanation.

`ageSeconds`: how long ago the run-time store was asked for what was used of it; None where nothing of it was.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.admin_records.endpoint_states import EndpointWatched
from gateway.types import Id, Source

LimitName = Literal["rpm", "tpm", "concurrency", "requests", "tokens", "cost"]


class KeyExplained(msgspec.Struct):
    """A key.

    `refusal`: why it does not open the AI routes, and the `code` of that; None where it opens them.
    """

    id: Id
    scopes: list[str]
    expires: str | None
    refusal: str | None
    code: str | None
    ageSeconds: float | None = None


class UserExplained(msgspec.Struct):
    id: Id
    tier: str
    name: str | None
    ageSeconds: float | None = None


class SourceExplained(msgspec.Struct):
    """One source of grants.

    `granted`: whether it grants the model that was asked about (any, where none was).
    """

    source: Source
    id: Id | None
    name: str | None
    granted: bool
    wins: bool
    why: str
    linkId: Id | None = None
    model: Id | None = None
    ageSeconds: float | None = None


class LimitExplained(msgspec.Struct):
    """One limit and its standing.

    `counts`: whom. `window`: in which time. `resetsAt` (of totals) is ISO 8601.

    `used` is None where it cannot be told just now.
    """

    counts: str
    limit: LimitName
    most: float
    used: float | None
    window: str
    resetsAt: str | None


class PoolExplained(msgspec.Struct):
    """A pool.

    `order`: the endpoints that one request would try now, in turn, if each of them failed.
    """

    modelId: Id
    model: str
    rotation: str
    fallback: bool
    order: list[Id]
    endpoints: list[EndpointWatched]


class Verdict(msgspec.Struct):
    """The result of a request before any upstream is asked.

    `code` is that of its refusal.
    """

    served: bool
    why: str
    code: str | None = None
    modelId: Id | None = None
    model: str | None = None
    source: Source | None = None


class Explanation(msgspec.Struct):
    """`asked`: the model as it was named, None for the assigned one."""

    asked: str | None
    user: UserExplained
    key: KeyExplained | None
    verdict: Verdict
    sources: list[SourceExplained]
    limits: list[LimitExplained]
    pools: list[PoolExplained]
    overridden: Annotated[list[str], Meta(description="What the environment sets over the file.")] = []
