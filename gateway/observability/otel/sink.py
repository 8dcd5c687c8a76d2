"""The SDK of OpenTelemetry: plain values → OTLP over HTTP.

Its pipeline is used as its documentation has it: a provider without a global, ids and times of our own, and a processor
that gathers what has ended, so that each batch's fate is known.
"""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import Iterable

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context

from gateway import __version__
from gateway.config.sections.telemetry import TelemetrySettings
from gateway.observability.otel.spans import Span, Spans

EXPORT_SECONDS = 10.0
_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class Sink:
    """Where spans go. For one thread, but for `interrupt`.

    `seconds`: for one batch, tries and waits together.
    """

    def __init__(self, settings: TelemetrySettings, seconds: float = EXPORT_SECONDS) -> None:
        # What it logs quotes addresses, whose path may hold a token, and is said by us in a line of our own.
        for name in ("opentelemetry", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._last_status = 0
        self._exporter = OTLPSpanExporter(
            endpoint=traces_url(settings),
            headers={name: value.reveal() for name, value in settings.headers.items()},
            timeout=seconds,
            certificate_file=settings.ca_file or _authorities(),
            session=self._session(traces_url(settings)),
        )
        self._ids, self._ended = _Ids(), _Ended()
        resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": __version__,
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("ecli-gateway", __version__)

    def export(self, requests_spans: Iterable[Spans]) -> str | None:
        """Send a batch; return why it did not arrive, if so."""
        for spans in requests_spans:
            self._begin_and_end(spans)
        batch, self._ended.spans = self._ended.spans, []
        self._last_status = 0
        result = self._exporter.export(batch)
        if result is SpanExportResult.SUCCESS and self._last_status < 300:
            return None
        return f"HTTP {self._last_status}" if self._last_status else "no answer"

    def interrupt(self) -> None:
        """Leave off trying. From any thread, once."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _begin_and_end(self, spans: Spans) -> None:
        self._ids.trace = spans.trace
        parent = Context()
        if spans.parent is not None:
            parent = _within(SpanContext(spans.trace, spans.parent, True, TraceFlags(TraceFlags.SAMPLED)))
        own = self._span(spans.request, parent)
        within = _within(own)
        for attempt in spans.attempts:
            self._span(attempt, within)

    def _span(self, span: Span, parent: Context) -> SpanContext:
        self._ids.span = span.id
        made = self._tracer.start_span(
            span.name, context=parent, kind=_KINDS[span.kind], attributes=span.attributes, start_time=span.began
        )
        if span.is_error:
            made.set_status(StatusCode.ERROR)
        made.end(span.ended)
        return made.get_span_context()

    def _session(self, url: str) -> requests.Session:
        session = requests.Session()
        # Else ~/.netrc takes the place of our headers, and REQUESTS_CA_BUNDLE that of our authorities.
        session.trust_env = False
        session.proxies = dict(requests.utils.get_environ_proxies(url, no_proxy=None))
        session.max_redirects = 0  # our headers are for this collector alone
        session.hooks["response"].append(self._note_status)
        return session

    def _note_status(self, response: requests.Response, *args: object, **more: object) -> None:
        self._last_status = response.status_code


class _Ids(IdGenerator):
    """The ids of the span that begins next."""

    trace = span = 1

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class _Ended(SpanProcessor):
    """Gathers spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def traces_url(settings: TelemetrySettings) -> str:
    """Return where traces go: below the given URL, or that itself."""
    url = settings.otlp.reveal().rstrip("/") if settings.otlp is not None else ""
    return url if url.endswith("/v1/traces") else f"{url}/v1/traces"


def _within(context: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(context), Context())


def _authorities() -> str | None:
    """The system's, or those that SSL_CERT_FILE names."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath
