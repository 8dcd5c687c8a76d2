"""Count a request that has ended, and write its access line.

It adds to a single `RequestCounts`, that of everything which labels tell apart: metrics that look at fewer labels are
summed when they are scraped (`metrics.counters`). Its line joins those that wait for the log's thread (`log_stream`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from structlog.typing import EventDict

from gateway.observability.calls import NO_ROUTE, Call, FailedTry
from gateway.observability.line_text import LONGEST_PATH, harmless_json, shortened_path
from gateway.observability.log_stream import LogStream
from gateway.types import Id

# The buckets' bounds of its histograms.
DURATION_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OWN_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

# Models may be made at run time, and be renamed: beyond so many combinations new models are counted as one.
MOST_SERIES = 20_000
MOST_UNPRICED = 200  # models and tiers; these are an upstream's words
OTHER_MODEL = "(other)"
NO_REQUEST = "(unparsable)"  # what came was no request that one could look at


class Key(NamedTuple):
    """A counter's labels, in the order that `finished` writes."""

    method: str  # "" where there is no route: it could be any word
    route: str
    status: int
    model: str
    endpoint: Id
    outcome: str | None
    code: str | None


class RequestCounts:
    """The counts of requests of one kind.

    Of a histogram here are the buckets, and apart from them the sum of what is in them.
    """

    __slots__ = (
        "asked",
        "attempts",
        "cached",
        "completion",
        "duration",
        "duration_seconds",
        "failed",
        "first_byte",
        "first_byte_seconds",
        "own",
        "own_seconds",
        "prompt",
        "reasoning",
    )

    def __init__(self) -> None:
        self.asked = 0  # requests that went to an upstream
        self.attempts = 0  # of these requests
        self.failed = 0  # attempts that had no answer
        self.prompt = 0
        self.completion = 0
        self.cached = 0
        self.reasoning = 0
        self.duration = [0] * (len(DURATION_SECONDS) + 1)
        self.first_byte = [0] * (len(FIRST_BYTE_SECONDS) + 1)
        self.own = [0] * (len(OWN_SECONDS) + 1)
        self.duration_seconds = self.first_byte_seconds = self.own_seconds = 0.0

    @property
    def count(self) -> int:
        """How many requests have ended."""
        return sum(self.duration)

    @property
    def answered(self) -> int:
        """How many attempts did not fail."""
        return self.attempts - self.failed

    @property
    def failovers(self) -> int:
        """How many attempts followed a request's first."""
        return self.attempts - self.asked


class FinishedRequests:
    """Count a worker's requests as they end, on its event loop."""

    def __init__(self) -> None:
        self.counts: dict[tuple[object, ...], RequestCounts] = {}
        self.failures: dict[tuple[str, Id, str], int] = defaultdict(int)
        self.unpriced: dict[tuple[str, str], int] = defaultdict(int)  # by model and service tier

    def finished(self, call: Call, now: float) -> None:
        """Count a request that has ended at `now` (of `time.perf_counter`)."""
        began, attempts, endpoint, served = call.began, call.attempts, call.endpoint, call.served or call.granted_model
        model = "" if served is None else served.name
        endpoint_id = "" if endpoint is None else endpoint.id
        key = (call.method, call.route, call.status, model, endpoint_id, call.outcome, call.code)
        counts = self.counts.get(key) or self._begun(Key(*key))
        seconds = now - began
        counts.duration[bisect_left(DURATION_SECONDS, seconds)] += 1
        counts.duration_seconds += seconds
        if attempts:
            counts.asked += 1
            counts.attempts += attempts
            if call.failures is not None:
                self._failed(counts, call.failures)
            if call.is_unpriced:
                self._count_unpriced(model, call)
        if call.first_byte is not None:
            seconds = call.first_byte - began
            counts.first_byte[bisect_left(FIRST_BYTE_SECONDS, seconds)] += 1
            counts.first_byte_seconds += seconds
            seconds -= call.upstream_seconds
            counts.own[bisect_left(OWN_SECONDS, seconds)] += 1
            counts.own_seconds += seconds
        usage = call.usage
        if usage is not None:
            counts.prompt += usage.prompt_tokens
            counts.completion += usage.completion_tokens
            if usage.cached_tokens or usage.reasoning_tokens:
                counts.cached += usage.cached_tokens
                counts.reasoning += usage.reasoning_tokens

    def unparsable(self, status: int, code: str) -> None:
        """Count bytes that could not be parsed as a request."""
        key = Key("", NO_REQUEST, status, "", "", None, code)
        (self.counts.get(key) or self._begun(key)).duration[0] += 1

    def _failed(self, counts: RequestCounts, failures: list[FailedTry]) -> None:
        counts.failed += len(failures)
        for model, endpoint, cause, *_ in failures:
            failure = model, endpoint, cause
            if failure in self.failures or len(self.failures) < MOST_SERIES:
                self.failures[failure] += 1

    def _count_unpriced(self, model: str, call: Call) -> None:
        details = call.usage.details if call.usage is not None else None
        tier = (details.service_tier or "") if details is not None else ""
        known = (model, tier) in self.unpriced or len(self.unpriced) < MOST_UNPRICED
        self.unpriced[(model, tier) if known else (OTHER_MODEL, "")] += 1

    def _begun(self, key: Key) -> RequestCounts:
        if key.route == NO_ROUTE:
            key = key._replace(method="")
        if len(self.counts) >= MOST_SERIES and key not in self.counts:
            key = key._replace(model=OTHER_MODEL, endpoint="")
        return self.counts.get(key) or self.counts.setdefault(tuple(key), RequestCounts())


class AccessLine(msgspec.Struct, gc=False):
    """A request's access line, the event of `log.info`.

    There is one for each request: a struct is written as JSON in a single step.
    """

    timestamp: datetime
    level: str
    request_id: str
    client: str
    method: str
    path: str
    status: int
    ms: float
    client_request_id: str | UnsetType = UNSET
    user: Id | UnsetType = UNSET
    key: Id | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    streamed: bool | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    endpoint: Id | UnsetType | None = UNSET
    code: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET
    first_byte_ms: float | UnsetType = UNSET
    queued_ms: float | UnsetType = UNSET
    event: str = "request"

    def fields(self) -> EventDict:
        """Return the fields for structlog's steps, timestamp and level aside.

        They add these themselves.
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__[2:]}
        return {name: value for name, value in fields.items() if value is not UNSET}


def access_line(call: Call, now: float) -> AccessLine:
    """Return the access line of a call that has ended at `now`."""
    began, caller, trace, first_byte = call.began, call.caller, call.trace, call.first_byte
    line = AccessLine(
        datetime.now(UTC),
        "info",
        call.request_id,
        call.peer,
        call.method,
        call.path,
        call.status,
        round((now - began) * 1000, 2),
        call.client_request_id or UNSET,
        UNSET if caller is None else caller.user.id,
        UNSET if caller is None else caller.key.id,
        code=call.code or UNSET,
        trace_id=UNSET if trace is None else trace.trace_id,
        first_byte_ms=UNSET if first_byte is None else round((first_byte - began) * 1000, 2),
        queued_ms=round(call.queued_seconds * 1000, 2) if call.queued_seconds else UNSET,
    )
    if call.outcome is not None:  # it was for an upstream
        served = call.served or call.granted_model
        line.outcome, line.attempts, line.streamed = call.outcome, call.attempts, call.streamed
        line.model = None if served is None else served.name
        line.endpoint = None if call.endpoint is None else call.endpoint.id
    return line


_encode = msgspec.json.Encoder().encode


def with_access_lines(logger_class: Any, put: Callable[[bytes], object], stream: LogStream | None) -> Any:
    """Return a logger class with a short way for access lines.

    It leads to `stream` where there is one. Structlog's steps would be a tenth of a request.
    """

    class AccessLogger(logger_class):  # type: ignore[misc]  # structlog makes its class at run time
        def info(self, event: Any, *args: Any, **fields: Any) -> Any:
            if type(event) is not AccessLine:
                return super().info(event, *args, **fields)
            if len(event.path) > LONGEST_PATH:
                event.path = shortened_path(event.path)
            try:
                line = _encode(event)
            except UnicodeEncodeError:  # bytes of a head that were no UTF-8
                return super().info(event)
            line = (line if line.isascii() and b"\x7f" not in line else harmless_json(line)) + b"\n"
            if stream is not None:
                with stream.lock:  # as `put` does for a line that neither wakes the thread nor is one too many
                    held_bytes = stream.held_bytes + len(line)
                    if stream.is_looking and held_bytes <= stream.most_bytes:
                        stream.waiting.append(line)
                        stream.held_bytes = held_bytes
                        return None
            put(line)
            return None

    return AccessLogger
