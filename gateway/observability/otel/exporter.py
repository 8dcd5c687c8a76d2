"""Queue finished calls, and export their spans by a thread.

The event loop appends and goes on. A collector that is away, slow or refuses costs spans, which are counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from structlog.typing import FilteringBoundLogger

from gateway.config.sections.telemetry import TelemetrySettings
from gateway.observability.otel.finished import FinishedCall
from gateway.observability.otel.spans import spans_of

if TYPE_CHECKING:
    from gateway.observability.otel.sink import Sink

MOST_WAITING = 4_096  # calls; a few hundred bytes each
BATCH = 256  # calls; what makes them spans holds the interpreter's lock for a few microseconds each
PAUSE_SECONDS = 1.0  # until fewer than that are sent all the same
LAST_SECONDS = 2.0  # for what waits when it is to end


class SpanCounts:
    """Spans by their fate. Each is counted by one thread."""

    def __init__(self) -> None:
        self.exported = 0
        self.overflowed = 0  # more waited than may
        self.failed = 0  # the collector did not take them


class MakeSink(Protocol):
    def __call__(self, settings: TelemetrySettings, /) -> Sink: ...


class Exporter:
    """`put` is for the event loop's thread.

    `start` before use, `stop` at the end.
    """

    def __init__(self, settings: TelemetrySettings, counts: SpanCounts, log: FilteringBoundLogger) -> None:
        self._settings = settings
        self._counts = counts
        self._log = log
        self._queue: deque[FinishedCall] = deque()
        self._wake = threading.Event()
        self._give_up_at: float | None = None  # once it is to end, of `time.monotonic`
        self._fault: str | None = None
        self._missed = 0
        self._sink: Sink | None = None
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, call: FinishedCall) -> None:
        """Queue a call's spans; where there is no room, they are dropped."""
        waiting = len(self._queue)
        if waiting >= MOST_WAITING:
            self._counts.overflowed += call.spans
            return
        self._queue.append(call)
        if waiting == BATCH:
            self._wake.set()

    def stop(self) -> None:
        """Have the thread send what waits, and end. Does not wait."""
        self._give_up_at = time.monotonic() + LAST_SECONDS
        self._wake.set()

    def join(self) -> None:
        """Wait for the end, within bounds. For another thread."""
        self._thread.join(LAST_SECONDS)
        if self._thread.is_alive() and self._sink is not None:
            self._sink.interrupt()
            self._thread.join(LAST_SECONDS / 4)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def _run(self) -> None:
        try:
            from gateway.observability.otel.sink import Sink  # the SDK: a third of a second, here alone

            self._sink = Sink(self._settings)
        except Exception:
            self._log.exception("spans cannot be exported: the SDK of OpenTelemetry does not start")
        while self._give_up_at is None or self._queue:
            if self._give_up_at is None:
                self._wake.wait(PAUSE_SECONDS)
                self._wake.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])

    def _send(self, calls: list[FinishedCall]) -> None:
        count = sum(call.spans for call in calls)
        fault = self._sent(calls)
        if fault is None:
            self._counts.exported += count
        else:
            self._counts.failed += count
            self._missed += count
        if fault != self._fault:
            self._tell(fault)
        self._fault = fault

    def _sent(self, calls: list[FinishedCall]) -> str | None:
        """Why they did not arrive; None where they did."""
        if self._sink is None:
            return "no SDK"
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            return "no time left"
        try:
            return self._sink.export(map(spans_of, calls))
        except Exception:
            self._log.exception("a mistake of the gateway, in its spans")
            return "a mistake"

    def _tell(self, fault: str | None) -> None:
        """Log what has changed, once for many batches."""
        if fault is None:
            self._log.info("spans are exported again", dropped=self._missed)
            self._missed = 0
        else:
            self._log.warning("spans are not exported at the moment, and dropped", why=fault)

    def __repr__(self) -> str:
        return f"<Exporter: {len(self._queue)} calls waiting>"
