"""Gauges of a running gateway, read when scraped."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator
from typing import get_args

from gateway import __version__
from gateway.api.runtime import Runtime
from gateway.observability.metrics import Counters, Samples, joined
from gateway.observability.metrics.families import Labels
from gateway.observability.metrics.process import process_samples
from gateway.pool import EndpointState
from gateway.pool.state import State as EndpointStateName
from gateway.types import id_text

_STATES: tuple[str, ...] = get_args(EndpointStateName)

Reading = tuple[str, float] | tuple[str, float, Labels]
Pools = list[tuple[str, list[EndpointState]]]  # by the model's name


async def own_samples(runtime: Runtime) -> Samples:
    """Return this process's samples."""
    now = asyncio.get_running_loop().time()
    pools = [(upstream.model.name, upstream.pool.snapshot(now)) for upstream in runtime.relay.upstreams]
    parts = (_load, _ledger, _configuration, _alerts, _spans)
    readings = [reading for part in parts for reading in part(runtime)]
    return await asyncio.to_thread(_samples, runtime.counters, readings, pools)


async def all_samples(runtime: Runtime) -> Samples:
    """Those of all workers together."""
    if runtime.aggregation is not None:
        return await runtime.aggregation.samples()
    return joined([await own_samples(runtime)])


def _samples(counters: Counters, readings: list[Reading], pools: Pools) -> Samples:
    """Return samples that take too long for the event loop.

    Where there are many models.
    """
    read: Samples = {}
    for name, value, *labels in (*readings, *_pools(pools)):
        read.setdefault(name, []).append((labels[0] if labels else (), float(value)))
    return counters.samples() | read | process_samples()


def _load(runtime: Runtime) -> Iterator[Reading]:
    yield "gateway_workers", 1
    yield "gateway_build_info", 1, (__version__, platform.python_version())
    yield "gateway_in_flight", len(runtime.calls)
    yield "gateway_in_flight_limit", runtime.settings.server.max_in_flight
    yield "gateway_memory_held_bytes", runtime.memory.held
    yield "gateway_memory_limit_bytes", runtime.memory.most
    yield "gateway_spool_bytes", runtime.forms.spools.used
    yield "gateway_event_loop_lag_seconds", runtime.loop_lag.worst_seconds
    yield "gateway_draining", runtime.calls.draining
    yield "gateway_queue_limit", runtime.settings.queue.max
    for model, waiting in runtime.queue.waiting().items():
        yield "gateway_queue_waiting", waiting, (model,)
    if runtime.log_stream is not None:
        yield "gateway_log_lines_lost_total", runtime.log_stream.lost


def _ledger(runtime: Runtime) -> Iterator[Reading]:
    status = runtime.ledger.status()
    yield "gateway_journal_bytes", status.journal_bytes
    yield "gateway_journal_fill_ratio", status.journal_bytes / status.journal_max_bytes
    yield "gateway_journal_up", status.journal_error is None
    yield "gateway_ledger_database_up", status.database_error is None
    yield "gateway_ledger_waiting_requests", status.waiting
    yield "gateway_ledger_open_requests", status.open
    yield "gateway_ledger_memory_records", status.in_memory
    yield "gateway_ledger_lost_records_total", status.lost
    yield "gateway_ledger_refused_rows_total", status.refused
    yield "gateway_ledger_damaged_records_total", status.damaged
    yield "gateway_object_journal_bytes", runtime.objects.waiting_bytes


def _configuration(runtime: Runtime) -> Iterator[Reading]:
    store, reloader = runtime.records.status(), runtime.reloader
    yield "gateway_store_up", store.available, (store.kind,)
    yield "gateway_store_hears_changes", store.receives_changes, (store.kind,)
    yield "gateway_limits_alone", bool(runtime.limiter.is_degraded)
    if reloader is not None:
        yield "gateway_config_reloads_total", reloader.reloads, ("ok",)
        yield "gateway_config_reloads_total", reloader.failures, ("failed",)
        yield "gateway_config_last_success_timestamp_seconds", reloader.loaded_at.timestamp()
        yield "gateway_config_problems", len(reloader.problems)


def _alerts(runtime: Runtime) -> Iterator[Reading]:
    if runtime.alerts is not None:
        counts = runtime.alerts.counts
        yield "gateway_alerts_sent_total", counts.sent
        yield "gateway_alerts_failed_total", counts.failed
        yield "gateway_alerts_given_up_total", counts.given_up
        yield "gateway_alerts_waiting", runtime.alerts.waiting


def _spans(runtime: Runtime) -> Iterator[Reading]:
    telemetry = runtime.telemetry
    if telemetry.is_on:
        counts = telemetry.counts
        yield "gateway_spans_exported_total", counts.exported
        yield "gateway_spans_dropped_total", counts.overflowed, ("queue_full",)
        yield "gateway_spans_dropped_total", counts.failed, ("export_failed",)
        yield "gateway_spans_waiting_requests", telemetry.waiting


def _pools(pools: Pools) -> Iterator[Reading]:
    for model, endpoints in pools:
        for endpoint in endpoints:
            yield from _endpoint(model, endpoint)


def _endpoint(model: str, endpoint: EndpointState) -> Iterator[Reading]:
    about = (model, id_text(endpoint.id))
    for each in _STATES:
        yield "gateway_endpoint_state", each == endpoint.state, (*about, each)
    yield "gateway_endpoint_in_flight", endpoint.in_flight, about
    if endpoint.cause is not None:
        yield "gateway_endpoint_cooling_seconds", endpoint.seconds_left, (*about, endpoint.cause.value)
