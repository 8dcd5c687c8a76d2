"""Records as admins see them, with credentials redacted.

`"set"` stands for one that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.admin_records.record_bodies import LimitsBody, ModelConfig, Origin
from gateway.pool.state import without_credentials
from gateway.pricing import Price
from gateway.types import (
    SCOPES,
    ApiKey,
    AuthHeader,
    Endpoint,
    Id,
    MaxTokensField,
    Model,
    OperationKind,
    ProtocolName,
    Rotation,
    Secret,
    Timeouts,
    utc_text,
)

SET: Literal["set"] = "set"

Masked = Annotated[Literal["set"], Meta(description="There is one; it is never shown.")]


Enabled = Annotated[bool, Meta(description="Left out where it is true.")]


class EndpointShown(msgspec.Struct, kw_only=True):
    id: Id
    url: str
    api_key: Masked | None
    weight: int
    priority: int
    headers: dict[str, Masked]
    query: dict[str, Masked]
    auth_header: AuthHeader | None
    provider_model: str | None
    max_in_flight: int | None
    stream_usage: bool
    protocols: tuple[ProtocolName, ...]
    pass_headers: tuple[str, ...]
    account: str | None
    objects: bool
    websocket: bool
    ca_file: str | None
    timeouts: Timeouts
    price: Price | None


class ModelShown(msgspec.Struct, kw_only=True):
    """A model as it stands; it may be sent back with PUT."""

    id: Id
    name: str
    config: ModelConfig
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    is_global: bool = msgspec.field(name="global")
    limits: LimitsBody | None
    fallbacks: tuple[str, ...]
    operations: tuple[OperationKind, ...] | None
    price: Price | None
    rotation: Rotation
    max_tokens_field: MaxTokensField
    reasoning: bool
    endpoints: list[EndpointShown]
    source: Origin


class GrantShown(msgspec.Struct, kw_only=True):
    """A grant.

    `model` is the model's id, or what was written where there is no such model (any more).
    """

    id: Id
    model: Id
    limits: LimitsBody | None
    source: Origin


class OwnerShown(msgspec.Struct, kw_only=True):
    """An organisation or a plan."""

    id: Id
    name: str | None
    grants: list[GrantShown]
    source: Origin


class UserShown(OwnerShown, kw_only=True, omit_defaults=True):
    tier: str
    organisations: list[Id]
    plans: list[Id]
    enabled: Enabled = True


class LinkShown(msgspec.Struct, kw_only=True):
    id: Id
    modelId: Id
    limits: LimitsBody | None


class LinkMade(msgspec.Struct):
    success: bool
    link: LinkShown


class KeyShown(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`expires` in UTC."""

    id: Id
    user: Id
    scopes: list[str]
    expires: str | None
    limits: LimitsBody | None
    source: Origin
    enabled: Enabled = True
    name: str | None = None
    last4: str | None = None
    models: list[str] | None = None
    ips: list[str] = []
    priority: int | None = None
    created: str | None = None
    maker: Annotated[str, Meta(description="The id of the key that made it.")] | None = None


class KeyMade(KeyShown, kw_only=True):
    key: Annotated[str, Meta(description="The key itself: shown this once, stored nowhere.")]


class FeatureShown(msgspec.Struct):
    name: str
    enabled: bool


class Done(msgspec.Struct):
    success: bool = True


class AuditEntry(msgspec.Struct, kw_only=True):
    """An entry of the audit trail.

    `key` and `user`: whose key asked, and the user it acted as. `before` and `after` as the routes show them.
    """

    time: str
    requestId: str
    key: Id
    user: Id
    action: Literal["create", "replace", "update", "delete"]
    kind: Literal["model", "user", "organisation", "plan", "link", "key", "feature", "cooldown"]
    id: Id
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def model_shown(model: Model, source: Literal["file", "store"]) -> ModelShown:
    return ModelShown(
        id=model.id,
        name=model.name,
        config=ModelConfig(model.provider_model),
        aliases=model.aliases,
        tags=model.tags,
        is_global=model.is_global,
        limits=LimitsBody.of(model.limits),
        fallbacks=model.fallbacks,
        operations=model.operations,
        price=model.price,
        rotation=model.rotation,
        max_tokens_field=model.max_tokens_field,
        reasoning=model.reasoning,
        endpoints=[_endpoint_shown(endpoint) for endpoint in model.endpoints],
        source=source,
    )


def _endpoint_shown(endpoint: Endpoint) -> EndpointShown:
    return EndpointShown(
        id=endpoint.id,
        url=without_credentials(endpoint.url),
        api_key=SET if endpoint.api_key is not None else None,
        weight=endpoint.weight,
        priority=endpoint.priority,
        headers=_masked(endpoint.headers),
        query=_masked(endpoint.query),
        auth_header=endpoint.auth_header,
        provider_model=endpoint.provider_model,
        max_in_flight=endpoint.max_in_flight,
        stream_usage=endpoint.stream_usage,
        protocols=endpoint.protocols,
        pass_headers=endpoint.pass_headers,
        account=endpoint.account,
        objects=endpoint.objects,
        websocket=endpoint.websocket,
        ca_file=endpoint.ca_file,
        timeouts=endpoint.timeouts,
        price=endpoint.price,
    )


def _masked(values: Mapping[str, Secret]) -> dict[str, Literal["set"]]:
    return dict.fromkeys(values, SET)


def key_shown(key: ApiKey, source: Literal["file", "store"]) -> KeyShown:
    return KeyShown(
        id=key.id,
        user=key.user,
        scopes=[scope for scope in SCOPES if scope in key.scopes],
        expires=utc_text(key.expires) if key.expires is not None else None,
        limits=LimitsBody.of(key.limits),
        enabled=key.enabled,
        source=source,
        name=key.name,
        last4=key.last4,
        models=list(key.models) if key.models is not None else None,
        ips=list(key.ips),
        priority=key.priority,
        created=utc_text(key.created) if key.created is not None else None,
        maker=key.makers[0] if key.makers else None,
    )


class OwnKeyShown(msgspec.Struct, kw_only=True, rename={"last_used": "lastUsed"}):
    """One's own key; times in UTC."""

    id: Id
    name: str | None
    last4: str | None
    scopes: list[str]
    models: list[str] | None
    limits: LimitsBody | None
    ips: list[str]
    expires: str | None
    created: str | None
    last_used: str | None
    source: Origin


class OwnKeyMade(OwnKeyShown, kw_only=True):
    key: Annotated[str, Meta(description="The key itself: shown this once, stored nowhere.")]


def own_key_shown(key: ApiKey, source: Literal["file", "store"], last_used: str | None) -> OwnKeyShown:
    shown = key_shown(key, source)
    return OwnKeyShown(
        id=key.id,
        name=key.name,
        last4=key.last4,
        scopes=shown.scopes,
        models=shown.models,
        limits=shown.limits,
        ips=shown.ips,
        expires=shown.expires,
        created=shown.created,
        last_used=last_used,
        source=source,
    )
