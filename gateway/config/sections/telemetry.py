"""`telemetry`: where spans of requests go (extra `otel`)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.config import checks
from gateway.config.problems import Place, Problems
from gateway.types import Secret

_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "requests")


class TelemetrySettings(msgspec.Struct, frozen=True):
    otlp: Annotated[
        Secret | None,
        Meta(
            description="A collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; /v1/traces is appended."
            " null: no spans. Needs the extra otel.",
            extra={"check": checks.collector_url},
        ),
    ] = None
    headers: Annotated[
        dict[
            Annotated[str, Meta(extra={"check": checks.header_name})],
            Annotated[Secret, Meta(extra={"check": checks.header_value})],
        ],
        Meta(description="Request headers for the collector; their values are treated as secrets."),
    ] = {}
    service_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)], Meta(description="service.name of the spans.")
    ] = "ecli-gateway"
    sample_ratio: Annotated[
        float,
        Meta(
            ge=0, le=1, description="Share of the requests without a traceparent that are recorded; with one, it says."
        ),
    ] = 1
    ca_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="PEM file of the authorities whose certificates it may show; default: the system's."),
    ] = None


def check_telemetry(settings: TelemetrySettings, place: Place, problems: Problems) -> None:
    """Note a problem where the extra is missing.

    Nothing would be exported, in silence.
    """
    if settings.otlp is not None and settings.otlp.reveal() and not all(map(_is_there, _NEEDED)):
        reason = "spans need the SDK of OpenTelemetry: pip install 'ecli-gateway[otel]'"
        problems.add_at(place.inside("otlp"), reason)
    first: dict[str, str] = {}
    for name in settings.headers:
        if first.setdefault(name.lower(), name) != name:
            same = problems.quoted(first[name.lower()])
            problems.add_at(place.inside("headers", name), f"the same header as {same}")


def _is_there(module: str) -> bool:
    """Whether a module is installed. Its parents are loaded, which hold nothing."""
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
