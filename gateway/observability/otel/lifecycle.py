"""Spans on, off, and changed by a reload."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from gateway.config.sections.telemetry import TelemetrySettings
from gateway.observability.calls import Call, Calls
from gateway.observability.otel.exporter import Exporter, SpanCounts
from gateway.observability.otel.finished import FinishedCall

_RATIOS = 1 << 64
# Asked for again and again, by those who look whether we live.
_NOT_TRACED = frozenset(("/healthz", "/readyz", "/metrics"))
_STATIC = "/dashboard/static"


class Telemetry:
    """What a process has of OpenTelemetry. For the event loop's thread.

    While it is off nothing listens, and the SDK is not loaded.
    """

    def __init__(self, calls: Calls, log: FilteringBoundLogger) -> None:
        self.counts = SpanCounts()
        self._calls = calls
        self._log = log
        self._settings = TelemetrySettings()
        self._exporter: Exporter | None = None
        self._below = 0  # a trace is recorded whose id's last 64 bits are

    @property
    def is_on(self) -> bool:
        return self._exporter is not None

    @property
    def waiting(self) -> int:
        """How many finished calls wait to be exported."""
        return self._exporter.waiting if self._exporter is not None else 0

    def apply(self, settings: TelemetrySettings) -> None:
        """Take these settings on. What waits goes where it was to go."""
        if settings == self._settings:
            return
        if self._exporter is not None:
            self._exporter.stop()
            self._exporter = None
            self._calls.leave_off(self._ended)
        self._settings, self._below = settings, round(settings.sample_ratio * _RATIOS)
        if settings.otlp is not None:
            self._exporter = Exporter(settings, self.counts, self._log)
            self._exporter.start()
            self._calls.listen(self._ended)

    async def close(self) -> None:
        """Send what waits, within bounds."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            self._calls.leave_off(self._ended)
            exporter.stop()
            await asyncio.to_thread(exporter.join)

    def _ended(self, call: Call) -> None:
        if self._exporter is not None and self._is_recorded(call):
            self._exporter.put(FinishedCall.of(call))

    def _is_recorded(self, call: Call) -> bool:
        """Whether the client records its trace; without one, by the ratio."""
        if call.route in _NOT_TRACED or call.route.startswith(_STATIC):
            return False
        if call.trace is not None:
            return call.trace.is_sampled
        return int(call.request_id[-16:], 16) < self._below

    def __repr__(self) -> str:
        return f"<Telemetry: {self._exporter!r}>" if self._exporter is not None else "<Telemetry: off>"
