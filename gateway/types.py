"""The values shared by all rooms: frozen, mostly hashable, without behaviour.

Shapes follow the YAML of the configuration; ids keep their type (number or string) and compare through `id_text`.
Those of which there may be a hundred thousand are left alone by the garbage collector (`gc=False`): nothing in them can
lead back to them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from gateway.pricing import Price, RateCard
from gateway.pricing import Usage as Usage
from gateway.pricing import UsageDetails as UsageDetails

Id = int | str
Rotation = Literal["round_robin", "weighted", "least_busy", "cache_affinity"]
Period = Literal["minute", "hour", "day", "month"]
AuthHeader = Literal["authorization", "api-key", "x-api-key"]
ProtocolName = Literal["openai", "anthropic"]  # that an endpoint speaks
MaxTokensField = Literal["max_completion_tokens", "max_tokens", "max_output_tokens"]  # the bound of a chat's answer
OperationKind = Literal[
    "chat",
    "completions",
    "embeddings",
    "moderations",
    "images",
    "speech",
    "transcriptions",
    "rerank",
    "realtime",
]
Source = Literal["user", "organisation", "plan", "global"]
Outcome = Literal["ok", "cancelled", "upstream_error", "interrupted"]  # of an admitted request
Scope = Literal["ai:use", "ai:manage", "usage:read", "act:as"]

# What every database and JSON reader takes as a number; longer ones are texts.
_CANONICAL_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)

MADE_BY = "~"  # in a key's id: what is before it is the id of the key that made it

SCOPES: tuple[Scope, ...] = ("ai:use", "ai:manage", "usage:read", "act:as")


def id_text(value: Id) -> str:
    """The form in which ids are compared and used as dictionary keys."""
    return value if isinstance(value, str) else str(value)


def id_from_text(text: str) -> Id:
    """Return the id of an untyped text, a number where possible.

    A path's or a header's.
    """
    return int(text) if _CANONICAL_NUMBER.fullmatch(text) else text


def made_key_id(maker: Id, name: str) -> str:
    """Return the id of a key that another makes.

    It begins with its maker's: what is counted for the maker can be found by it.
    """
    return f"{id_text(maker)}{MADE_BY}{name}"


def utc_text(moment: datetime, *, exact: bool = False) -> str:
    """Format ISO 8601 in UTC with a `Z`.

    Fractions only where there are any, to the millisecond unless `exact`.
    """
    utc = moment.astimezone(UTC)
    fractions = "microseconds" if exact else "milliseconds"
    return utc.isoformat(timespec=fractions if utc.microsecond else "seconds").replace("+00:00", "Z")


def has_expired(expires: datetime | None, now: datetime) -> bool:
    """Whether what holds until `expires` holds no longer; None is for ever."""
    return expires is not None and expires <= now


def usual_auth_header(protocols: Sequence[ProtocolName]) -> AuthHeader | None:
    """Return the header of a credential where none is configured.

    None where it depends on the request's protocol.
    """
    if "anthropic" not in protocols:
        return "authorization"
    return None if "openai" in protocols else "x-api-key"


class Secret:
    """A credential that `str`, `repr` and formatting show as `***`.

    `reveal()` is the only way to the text, so a search for it finds every place that uses one.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Timeouts(msgspec.Struct, frozen=True):
    """Time-outs towards one endpoint, in seconds (contract §5)."""

    connect: float = 5
    first_byte: float = 120
    idle: float = 60
    total: float = 600


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The limits of a caller; `None` is no limit.

    `requests`, `tokens` and `cost` count per calendar `period` in UTC.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    period: Period = "month"


class Endpoint(msgspec.Struct, frozen=True):
    """One upstream of a model."""

    id: Id
    url: str  # base URL, no trailing slash; `/chat/completions` is appended to its path
    api_key: Secret | None = None
    weight: int = 1
    priority: int = 0
    headers: dict[str, Secret] = {}
    query: dict[str, Secret] = {}
    auth_header: AuthHeader | None = "authorization"  # None: by the protocol of the request
    provider_model: str | None = None
    max_in_flight: int | None = None
    stream_usage: bool = True
    websocket: bool = False  # it speaks /responses and /realtime over WebSocket
    account: str | None = None  # names the provider account; None: by origin, credential and headers
    objects: bool = True  # False: it keeps none
    ca_file: str | None = None  # of the authorities whose certificates it may show; None: the system's
    protocols: tuple[ProtocolName, ...] = ("openai",)
    pass_headers: tuple[str, ...] = ()  # of the client's, in lower case
    timeouts: Timeouts = Timeouts()
    price: Price | None = None  # its own, over the model's
    card: RateCard | None = None  # the price that holds here, compiled


class Model(msgspec.Struct, frozen=True):
    """A record of the registry."""

    id: Id
    name: str
    aliases: tuple[str, ...] = ()
    provider_model: str = ""  # filled with `name` by whoever reads the record
    tags: tuple[str, ...] = ()
    is_global: bool = False
    limits: Limits | None = None
    fallbacks: tuple[str, ...] = ()  # ids (as text) of other models
    operations: tuple[OperationKind, ...] | None = None  # None: any
    price: Price | None = None
    rotation: Rotation = "round_robin"
    max_tokens_field: MaxTokensField = "max_completion_tokens"  # where Messages are translated
    reasoning: bool = False  # it takes a `reasoning_effort`
    endpoints: tuple[Endpoint, ...] = ()


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A link from a user, organisation or plan to a model.

    Owners of equal links share one.
    """

    id: Id | None  # None: the file gives none, and it follows from owner and model (`config.id_of_grant`)
    model: str  # the model's id as text
    limits: Limits | None = None


class Organisation(msgspec.Struct, frozen=True, gc=False):
    id: Id
    name: str | None = None
    grants: tuple[Grant, ...] = ()


class Plan(msgspec.Struct, frozen=True, gc=False):
    id: Id
    name: str | None = None
    grants: tuple[Grant, ...] = ()


class User(msgspec.Struct, frozen=True, gc=False):
    id: Id
    tier: str
    name: str | None = None
    organisations: tuple[str, ...] = ()  # ids as text, in order
    plans: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    enabled: bool = True  # False: none of its keys opens anything


class ApiKey(msgspec.Struct, frozen=True, gc=False):
    """A key's record, with the key's SHA-256 in lower-case hex."""

    id: Id
    user: Id
    sha256: str
    scopes: frozenset[str] = frozenset(("ai:use",))
    expires: datetime | None = None  # with a time zone
    limits: Limits | None = None
    enabled: bool = True  # False as well where it was revoked
    name: str | None = None
    last4: str | None = None  # the end of its text, where that was ever known
    models: tuple[str, ...] | None = None  # ids, names or aliases of those that it may use; None: all of its user's
    ips: tuple[str, ...] = ()  # CIDRs from which it may be used; none: from everywhere
    priority: int | None = None  # of its requests in the queue, higher first; None: by its user's tier
    created: datetime | None = None
    made_by: str | None = None  # the SHA-256 of the key that made it
    makers: tuple[str, ...] = ()  # ids of the key that made it, of that one's maker, and so on
    replaced_by: str | None = None  # the SHA-256 of the one that took its place, with the same id
    issuer: str | None = None  # of a token that stands in a key's place; it has no record
    organisations: tuple[str, ...] = ()  # ids as text of those that a token names, besides its user's own


class Caller(msgspec.Struct, frozen=True):
    """The caller: user, memberships, and the key that was sent.

    Under `act:as`, the user acted for. `key` has no more scopes and time than those that made it; `makers` are these,
    the nearest first.
    """

    user: User
    key: ApiKey
    organisations: tuple[Organisation, ...] = ()
    plans: tuple[Plan, ...] = ()
    makers: tuple[ApiKey, ...] = ()

    def may(self, scope: Scope) -> bool:
        return scope in self.key.scopes

    def may_use(self, model: Model) -> bool:
        """Whether its key, and each maker's, is for this model too."""
        if self.key.models is not None and not names_model(self.key.models, model):
            return False
        return not self.makers or all(maker.models is None or names_model(maker.models, model) for maker in self.makers)

    @property
    def is_narrowed(self) -> bool:
        """Whether its keys are for some models alone."""
        return self.key.models is not None or any(maker.models is not None for maker in self.makers)

    @property
    def ranges(self) -> list[tuple[str, ...]]:
        """The CIDRs that it must come from, one of each."""
        return [key.ips for key in (self.key, *self.makers) if key.ips]


def names_model(names: tuple[str, ...], model: Model) -> bool:
    """Whether one of the names is the model's id, name or alias."""
    return id_text(model.id) in names or model.name in names or any(alias in names for alias in model.aliases)


class Access(msgspec.Struct, frozen=True):
    """The resolved model and the first source that grants it.

    A global model has no `grant`.
    """

    model: Model
    source: Source
    owner: Id | None = None
    grant: Grant | None = None

    @property
    def limits(self) -> Limits | None:
        """The winning grant's limits; the model's own where the grant has none."""
        return self.grant.limits if self.grant is not None and self.grant.limits is not None else self.model.limits
