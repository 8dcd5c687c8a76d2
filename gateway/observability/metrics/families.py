"""Define every metric, and how samples of several workers join."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from gateway.observability.ended import DURATION_SECONDS, FIRST_BYTE_SECONDS, OWN_SECONDS

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]
# A histogram's value: how many fell into each bucket (not cumulated, the last beyond all bounds), then their sum.
Value = float | list[float]
Samples = dict[str, list[tuple[Labels, Value]]]  # by the family's name; encodes as JSON as it is

WAIT_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class Family(NamedTuple):
    """One metric.

    `join` is what workers' gauges, and counts of what each of them sees for itself, come to.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    join: Literal["sum", "max", "min"] = "sum"
    buckets: tuple[float, ...] = ()

    @property
    def outlives(self) -> bool:
        """Whether its samples still count after their worker's death."""
        return self.kind != "gauge"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        # -- requests
        Family(
            "gateway_requests_total",
            "counter",
            "Requests that have ended. `outcome` as in the ledger, empty where no upstream was to be asked.",
            ("method", "route", "status", "model", "outcome"),
        ),
        Family(
            "gateway_errors_total",
            "counter",
            "Errors of the gateway's own, by code; those told inside a stream among them.",
            ("code", "route", "model"),
        ),
        Family(
            "gateway_request_duration_seconds",
            "histogram",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=DURATION_SECONDS,
        ),
        Family(
            "gateway_first_byte_seconds",
            "histogram",
            "From a request's head to its whole answer, or to the first event of its stream.",
            ("model",),
            buckets=FIRST_BYTE_SECONDS,
        ),
        Family(
            "gateway_own_share_seconds",
            "histogram",
            "The part of that time that was not spent on upstreams, as in `server-timing`.",
            buckets=OWN_SECONDS,
        ),
        Family(
            "gateway_unpriced_total",
            "counter",
            "Requests booked at the base price, for their service tier has none.",
            ("model", "tier"),
        ),
        Family(
            "gateway_tokens_total",
            "counter",
            "Tokens used. `cached` are part of `prompt`, `reasoning` of `completion`.",
            ("model", "kind"),
        ),
        Family("gateway_in_flight", "gauge", "Requests in flight."),
        Family("gateway_in_flight_limit", "gauge", "`server.max_in_flight`, of all workers together."),
        Family("gateway_memory_held_bytes", "gauge", "Held by requests: bodies, what they become, answers."),
        Family("gateway_memory_limit_bytes", "gauge", "`server.memory_mb`, of all workers together."),
        Family("gateway_spool_bytes", "gauge", "Uploads on disk; `server.spool_mb` bounds them."),
        Family(
            "gateway_event_loop_lag_seconds",
            "gauge",
            "How late the event loop has been at worst within the last 15 to 30 seconds, of the worst worker.",
            join="max",
        ),
        Family("gateway_draining", "gauge", "Workers that take no new requests because they are being stopped."),
        Family(
            "gateway_log_lines_lost_total",
            "counter",
            "Lines of the log that nobody took: its reader was gone or too slow, or there was no space.",
        ),
        # -- upstreams
        Family(
            "gateway_upstream_attempts_total",
            "counter",
            "Attempts. `result`: why one failed, else the outcome of the request that it answered.",
            ("model", "endpoint", "result"),
        ),
        Family("gateway_failovers_total", "counter", "Attempts beyond the first of a request.", ("model",)),
        Family(
            "gateway_cooldowns_total",
            "counter",
            "Cooldowns that began, or whose end moved out.",
            ("model", "endpoint", "cause"),
        ),
        Family(
            "gateway_endpoint_state",
            "gauge",
            "Workers for which the endpoint is in this state. Models that nobody has asked for yet are missing.",
            ("model", "endpoint", "state"),
        ),
        Family(
            "gateway_endpoint_cooling_seconds",
            "gauge",
            "What is left of a cooldown; missing while the endpoint does not cool.",
            ("model", "endpoint", "cause"),
            join="max",
        ),
        Family("gateway_endpoint_in_flight", "gauge", "Attempts in flight.", ("model", "endpoint")),
        # -- the queue
        Family("gateway_queue_waiting", "gauge", "Requests that wait for an endpoint.", ("model",)),
        Family("gateway_queue_limit", "gauge", "`queue.max`, of all workers together."),
        Family(
            "gateway_queue_wait_seconds",
            "histogram",
            "How long requests waited, whether or not they got an endpoint.",
            ("model",),
            buckets=WAIT_SECONDS,
        ),
        Family(
            "gateway_queue_refused_total",
            "counter",
            "Requests that did not get to wait (`full`, `user_share`) or waited in vain (`in_vain`).",
            ("model", "reason"),
        ),
        # -- ledger
        Family("gateway_journal_bytes", "gauge", "Size of the journals."),
        Family("gateway_journal_fill_ratio", "gauge", "The fullest journal's share of its bound.", join="max"),
        Family("gateway_journal_up", "gauge", "1 while every worker's journal can be written.", join="min"),
        Family("gateway_ledger_database_up", "gauge", "1 while the last try of each worker went well.", join="min"),
        Family("gateway_ledger_waiting_requests", "gauge", "Settled, and not yet in the database."),
        Family("gateway_ledger_open_requests", "gauge", "Admitted, and not yet settled."),
        Family("gateway_ledger_memory_records", "gauge", "Kept in memory alone because the disk refused them."),
        Family("gateway_ledger_lost_records_total", "counter", "Neither disk nor memory took these."),
        Family("gateway_ledger_refused_rows_total", "counter", "The database will never take these."),
        Family("gateway_ledger_damaged_records_total", "counter", "The disk did not give these back as written."),
        # -- objects
        Family(
            "gateway_object_ids_taken_total",
            "counter",
            "Objects that an upstream made with an id that is another user's already; it stays theirs.",
        ),
        Family("gateway_object_journal_bytes", "gauge", "What the index of objects has not taken from its journals."),
        # -- configuration and stores
        Family(
            "gateway_config_reloads_total",
            "counter",
            "Times that gateway.yaml was read again, as the worker counts that has lived longest.",
            ("result",),
            join="max",
        ),
        Family(
            "gateway_config_last_success_timestamp_seconds",
            "gauge",
            "When the served configuration was read, seconds since 1970.",
            join="min",
        ),
        Family(
            "gateway_config_problems",
            "gauge",
            "Problems of gateway.yaml as it stands, while an older one is served.",
            join="max",
        ),
        Family("gateway_store_up", "gauge", "1 while the run-time store can be asked.", ("kind",), join="min"),
        Family(
            "gateway_store_hears_changes", "gauge", "1 while changes made by others are heard of.", ("kind",), "min"
        ),
        Family("gateway_limits_alone", "gauge", "Workers that count limits alone, Redis being away."),
        # -- alerts
        Family("gateway_alerts_sent_total", "counter", "Alerts that a receiver took."),
        Family("gateway_alerts_failed_total", "counter", "Tries of alerts that no receiver took."),
        Family("gateway_alerts_given_up_total", "counter", "Alerts that were given up after a day of tries."),
        Family("gateway_alerts_waiting", "gauge", "Alerts still to be sent, of each receiver.", join="max"),
        # -- spans
        Family("gateway_spans_exported_total", "counter", "Spans that the collector took, while `telemetry` is on."),
        Family(
            "gateway_spans_dropped_total",
            "counter",
            "Spans that no collector got. `reason`: more waited than may, or it was away, too slow, or refused.",
            ("reason",),
        ),
        Family("gateway_spans_waiting_requests", "gauge", "Requests that have ended, whose spans wait to be exported."),
        # -- processes
        Family("gateway_build_info", "gauge", "Always 1.", ("version", "python"), join="max"),
        Family("gateway_workers", "gauge", "Workers whose numbers of this moment are in this answer."),
        Family("process_cpu_seconds_total", "counter", "CPU time of the workers."),
        Family("process_resident_memory_bytes", "gauge", "Resident memory of the workers."),
        Family("process_virtual_memory_bytes", "gauge", "Virtual memory of the workers."),
        Family("process_open_fds", "gauge", "Open file descriptors of the workers."),
        Family("process_max_fds", "gauge", "How many each worker may have open.", join="min"),
        Family("process_start_time_seconds", "gauge", "When the oldest worker began, seconds since 1970.", join="min"),
    )
}

_PICK: dict[str, Callable[[float, float], float]] = {"sum": lambda a, b: a + b, "max": max, "min": min}


def joined(parts: Iterable[Samples]) -> Samples:
    """Join the samples of several workers.

    Families that this version does not know are left out.
    """
    whole: dict[str, dict[Labels, Value]] = {name: {} for name in FAMILIES}
    for part in parts:
        for name, samples in part.items():
            if name in whole:
                _join(whole[name], samples, _PICK[FAMILIES[name].join])
    return {name: list(values.items()) for name, values in whole.items() if values}


def _join(
    values: dict[Labels, Value], samples: Iterable[tuple[Labels, Value]], pick: Callable[[float, float], float]
) -> None:
    for labels, value in samples:
        there = values.get(labels)
        if there is None:
            values[labels] = value
        elif isinstance(there, list) and isinstance(value, list):
            values[labels] = [a + b for a, b in zip(there, value, strict=True)]
        elif not isinstance(there, list) and not isinstance(value, list):
            values[labels] = pick(there, value)


def lasting(samples: Samples) -> Samples:
    """Return a dead worker's samples that still count.

    All that only ever grows.
    """
    return {name: values for name, values in samples.items() if name in FAMILIES and FAMILIES[name].outlives}
