"""Validated settings: frozen values, with every default (contract §2).

The sections here are also the shapes of the file: names, types, ranges and descriptions (`Meta`) drive the validator
and the JSON Schema alike. Records are written differently than they are kept: their file shapes are in `shapes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.config import checks
from gateway.config.sections.field_types import Count, Seconds, Text
from gateway.config.sections.listening_side import ServerSettings
from gateway.config.sections.telemetry import TelemetrySettings
from gateway.config.sources.redis_urls import redis_url
from gateway.config.yaml.fingerprints import Fingerprint
from gateway.types import ApiKey, Model, Organisation, Plan, Secret, User

AlertEvent = Literal["limits", "credentials", "cooldowns", "ledger"]
WebhookUrl = Annotated[
    str,
    Meta(
        description="Where alerts are sent, by POST; redirects are not followed.",
        extra={"check": checks.webhook_url, "secret": True},
    ),
]
WebhookSecrets = Annotated[
    tuple[Annotated[Secret, Meta(extra={"check": checks.webhook_secret})], ...],
    Meta(
        min_length=1,
        description="whsec_ and 16 to 64 random bytes in base64, best from ${VAR}; or a list of two, while one"
        " replaces the other.",
        extra={"or_one": True},
    ),
]
AlertPercents = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=100)], ...],
    Meta(min_length=1, description="Percents of a limit of `requests`, `tokens` or `cost` that are told of."),
]
AlertEvents = Annotated[tuple[AlertEvent, ...], Meta(min_length=1, description="What is told of.")]
ALERT_EVENTS: tuple[AlertEvent, ...] = ("limits", "credentials", "cooldowns", "ledger")

_LINE_BITS = 32
_LINES = (1 << _LINE_BITS) - 1


class StoreSettings(msgspec.Struct, frozen=True):
    kind: Annotated[
        Literal["embedded", "redis"],
        Meta(description="embedded: one process, SQLite under path. redis: many workers and machines."),
    ] = "embedded"
    path: Annotated[Text, Meta(description="Directory of the embedded store, relative to this file.")] = "data"
    url: Annotated[
        Secret, Meta(description="Redis, for kind: redis; its forms are in docs/redis.md.", extra={"check": redis_url})
    ] = Secret("redis://127.0.0.1:6379/0")
    ca_file: Annotated[Text | None, Meta(description="PEM file of Redis' authorities, relative to this file.")] = None
    prefix: Annotated[str, Meta(description="What every Redis key of the gateway begins with.")] = "gw:"


class UsageSettings(msgspec.Struct, frozen=True):
    url: Annotated[
        Secret,
        Meta(
            description="Ledger database: sqlite:///PATH, or postgresql:// or mariadb:// where machines share it.",
            extra={"check": checks.database_url},
        ),
    ] = Secret("sqlite:///data/usage.db")
    journal: Annotated[Text, Meta(description="Its directory, on local disk, relative to this file.")] = "data/journal"
    currency: Annotated[
        Annotated[str, Meta(min_length=1, max_length=12)] | None,
        Meta(description="The currency of the prices, as pages and answers label it, such as USD."),
    ] = None
    retention_days: Annotated[
        Annotated[Count, Meta(le=100_000)] | None, Meta(description="Days that ledger rows are kept; null keeps them.")
    ] = None
    sums_retention_days: Annotated[
        Annotated[Count, Meta(le=100_000)] | None,
        Meta(description="Days that daily and hourly sums are kept, also of rows that are gone; null keeps them."),
    ] = None
    journal_max_mb: Annotated[
        Count, Meta(le=1_000_000, description="Journal size of each worker beyond which requests are refused.")
    ] = 1024
    journal_sync_seconds: Annotated[
        float, Meta(ge=0, le=60, description="How often the disk is told to keep the journal; 0: for each record.")
    ] = 1
    when_unwritable: Annotated[
        Literal["refuse", "serve"],
        Meta(
            description="While the journal cannot be written: refuse requests with 503, or serve and risk their rows."
        ),
    ] = "refuse"


class RoutingSettings(msgspec.Struct, frozen=True):
    unknown_model: Annotated[
        Literal["assigned", "reject"],
        Meta(description="A model nobody knows: serve the caller's assigned one, or reject with 404 model_not_found."),
    ] = "assigned"
    refuse_fields: Annotated[
        tuple[Text, ...],
        Meta(description="Body fields that would let a caller choose past its grant: 400 field_not_allowed."),
    ] = ("models", "fallbacks", "provider", "route", "api_base", "api_key")


class SurfaceSettings(msgspec.Struct, frozen=True):
    extra: Annotated[
        tuple[Literal["videos", "containers", "evals", "fine_tuning", "skills"], ...],
        Meta(description="Further families of routes, whose cost the gateway cannot see."),
    ] = ()
    unknown_objects: Annotated[
        Literal["refuse", "home"],
        Meta(
            description="Ids not made through this gateway: refuse (404), or ask the caller's home (one tenant alone)."
        ),
    ] = "refuse"
    object_days: Annotated[
        Count,
        Meta(
            le=100_000,
            description="Days an object is remembered after its last use; responses and chat completions: 35.",
        ),
    ] = 400


class ChatSettings(msgspec.Struct, frozen=True):
    max_tokens: Annotated[Count, Meta(le=10_000_000, description="Longest answer of /api/ai/chat, in tokens.")] = 4_096


class SelfServiceSettings(msgspec.Struct, frozen=True):
    """The keys that users may make for themselves."""

    keys: Annotated[int, Meta(ge=0, le=100_000, description="How many a user may have made; 0: none.")] = 10
    max_days: Annotated[
        Annotated[Count, Meta(le=100_000)] | None, Meta(description="Days that such a key holds at most; null: any.")
    ] = None


class QueueSettings(msgspec.Struct, frozen=True):
    """How requests wait where every endpoint is full or cools."""

    max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Requests of each process that may wait at a time; 0: none waits.")
    ] = 0
    wait: Annotated[Seconds, Meta(description="Seconds a request waits at most; not for longer cooldowns.")] = 30


class AlertSettings(msgspec.Struct, frozen=True):
    """Where alerts are sent, and which.

    `url` may hold a token. `secrets`: one, or two while the first is being replaced. `at`: ascending percents.
    """

    url: Secret
    secrets: tuple[Secret, ...]
    at: tuple[int, ...]
    events: frozenset[str]


class JwtSettings(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer of tokens; its keys are at `jwks_url`, or `jwks` itself.

    `user`, `organisations` and `scopes` are claims. `max_age` in seconds.
    """

    issuer: str
    audience: frozenset[str]
    jwks_url: str | None
    jwks: bytes | None
    ca_file: str  # absolute; empty for the system's authorities
    user: str
    user_prefix: str
    organisations: str | None
    organisations_max: frozenset[str]  # ids as text
    scopes: str | None
    scopes_max: frozenset[str]
    max_age: float


class AuthSettings(msgspec.Struct, frozen=True):
    jwt: tuple[JwtSettings, ...] = ()


class StudioSettings(msgspec.Struct, frozen=True):
    tier: str  # the lowest tier that may use /api/ai/studio


class ProxySettings(msgspec.Struct, frozen=True):
    """The proxy of the environment: HTTPS_PROXY (or ALL_PROXY) and NO_PROXY.

    In either case.

    `refusal`: why the proxy cannot be used. The file has no https endpoint then; one made at run time is not reached.
    """

    https_proxy: Secret | None = None
    no_proxy: str = ""
    refusal: str = ""


class Lines(Mapping[tuple[str, str], int]):
    """The line that defines each record, by kind and id.

    Kinds are "model", "user", "organisation", "plan", "key", "feature"; ids are text. Kept by kind: a file may
    hold a hundred thousand of them.
    """

    __slots__ = ("by_kind", "sources")

    def __init__(self, by_kind: Mapping[str, Mapping[str, int]], sources: tuple[str, ...] = ()) -> None:
        self.by_kind = by_kind
        self.sources = sources  # names of files; a line of the one at `n` is kept as n * 2^32 + line

    def where(self, kind: str, record_id: str) -> str | None:
        """`FILE:LINE` of the record; None where no file defines it."""
        packed = self.by_kind.get(kind, {}).get(record_id)
        return None if packed is None else f"{self.sources[packed >> _LINE_BITS]}:{packed & _LINES}"

    @staticmethod
    def packed(source: int, line: int) -> int:
        """A line of a source, as it is kept."""
        return source << _LINE_BITS | line

    def __getitem__(self, record: tuple[str, str]) -> int:
        kind, record_id = record
        return self.by_kind[kind][record_id] & _LINES

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((kind, record_id) for kind, lines in self.by_kind.items() for record_id in lines)

    def __len__(self) -> int:
        return sum(map(len, self.by_kind.values()))

    def __repr__(self) -> str:
        return f"<Lines of {len(self)} records>"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that has passed every check.

    Paths are absolute; references are ids as text.

    `files`: those that a `${file:…}` names, and what they were like just before they were read. `looked_up`: in words,
    the prices found for `price: auto`. `overridden`: in words, what the environment sets.
    """

    server: ServerSettings
    features: dict[str, bool]
    store: StoreSettings
    usage: UsageSettings
    routing: RoutingSettings
    surface: SurfaceSettings
    tiers: tuple[str, ...]
    chat: ChatSettings
    studio: StudioSettings
    models: tuple[Model, ...]
    organisations: tuple[Organisation, ...]
    plans: tuple[Plan, ...]
    users: tuple[User, ...]
    keys: tuple[ApiKey, ...]
    self_service: SelfServiceSettings
    queue: QueueSettings = QueueSettings()
    alerts: tuple[AlertSettings, ...] = ()
    auth: AuthSettings = AuthSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    proxy: ProxySettings
    source: str
    lines: Lines
    files: dict[str, Fingerprint | None] = {}
    looked_up: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
