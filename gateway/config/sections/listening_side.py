"""`server`: the listening side."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.config import checks
from gateway.config.sections.field_types import Count, Seconds, Text


class ClientTimeouts(msgspec.Struct, frozen=True):
    """The client's side, in seconds."""

    head: Annotated[Seconds, Meta(description="Seconds a client may take to send its request head.")] = 10
    body: Annotated[Seconds, Meta(description="Seconds a client may take to send its request body.")] = 60
    write: Annotated[Seconds, Meta(description="Seconds a client may leave our answer unread before it is cut.")] = 60
    keepalive: Annotated[Seconds, Meta(description="Seconds an idle client connection is kept open.")] = 75


class ServerSettings(msgspec.Struct, frozen=True):
    host: Annotated[Text, Meta(description="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")] = 8080
    workers: Annotated[Count, Meta(le=1_024, description="Processes; more than one needs store.kind: redis.")] = 1
    max_body_mb: Annotated[Count, Meta(le=4_096, description="Largest request body, in megabytes; beyond it 413.")] = 32
    max_upload_mb: Annotated[
        Count, Meta(le=1_000_000, description="Largest multipart body, in megabytes, spooled to disk; beyond it 413.")
    ] = 512
    spool_mb: Annotated[
        Count,
        Meta(le=100_000_000, description="Multipart bodies on disk, all together, in MB; beyond it 503 overloaded."),
    ] = 4096
    max_in_flight: Annotated[
        Count, Meta(le=10_000_000, description="Requests at a time; beyond it 503 overloaded.")
    ] = 10_000
    memory_mb: Annotated[
        int, Meta(ge=16, le=10_000_000, description="Bodies and answers held by each worker, in MB; beyond it 503.")
    ] = 1024
    max_connections: Annotated[
        Count, Meta(le=10_000_000, description="Client connections of each worker, idle ones too; beyond it 503.")
    ] = 20_000
    websockets: Annotated[
        bool,
        Meta(description="Serve /v1/responses and /v1/realtime over WebSocket; false: 426, so that clients use HTTP."),
    ] = True
    fast_lane: Annotated[
        bool,
        Meta(
            description="Relayed routes and probes are answered by our own HTTP/1.1; false: by aiohttp, as all others."
        ),
    ] = True
    timeouts: Annotated[ClientTimeouts, Meta(description="Time-outs of the client's side.")] = ClientTimeouts()
    stream_heartbeat_seconds: Annotated[
        float,
        Meta(
            ge=0, le=86_400, description="A comment line goes to a waiting stream each such interval; 0 turns it off."
        ),
    ] = 15
    drain_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds that running requests have to end after SIGTERM.")
    ] = 30
    private_endpoints: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.network})], ...],
        Meta(description="Address ranges (CIDR) that endpoint URLs made by admin routes or Redis may point at."),
    ] = ()
    dashboard: Annotated[bool, Meta(description="Whether the pages below /dashboard are served.")] = True
    dashboard_frames: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.public_url})], ...],
        Meta(description="Origins whose pages may frame those below /dashboard, such as https://panel.example.com."),
    ] = ()
    public_url: Annotated[
        str | None,
        Meta(
            description="Where clients find the gateway, such as https://ai.example.com: for cookies and snippets.",
            extra={"check": checks.public_url},
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.network})], ...],
        Meta(description="Address ranges (CIDR) of proxies whose x-forwarded-for or forwarded names the client."),
    ] = ()
    log_upstream_texts: Annotated[
        bool,
        Meta(description="Log what upstreams say when they fail or refuse; it may quote prompts: false keeps it out."),
    ] = True
    metrics_public: Annotated[bool, Meta(description="Whether /metrics is served without a key.")] = False
    cors_origins: Annotated[
        tuple[Annotated[str, Meta(extra={"check": checks.cors_origin})], ...],
        Meta(description="Browser origins that may call the gateway, such as https://app.example.com; or *."),
    ] = ()
