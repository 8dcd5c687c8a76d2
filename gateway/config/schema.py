"""The shape of gateway.yaml, for validator and JSON Schema alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, cast

import msgspec
from msgspec import Meta

from gateway.config import checks
from gateway.config.record_shapes import (
    KeyShape,
    Label,
    ModelShape,
    OrganisationShape,
    Owner,
    Placed,
    PlanShape,
    Record,
    UserShape,
)
from gateway.config.sections.field_types import Seconds, Text
from gateway.config.sections.listening_side import ServerSettings
from gateway.config.sections.telemetry import TelemetrySettings
from gateway.config.settings import (
    ALERT_EVENTS,
    AlertEvents,
    AlertPercents,
    ChatSettings,
    QueueSettings,
    RoutingSettings,
    SelfServiceSettings,
    StoreSettings,
    SurfaceSettings,
    UsageSettings,
    WebhookSecrets,
    WebhookUrl,
)
from gateway.types import Id, Scope


class AlertShape(Placed, kw_only=True):
    """A receiver of alerts, by webhook (Standard Webhooks)."""

    url: WebhookUrl
    secret: WebhookSecrets
    at: AlertPercents = (50, 80, 100)
    events: AlertEvents = ALERT_EVENTS


class JwtShape(Placed, kw_only=True):
    """An issuer of tokens (JWT) that are taken in a key's place."""

    schema_extra: ClassVar[dict[str, Any]] = {"oneOf": [{"required": ["jwks_url"]}, {"required": ["jwks_file"]}]}

    issuer: Annotated[Text, Meta(description="What `iss` must be, to the letter.")]
    jwks_url: Annotated[
        str | None,
        Meta(description="Where the issuer's public keys are (JWKS).", extra={"check": checks.jwks_url}),
    ] = None
    jwks_file: Annotated[
        Text | None, Meta(description="A file of its public keys (JWKS), in place of jwks_url; watched.")
    ] = None
    ca_file: Annotated[
        Text | None,
        Meta(description="PEM file of the authorities of jwks_url's certificate; default: the system's."),
    ] = None
    audience: Annotated[
        tuple[Text, ...],
        Meta(
            min_length=1,
            description="What `aud` must be or hold, to the letter.",
            extra={"or_one": True},
        ),
    ]
    user: Annotated[Text, Meta(description="The claim that names the user.")] = "sub"
    user_prefix: Annotated[
        str | None, Meta(description="What the user's id begins with; default: the issuer and a colon.")
    ] = None
    organisations: Annotated[
        Text | None, Meta(description="The claim that lists organisations; null: a token brings none.")
    ] = None
    organisations_max: Annotated[
        tuple[Id, ...], Meta(description="Ids of the organisations that a token may bring; others are passed over.")
    ] = ()
    scopes: Annotated[Text | None, Meta(description="The claim that lists scopes; null: each token has ai:use.")] = None
    scopes_max: Annotated[
        tuple[Scope, ...], Meta(description="The scopes that a token may have; others are passed over.")
    ] = ("ai:use",)
    max_age: Annotated[Seconds, Meta(description="Longest life of a token, in seconds, from `iat` to `exp`.")] = 3600


class AuthShape(Placed, kw_only=True):
    """Who else is known than by a key."""

    jwt: Annotated[tuple[JwtShape, ...], Meta(description="Issuers whose tokens are taken (extra jwt).")] = ()


class StudioShape(Placed, kw_only=True):
    tier: Annotated[str | None, Meta(description="Lowest tier for /api/ai/studio; default: the second of tiers.")] = (
        None
    )


class GatewayFile(Placed, kw_only=True):
    """gateway.yaml: the configuration of the gateway."""

    include: Annotated[
        tuple[Text, ...],
        Meta(description="Further files below this one's folder, such as keys/*.yaml; lists join."),
    ] = ()
    server: Annotated[ServerSettings, Meta(description="The listening side.")] = ServerSettings()
    features: Annotated[
        dict[Label, bool], Meta(description="Feature flags; ai: false answers every AI route with feature_disabled.")
    ] = msgspec.field(default_factory=lambda: {"ai": True})
    store: Annotated[
        StoreSettings, Meta(description="What changes at run time: records of admin routes, cooldowns, limit counters.")
    ] = StoreSettings()
    usage: Annotated[UsageSettings, Meta(description="The ledger: a row for each request.")] = UsageSettings()
    routing: Annotated[RoutingSettings, Meta(description="How a request finds its model.")] = RoutingSettings()
    surface: Annotated[SurfaceSettings, Meta(description="What upstreams keep, and which families are served.")] = (
        SurfaceSettings()
    )
    tiers: Annotated[tuple[Label, ...], Meta(min_length=1, description="Tiers of users, lowest first.")] = (
        "free",
        "paid",
        "enterprise",
    )
    chat: Annotated[ChatSettings, Meta(description="POST /api/ai/chat.")] = ChatSettings()
    studio: Annotated[StudioShape, Meta(description="POST /api/ai/studio.")] = msgspec.field(
        default_factory=StudioShape
    )
    models: Annotated[tuple[ModelShape, ...], Meta(description="The registry of models.")] = ()
    organisations: Annotated[tuple[OrganisationShape, ...], Meta(description="Organisations and their grants.")] = ()
    plans: Annotated[tuple[PlanShape, ...], Meta(description="Plans and their grants.")] = ()
    users: Annotated[tuple[UserShape, ...], Meta(description="Users and their grants.")] = ()
    keys: Annotated[tuple[KeyShape, ...], Meta(description="API keys.")] = ()
    auth: Annotated[AuthShape, Meta(description="Callers by tokens of an identity provider.")] = msgspec.field(
        default_factory=AuthShape
    )
    self_service: Annotated[SelfServiceSettings, Meta(description="Keys that users may make for themselves.")] = (
        SelfServiceSettings()
    )
    queue: Annotated[
        QueueSettings, Meta(description="Requests that wait for an endpoint instead of being refused.")
    ] = QueueSettings()
    alerts: Annotated[tuple[AlertShape, ...], Meta(description="Receivers of alerts, by webhook.")] = ()
    telemetry: Annotated[
        TelemetrySettings, Meta(description="Spans of requests and their attempts, for OpenTelemetry.")
    ] = TelemetrySettings()


FILE_TYPE = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(GatewayFile))


def lists_of_records(file: GatewayFile) -> Iterator[tuple[str, tuple[Record, ...]]]:
    """Yield each kind of record with its records.

    In the order of the contract.
    """
    yield "model", file.models
    yield "organisation", file.organisations
    yield "plan", file.plans
    yield "user", file.users
    yield "key", file.keys


def owners(file: GatewayFile) -> Iterator[tuple[str, Owner]]:
    """Everyone who can hold grants, with their kind."""
    for kind, records in lists_of_records(file):
        for record in records:
            if not isinstance(record, ModelShape | KeyShape):
                yield kind, record
