"""Spans of requests and their attempts, by OpenTelemetry's GenAI conventions (extra `otel`).

lifecycle.py    on, off and changed by a reload: listens to calls that end, while it is on
finished.py     what is kept of such a call: bounded, and never a word of its body
conventions.py  how the conventions call operations and providers
spans.py        a finished call → its span and those of its attempts, as plain values
exporter.py     a bounded queue and a thread of its own; what is dropped is counted
sink.py         the SDK: plain values → OTLP over HTTP. Nothing else imports it, and only that thread loads it

A request waits for nothing of this: when it has ended, one append is all that it costs.
"""

from gateway.observability.otel.exporter import SpanCounts
from gateway.observability.otel.lifecycle import Telemetry

__all__ = ["SpanCounts", "Telemetry"]
