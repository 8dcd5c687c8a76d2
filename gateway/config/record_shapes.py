"""The shapes of records: models, grants, owners, keys.

In gateway.yaml and in the store alike.

A field is a key of the file: its type, default, range and description, and under `extra` the check of its text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from gateway.config import checks
from gateway.config.problems import NOWHERE, Place
from gateway.config.sections.field_types import Count, Seconds, Text
from gateway.pricing import Price
from gateway.types import AuthHeader, Id, MaxTokensField, OperationKind, Period, ProtocolName, Rotation, Scope, Secret

_LARGEST = 2**53  # whole in every JSON reader, JavaScript's too

Label = Annotated[str, Meta(extra={"check": checks.label})]
Amount = Annotated[int, Meta(ge=1, le=_LARGEST)]
Cost = Annotated[float, Meta(gt=0, le=1e12)]
QueuePriority = Annotated[int, Meta(ge=-1_000, le=1_000)]
GivenPrice = Literal["auto"] | Price


class Placed(msgspec.Struct, kw_only=True):
    """A record that knows its place in the file.

    `place` is set by the reader, it is no key of the file.
    """

    place: Place = NOWHERE


class LimitsShape(msgspec.Struct):
    """Limits; every one is optional, and a missing one does not limit."""

    rpm: Annotated[Amount | None, Meta(description="Requests in a sliding minute.")] = None
    tpm: Annotated[Amount | None, Meta(description="Tokens in a sliding minute.")] = None
    concurrency: Annotated[Amount | None, Meta(description="Requests at the same time.")] = None
    requests: Annotated[Amount | None, Meta(description="Requests in each period.")] = None
    tokens: Annotated[Amount | None, Meta(description="Tokens in each period.")] = None
    cost: Annotated[Cost | None, Meta(description="Cost in each period, in the currency of the prices.")] = None
    period: Annotated[Period, Meta(description="Calendar period of the totals, in UTC.")] = "month"


class TimeoutsShape(msgspec.Struct):
    """Time-outs towards one endpoint, in seconds."""

    connect: Annotated[Seconds, Meta(description="Seconds to connect, TLS included.")] = 5
    first_byte: Annotated[Seconds, Meta(description="Seconds to the first event of a stream that has data.")] = 120
    idle: Annotated[Seconds, Meta(description="Seconds between two reads of a live stream.")] = 60
    total: Annotated[
        Seconds, Meta(description="Seconds for a whole answer, or all attempts until the first event.")
    ] = 600


class EndpointShape(Placed, kw_only=True):
    """One upstream of a model."""

    id: Annotated[Id, Meta(description="Id, unique within the model.")]
    url: Annotated[
        str,
        Meta(
            description="Base URL that /chat/completions is appended to; a URL with no path gets /v1.",
            extra={"check": checks.endpoint_url, "secret": True},
        ),
    ]
    api_key: Annotated[
        Secret | None,
        Meta(description="Credential; best from ${VAR} or ${file:PATH}.", extra={"check": checks.credential}),
    ] = None
    weight: Annotated[Count, Meta(le=1_000_000, description="Share under rotation: weighted.")] = 1
    priority: Annotated[int, Meta(ge=-1_000, le=1_000, description="Lower goes first; higher ones are spares.")] = 0
    headers: Annotated[
        dict[
            Annotated[str, Meta(extra={"check": checks.header_name})],
            Annotated[Secret, Meta(extra={"check": checks.header_value})],
        ],
        Meta(description="Further request headers; their values are treated as secrets."),
    ] = {}
    query: Annotated[
        dict[Annotated[str, Meta(extra={"check": checks.not_empty})], Secret],
        Meta(description="Query parameters, such as Azure's api-version; their values are treated as secrets."),
    ] = {}
    auth_header: Annotated[
        AuthHeader | None,
        Meta(
            description="Header that carries api_key, bare but in authorization; default: authorization, and x-api-key"
            " for Anthropic's protocol."
        ),
    ] = None
    provider_model: Annotated[Label | None, Meta(description="The provider's model id here, over the model's own.")] = (
        None
    )
    max_in_flight: Annotated[
        Annotated[Count, Meta(le=10_000_000)] | None, Meta(description="Requests at a time; null for no limit.")
    ] = None
    stream_usage: Annotated[
        bool, Meta(description="false: this upstream refuses stream_options, and usage is estimated.")
    ] = True
    protocols: Annotated[
        tuple[ProtocolName, ...],
        Meta(min_length=1, description="What it speaks: openai, anthropic (/messages is appended to url), or both."),
    ] = ("openai",)
    account: Annotated[
        Label | None,
        Meta(description="Endpoints of one provider account share objects; default: same origin, credential, headers."),
    ] = None
    objects: Annotated[bool, Meta(description="false: this upstream keeps no objects (vLLM, llama.cpp).")] = True
    pass_headers: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.passed_header})], ...],
        Meta(description="Headers of the client's that are passed on besides the route's own."),
    ] = ()
    websocket: Annotated[bool, Meta(description="It speaks /responses and /realtime over WebSocket.")] = False
    ca_file: Annotated[
        Text | None,
        Meta(description="PEM file of the authorities whose certificates it may show; default: the system's."),
    ] = None
    timeouts: Annotated[TimeoutsShape, Meta(description="Time-outs towards this endpoint.")] = msgspec.field(
        default_factory=TimeoutsShape
    )
    price: Annotated[GivenPrice | None, Meta(description="Price here, in the place of the model's.")] = None


class ModelShape(Placed, kw_only=True):
    """A model of the registry."""

    id: Annotated[Id, Meta(description="Public id, a number or text.")]
    name: Annotated[Label, Meta(description="Public name.")]
    aliases: Annotated[tuple[Label, ...], Meta(description="Further names that callers may use.")] = ()
    provider_model: Annotated[Label | None, Meta(description="The provider's model id; default: name.")] = None
    tags: Annotated[tuple[Label, ...], Meta(description="Free labels, shown in lists.")] = ()
    is_global: Annotated[bool, Meta(description="Whether anyone with a key may use it.")] = msgspec.field(
        name="global", default=False
    )
    limits: Annotated[LimitsShape | None, Meta(description="Limits that hold where the winning grant has none.")] = None
    fallbacks: Annotated[
        tuple[Id, ...], Meta(description="Models tried when this one's whole pool has failed; never for embeddings.")
    ] = ()
    operations: Annotated[
        Annotated[tuple[OperationKind, ...], Meta(min_length=1)] | None,
        Meta(
            description="What it serves; null: anything. Routes whose results are not text find a model by it.",
        ),
    ] = None
    price: Annotated[
        GivenPrice | None, Meta(description="Price, for the ledger and cost limits; auto: looked up (extra prices).")
    ] = None
    rotation: Annotated[Rotation, Meta(description="How endpoints of the lowest available priority take turns.")] = (
        "round_robin"
    )
    max_tokens_field: Annotated[
        MaxTokensField, Meta(description="What a translated Messages request's max_tokens becomes.")
    ] = "max_completion_tokens"
    reasoning: Annotated[
        bool,
        Meta(description="true: it takes reasoning_effort, which thinking of a translated Messages request becomes."),
    ] = False
    endpoints: Annotated[tuple[EndpointShape, ...], Meta(min_length=1, description="The model's pool of upstreams.")]


class GrantShape(Placed, kw_only=True):
    """A link to a model."""

    id: Annotated[Id | None, Meta(description="Id of the link; made from owner and model where none is given.")] = None
    model: Annotated[Id, Meta(description="Id, name or alias of a model.")]
    limits: Annotated[LimitsShape | None, Meta(description="Limits of this grant.")] = None


class OrganisationShape(Placed, kw_only=True):
    """An organisation; its grants are counted for all its members together."""

    id: Annotated[Id, Meta(description="Id.")]
    name: Annotated[Label | None, Meta(description="Name, for people.")] = None
    grants: Annotated[tuple[GrantShape, ...], Meta(description="Models of its members.")] = ()


class PlanShape(Placed, kw_only=True):
    """A plan; its grants are counted for each user."""

    id: Annotated[Id, Meta(description="Id.")]
    name: Annotated[Label | None, Meta(description="Name, for people.")] = None
    grants: Annotated[tuple[GrantShape, ...], Meta(description="Models of its subscribers.")] = ()


class UserShape(Placed, kw_only=True):
    """A user."""

    id: Annotated[Id, Meta(description="Id.")]
    tier: Annotated[str | None, Meta(description="One of tiers; default: the lowest.")] = None
    name: Annotated[Label | None, Meta(description="Name, for people.")] = None
    organisations: Annotated[tuple[Id, ...], Meta(description="Ids of organisations, in order of preference.")] = ()
    plans: Annotated[tuple[Id, ...], Meta(description="Ids of plans, in order of preference.")] = ()
    grants: Annotated[
        tuple[GrantShape, ...], Meta(description="Models of this user; the first is its assigned one.")
    ] = ()
    enabled: Annotated[bool, Meta(description="false: all keys of this user are refused.")] = True


class KeyShape(Placed, kw_only=True):
    """An API key, given by its hash or plain.

    Plain is best taken from the environment.
    """

    schema_extra: ClassVar[dict[str, Any]] = {"oneOf": [{"required": ["hash"]}, {"required": ["key"]}]}

    id: Annotated[Id, Meta(description="Id, for logs and admin routes.")]
    user: Annotated[Id, Meta(description="Id of its user, who need not be listed under users.")]
    hash: Annotated[
        str | None,
        Meta(
            description="sha256: and the SHA-256 of the whole key in hex.",
            extra={"check": checks.key_hash, "secret": True},
            extra_json_schema={"pattern": checks.HASH_PATTERN},
        ),
    ] = None
    key: Annotated[
        Secret | None,
        Meta(
            description="The key itself, in place of hash; at least 24 characters, best from ${VAR}.",
            extra={"check": checks.plain_key},
            extra_json_schema={"minLength": checks.MIN_KEY_CHARACTERS},
        ),
    ] = None
    scopes: Annotated[tuple[Scope, ...], Meta(description="What the key may do.")] = ("ai:use",)
    expires: Annotated[
        datetime | None, Meta(description="Date or time from which it is refused; UTC without a zone.")
    ] = None
    limits: Annotated[LimitsShape | None, Meta(description="Limits of this key, besides those of the grant.")] = None
    enabled: Annotated[bool, Meta(description="false: the key is refused.")] = True
    name: Annotated[Label | None, Meta(description="Name, for people.")] = None
    models: Annotated[
        tuple[Id, ...] | None, Meta(description="Ids, names or aliases of models; default: all that its user may use.")
    ] = None
    ips: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.network})], ...],
        Meta(description="Address ranges (CIDR) from which it may be used; default: from everywhere."),
    ] = ()
    priority: Annotated[
        QueuePriority | None,
        Meta(description="Its requests' place in the queue, higher first; default: its user's tier's place in tiers."),
    ] = None


class StoredKeyShape(KeyShape, kw_only=True):
    """An API key that was made at run time."""

    last4: Annotated[str | None, Meta(description="The end of its text.")] = None
    created: Annotated[datetime | None, Meta(description="When it was made.")] = None
    made_by: Annotated[str | None, Meta(description="SHA-256 of the key that made it.")] = None
    makers: Annotated[tuple[Id, ...], Meta(description="Ids of that key, of its maker, and so on.")] = ()
    replaced_by: Annotated[str | None, Meta(description="SHA-256 of the key that took its place.")] = None


Record = ModelShape | OrganisationShape | PlanShape | UserShape | KeyShape
Owner = OrganisationShape | PlanShape | UserShape
