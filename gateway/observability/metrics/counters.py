"""Count requests as they end, by dictionary look-ups and additions.

A request adds to a single `Tally`, that of everything which labels tell apart. Metrics that look at fewer labels are
summed when they are scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from operator import add
from typing import NamedTuple

from gateway.errors import InternalError
from gateway.observability.calls import NO_ROUTE, Call, FailedTry
from gateway.observability.metrics.families import (
    DURATION_SECONDS,
    FIRST_BYTE_SECONDS,
    OWN_SECONDS,
    WAIT_SECONDS,
    Labels,
    Samples,
    Value,
)
from gateway.types import Id, id_text

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


class Counters:
    """Count one worker's requests.

    For the event loop's thread, but for `samples`.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[object, ...], RequestCounts] = {}
        self._failures: dict[tuple[str, Id, str], int] = defaultdict(int)
        self._cooldowns: dict[tuple[str, Id, str], int] = defaultdict(int)
        self._taken_ids = 0
        self._unpriced: dict[tuple[str, str], int] = defaultdict(int)  # by model and service tier
        self._waits: dict[str, list[float]] = {}  # by model
        self._not_queued: dict[tuple[str, str], int] = defaultdict(int)  # by model and reason

    def finished(self, call: Call, now: float) -> None:
        """Count a request that has ended at `now` (of `time.perf_counter`)."""
        began, attempts, endpoint, served = call.began, call.attempts, call.endpoint, call.served or call.granted_model
        model = "" if served is None else served.name
        endpoint_id = "" if endpoint is None else endpoint.id
        key = (call.method, call.route, call.status, model, endpoint_id, call.outcome, call.code)
        counts = self._counts.get(key) or self._begun(Key(*key))
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
        (self._counts.get(key) or self._begun(key)).duration[0] += 1

    def cooled(self, model: str, endpoint: Id, cause: str) -> None:
        self._cooldowns[model, endpoint, cause] += 1

    def queue_left(self, model: str, seconds: float) -> None:
        """Count a request that has waited for an endpoint."""
        waits = self._waits.get(model)
        if waits is None:
            name = model if len(self._waits) < MOST_SERIES else OTHER_MODEL
            waits = self._waits.setdefault(name, empty_histogram(WAIT_SECONDS))
        waits[bisect_left(WAIT_SECONDS, seconds)] += 1
        waits[-1] += seconds

    def queue_refused(self, model: str, reason: str) -> None:
        """Count a request that was refused, waited or not."""
        known = (model, reason) in self._not_queued or len(self._not_queued) < MOST_SERIES
        self._not_queued[model if known else OTHER_MODEL, reason] += 1

    def id_taken(self) -> None:
        """Count an object whose id is another user's already."""
        self._taken_ids += 1

    def samples(self) -> Samples:
        """Return all counts so far.

        From any thread: with many models it takes a while.
        """
        sums: dict[str, dict[Labels, Value]] = defaultdict(dict)
        # Prometheus sees growth only where it has seen a number before: the error that must never be is there from the
        # first.
        _add(sums["gateway_errors_total"], (InternalError.code, "", ""), 0)
        _add(sums["gateway_object_ids_taken_total"], (), self._taken_ids)
        for key, counts in list(self._counts.items()):
            _add_samples(sums, Key(*key), counts)  # type: ignore[arg-type]  # keys are written in its order
        for (model, endpoint, cause), count in list(self._failures.items()):
            _add(sums["gateway_upstream_attempts_total"], (model, id_text(endpoint), cause), count)
        for (model, endpoint, cause), count in list(self._cooldowns.items()):
            _add(sums["gateway_cooldowns_total"], (model, id_text(endpoint), cause), count)
        for model, waits in list(self._waits.items()):
            _add(sums["gateway_queue_wait_seconds"], (model,), waits)
        for (model, reason), count in list(self._not_queued.items()):
            _add(sums["gateway_queue_refused_total"], (model, reason), count)
        for (model, tier), count in list(self._unpriced.items()):
            _add(sums["gateway_unpriced_total"], (model, tier), count)
        return {name: [(_safe(labels), value) for labels, value in found.items()] for name, found in sums.items()}

    def _failed(self, counts: RequestCounts, failures: list[FailedTry]) -> None:
        counts.failed += len(failures)
        for model, endpoint, cause, *_ in failures:
            failure = model, endpoint, cause
            if failure in self._failures or len(self._failures) < MOST_SERIES:
                self._failures[failure] += 1

    def _count_unpriced(self, model: str, call: Call) -> None:
        details = call.usage.details if call.usage is not None else None
        tier = (details.service_tier or "") if details is not None else ""
        known = (model, tier) in self._unpriced or len(self._unpriced) < MOST_UNPRICED
        self._unpriced[(model, tier) if known else (OTHER_MODEL, "")] += 1

    def _begun(self, key: Key) -> RequestCounts:
        if key.route == NO_ROUTE:
            key = key._replace(method="")
        if len(self._counts) >= MOST_SERIES and key not in self._counts:
            key = key._replace(model=OTHER_MODEL, endpoint="")
        return self._counts.get(key) or self._counts.setdefault(tuple(key), RequestCounts())

    def __repr__(self) -> str:
        return f"<Counters of {sum(counts.count for counts in self._counts.values())} requests>"


def empty_histogram(bounds: tuple[float, ...]) -> list[float]:
    return [0] * (len(bounds) + 2)


def _add_samples(sums: dict[str, dict[Labels, Value]], key: Key, counts: RequestCounts) -> None:
    model = key.model
    labels = (key.method, key.route, str(key.status), model, key.outcome or "")
    _add(sums["gateway_requests_total"], labels, counts.count)
    if key.code is not None:
        _add(sums["gateway_errors_total"], (key.code, key.route, model), counts.count)
    if key.route != NO_REQUEST:
        _add(sums["gateway_request_duration_seconds"], (key.route,), [*counts.duration, counts.duration_seconds])
    if key.outcome is None:
        return
    attempt = (model, id_text(key.endpoint), key.outcome)
    if counts.answered:
        _add(sums["gateway_upstream_attempts_total"], attempt, counts.answered)
    _add(sums["gateway_failovers_total"], (model,), counts.failovers)
    if any(counts.first_byte):
        _add(sums["gateway_first_byte_seconds"], (model,), [*counts.first_byte, counts.first_byte_seconds])
        _add(sums["gateway_own_share_seconds"], (), [*counts.own, counts.own_seconds])
    for kind in ("prompt", "completion", "cached", "reasoning"):
        _add(sums["gateway_tokens_total"], (model, kind), getattr(counts, kind))


def _add(values: dict[Labels, Value], labels: Labels, value: Value) -> None:
    there = values.get(labels)
    if there is None:
        values[labels] = list(value) if isinstance(value, list) else value
    elif isinstance(there, list) and isinstance(value, list):
        there[:] = map(add, there, value)
    elif not isinstance(there, list) and not isinstance(value, list):
        values[labels] = there + value


def _safe(labels: Labels) -> Labels:
    """Names from YAML may hold what UTF-8 cannot write."""
    return tuple(label.encode("utf-8", "backslashreplace").decode() for label in labels)
