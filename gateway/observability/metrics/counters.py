"""Everything that one worker counts, and its samples for Prometheus.

Requests are counted as they end (`ended`); here is what is counted besides, and how it is summed when it is
scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from operator import add

from gateway.errors import InternalError
from gateway.observability.ended import MOST_SERIES, NO_REQUEST, OTHER_MODEL, FinishedRequests, Key, RequestCounts
from gateway.observability.metrics.families import WAIT_SECONDS, Labels, Samples, Value
from gateway.types import Id, id_text


class Counters(FinishedRequests):
    """Count one worker's requests.

    For the event loop's thread, but for `samples`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cooldowns: dict[tuple[str, Id, str], int] = defaultdict(int)
        self._taken_ids = 0
        self._waits: dict[str, list[float]] = {}  # by model
        self._not_queued: dict[tuple[str, str], int] = defaultdict(int)  # by model and reason

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
        for key, counts in list(self.counts.items()):
            _add_samples(sums, Key(*key), counts)  # type: ignore[arg-type]  # keys are written in its order
        for (model, endpoint, cause), count in list(self.failures.items()):
            _add(sums["gateway_upstream_attempts_total"], (model, id_text(endpoint), cause), count)
        for (model, endpoint, cause), count in list(self._cooldowns.items()):
            _add(sums["gateway_cooldowns_total"], (model, id_text(endpoint), cause), count)
        for model, waits in list(self._waits.items()):
            _add(sums["gateway_queue_wait_seconds"], (model,), waits)
        for (model, reason), count in list(self._not_queued.items()):
            _add(sums["gateway_queue_refused_total"], (model, reason), count)
        for (model, tier), count in list(self.unpriced.items()):
            _add(sums["gateway_unpriced_total"], (model, tier), count)
        return {name: [(_safe(labels), value) for labels, value in found.items()] for name, found in sums.items()}

    def __repr__(self) -> str:
        return f"<Counters of {sum(counts.count for counts in self.counts.values())} requests>"


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
