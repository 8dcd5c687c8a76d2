"""Bodies of admin routes, typed by field.

Ranges, URLs and names are then judged by the rules of gateway.yaml.

A record that was read may be sent back as it came: `source` is passed over, `"set"` stands for a credential that is
stored already. An unknown field is refused, since a slip in a limit's name would be no limit; `config` alone may hold
whatever a panel keeps there.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.config.record_shapes import Amount, Cost, QueuePriority
from gateway.pricing import Price
from gateway.types import AuthHeader, Limits, MaxTokensField, OperationKind, Period, ProtocolName, Rotation, Scope

Origin: TypeAlias = Annotated[Literal["file", "store"], Meta(description="Who defines it: gateway.yaml or the store.")]
# What gateway.yaml takes as an id: a number that SQL databases and JSON writers can hold, or text.
GivenId: TypeAlias = Annotated[int, Meta(ge=-(2**63) + 1, le=2**63 - 1)] | str
Priority: TypeAlias = Annotated[int, Meta(ge=-1000, le=1000)]
Headers: TypeAlias = Annotated[dict[str, str], Meta(description="By name; `set` for a value that is stored already.")]


Expires: TypeAlias = Annotated[str, Meta(description="ISO 8601 date or time; UTC without a zone.")]
Models: TypeAlias = Annotated[list[GivenId], Meta(description="Ids, names or aliases; null: all of its user's.")]
Ranges: TypeAlias = Annotated[list[str], Meta(description="Address ranges (CIDR) from which it may be used.")]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every body has in common."""


class LimitsBody(Body):
    """Limits; a missing one does not limit.

    `period` (default: month) is that of the totals.
    """

    rpm: Amount | None = None
    tpm: Amount | None = None
    concurrency: Amount | None = None
    requests: Amount | None = None
    tokens: Amount | None = None
    cost: Cost | None = None
    period: Period | None = None

    @classmethod
    def of(cls, limits: Limits | None) -> LimitsBody | None:
        if limits is None:
            return None
        totals = limits.requests is not None or limits.tokens is not None or limits.cost is not None
        period = limits.period if totals or limits.period != "month" else None
        return cls(**{**msgspec.structs.asdict(limits), "period": period})


GivenLimits: TypeAlias = LimitsBody | UnsetType | None


class TimeoutsBody(Body):
    """Seconds; what is missing is as in gateway.yaml."""

    connect: float | UnsetType = UNSET
    first_byte: float | UnsetType = UNSET
    idle: float | UnsetType = UNSET
    total: float | UnsetType = UNSET


class EndpointBody(Body, kw_only=True):
    """`endpoint` is another name for `url`, `apiKey` and `key` for `api_key`."""

    id: GivenId
    url: str | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    api_key: str | UnsetType | None = UNSET
    apiKey: str | UnsetType | None = UNSET
    key: str | UnsetType | None = UNSET
    weight: Amount | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    headers: Headers | UnsetType = UNSET
    query: Headers | UnsetType = UNSET
    auth_header: AuthHeader | UnsetType | None = UNSET
    provider_model: str | UnsetType | None = UNSET
    max_in_flight: Amount | UnsetType | None = UNSET
    stream_usage: bool | UnsetType = UNSET
    protocols: list[ProtocolName] | UnsetType = UNSET
    pass_headers: list[str] | UnsetType = UNSET
    account: str | UnsetType | None = UNSET
    objects: bool | UnsetType = UNSET
    websocket: bool | UnsetType = UNSET
    ca_file: Annotated[str, Meta(min_length=1, description="Absolute.")] | UnsetType | None = UNSET
    timeouts: TimeoutsBody | UnsetType = UNSET
    price: Price | UnsetType | None = UNSET


class ModelConfig(msgspec.Struct, omit_defaults=True):
    """The panel's own bag: `modelId` is the provider's model id."""

    modelId: str | None = None


class ModelBody(Body, kw_only=True):
    """A model: the panel's names, and for everything else those of gateway.yaml."""

    id: GivenId | UnsetType = UNSET
    name: str
    config: ModelConfig | UnsetType = UNSET
    provider_model: str | UnsetType | None = UNSET
    aliases: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    is_global: bool | UnsetType = msgspec.field(name="global", default=UNSET)
    limits: LimitsBody | None = None
    fallbacks: list[GivenId] | UnsetType = UNSET
    operations: Annotated[list[OperationKind], Meta(min_length=1)] | UnsetType | None = UNSET
    price: Price | None = None
    rotation: Rotation | UnsetType = UNSET
    max_tokens_field: MaxTokensField | UnsetType = UNSET
    reasoning: bool | UnsetType = UNSET
    endpoints: Annotated[list[EndpointBody], Meta(min_length=1)]
    source: Origin | UnsetType = UNSET


class GrantBody(Body, kw_only=True):
    """A link among the grants of its owner."""

    id: GivenId | UnsetType | None = UNSET
    model: Annotated[GivenId, Meta(description="GivenId, name or alias of a model.")]
    limits: LimitsBody | None = None
    source: Origin | UnsetType = UNSET


class OwnerBody(Body):
    """An organisation or a plan. Without `grants` those that are there stay."""

    id: GivenId | UnsetType = UNSET
    name: str | None = None
    grants: list[GrantBody] | UnsetType = UNSET
    source: Origin | UnsetType = UNSET


class UserBody(OwnerBody):
    """A user.

    Without `grants` those that are there stay; without `tier` it is the lowest.
    """

    tier: str | None = None
    organisations: list[GivenId] = []
    plans: list[GivenId] = []
    enabled: Annotated[bool, Meta(description="false: all keys of this user are refused.")] = True


class UserLink(Body):
    userId: GivenId
    limits: GivenLimits = UNSET


class OrganisationLink(Body):
    orgId: GivenId
    limits: GivenLimits = UNSET


class PlanLink(Body):
    planId: GivenId
    limits: GivenLimits = UNSET


class LinkChange(Body):
    """Changes to a link.

    What is missing stays as it is; `limits: null` takes the limits away.
    """

    limits: GivenLimits = UNSET
    modelId: GivenId | UnsetType = UNSET


class KeyBody(Body):
    user: GivenId
    id: GivenId | UnsetType = UNSET
    scopes: tuple[Scope, ...] = ("ai:use",)
    expires: Expires | None = None
    limits: LimitsBody | None = None
    name: str | None = None
    models: (
        Annotated[list[GivenId], Meta(description="Ids, names or aliases; null: all that its user may use.")] | None
    ) = None
    ips: Ranges = []
    priority: (
        Annotated[QueuePriority, Meta(description="In the queue, higher first; null: by its user's tier.")] | None
    ) = None


class OwnKeyBody(Body):
    """A key for oneself, within what one's own key may."""

    scopes: tuple[Scope, ...] = ("ai:use",)
    expires: Expires | None = None
    limits: LimitsBody | None = None
    name: str | None = None
    models: list[GivenId] | None = None
    ips: Ranges = []


class OwnKeyChange(Body):
    """Changes to one's key; what is missing stays as it is."""

    scopes: tuple[Scope, ...] | UnsetType = UNSET
    expires: Expires | UnsetType | None = UNSET
    limits: GivenLimits = UNSET
    name: str | UnsetType | None = UNSET
    models: list[GivenId] | UnsetType | None = UNSET
    ips: Ranges | UnsetType = UNSET


class RotationBody(Body):
    grace_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400, description="How long the old key holds.")] = 0


class FeatureBody(Body):
    enabled: bool
