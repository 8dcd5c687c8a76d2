"""A collector on a real socket: OTLP over HTTP, decoded by OpenTelemetry's own protobuf."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from kit import DEADLINE_SECONDS, Behaviour, FakeUpstream, Received, Reply, answer

service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    reason="NO OPENTELEMETRY: install the extra `otel`",
)

ERROR, UNSET = 2, 0  # of a status
SERVER, CLIENT = 2, 3  # kinds


class Seen(NamedTuple):
    """A span as a collector understands it. Ids in hex; `parent` empty for none."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Spans by the request that they are of."""

    def __init__(self, upstream: FakeUpstream, name: str = "otlp") -> None:
        self.endpoint = upstream.endpoint(name)

    @property
    def url(self) -> str:
        return self.endpoint.url.removesuffix("/v1")

    def section(self, **more: Any) -> dict[str, Any]:
        """What `telemetry` is to say; from now on it takes what comes."""
        self.endpoint.always(answer(200, b"", content_type="application/x-protobuf"))
        return {"otlp": self.url} | more

    @property
    def requests(self) -> list[Received]:
        return self.endpoint.requests

    @property
    def exported(self) -> bytes:
        """Everything that it was sent, heads too."""
        return b"".join(each.head + each.body for each in self.requests)

    def always(self, behaviour: Behaviour) -> None:
        self.endpoint.always(behaviour)

    def spans(self) -> list[Seen]:
        return [span for each in self.requests for span in decoded(each)]

    async def of(self, request_id: str) -> tuple[Seen, list[Seen]]:
        """Waits for the span of a request; that, and those of its attempts in their order."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                spans, count = self.spans(), len(self.requests)
                own = [each for each in spans if each.attributes.get("gateway.request_id") == request_id]
                if own:
                    assert len(own) == 1, "one span a request"
                    within = [each for each in spans if each.parent == own[0].id and each.trace == own[0].trace]
                    return own[0], sorted(within, key=lambda each: each.began)
                await self.endpoint.request(count + 1)

    async def told(self, reply: Reply) -> tuple[Seen, list[Seen]]:
        """The same, of the request that had this answer."""
        return await self.of(reply.header("x-request-id") or "")


def decoded(request: Received) -> list[Seen]:
    assert request.method == "POST"
    assert request.target.endswith("/v1/traces")
    assert request.header("content-type") == "application/x-protobuf"
    message = service.ExportTraceServiceRequest.FromString(request.body)
    return [
        Seen(
            name=span.name,
            kind=span.kind,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            began=span.start_time_unix_nano,
            ended=span.end_time_unix_nano,
            status=span.status.code,
            attributes=_values(span.attributes),
            resource=_values(of_resource.resource.attributes),
        )
        for of_resource in message.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _values(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}
