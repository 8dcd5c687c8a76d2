"""Alerts of a running gateway: what they watch, their queue."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

from gateway.access.counted import counted_in, scopes_of_row
from gateway.alerts import AlertQueue, Alerts, Counted, SqliteQueue, Surroundings
from gateway.api.runtime import Current
from gateway.config import Settings
from gateway.errors import QueryFailed, StoreUnavailable, TooManyQueries
from gateway.limits import Rebuild
from gateway.observability.calls import Call
from gateway.pool import Cooldown
from gateway.store.base import Catalogue, RecordStore, hash_of_key
from gateway.types import ApiKey, id_text

_REDIRECTION = 300
_HOUR_SECONDS, _LATELY_HOURS = 3_600, 24


@asynccontextmanager
async def alerting(current: Current, queue: AlertQueue, rebuild: Rebuild) -> AsyncIterator[None]:
    """Watch, queue and send alerts within the block."""
    alerts = made_alerts(current, queue, rebuild)
    current.runtime = replace(current.runtime, alerts=alerts)
    await alerts.start()
    try:
        yield
    finally:
        await alerts.close()


def on_cooldown(current: Current, cooldown: Cooldown) -> None:
    """Count a cooldown, share it, and note it for alerts."""
    runtime = current.runtime
    runtime.counters.cooled(cooldown.model_name, cooldown.endpoint_id, cooldown.cause.value)
    runtime.cooldowns.began(cooldown)
    if runtime.alerts is not None:
        runtime.alerts.cooled(cooldown)


def queue_of(settings: Settings, records: RecordStore) -> AlertQueue:
    """Return where alerts are queued: beside the records."""
    if settings.store.kind == "embedded":
        return SqliteQueue(settings.store.path)
    from gateway.alerts.redis_queue import RedisQueue  # only who uses it pays for loading redis-py
    from gateway.store.redis import RedisStore

    link = cast(RedisStore, records).link
    return RedisQueue(link.tagged, prefix=link.tagged_prefix(settings.store.prefix))


def made_alerts(current: Current, queue: AlertQueue, rebuild: Rebuild) -> Alerts:
    runtime = current.runtime

    async def describe(scope: str, with_limits: bool) -> Counted | None:
        return await counted_in(current.runtime.store, find_key if with_limits else find_key_in_file, scope)

    async def find_key_in_file(key_id: str) -> ApiKey | None:
        return next((key for key in current.runtime.settings.keys if id_text(key.id) == key_id), None)

    async def find_key(key_id: str) -> ApiKey | None:
        found = await find_key_in_file(key_id)
        if found is None and (sha256 := await hash_of_key(runtime.records, key_id)) is not None:
            found = await current.runtime.store.key(sha256)
        return found

    async def catalogue() -> Catalogue:
        return await current.runtime.store.catalogue()

    def take_replayed() -> Iterable[str]:
        rows = runtime.ledger.take_replayed()
        return {scope for counted_on, key in rows for scope in scopes_of_row(counted_on, key)}

    async def counted_lately() -> Iterable[str]:
        since, reader = (time.time() // _HOUR_SECONDS - _LATELY_HOURS) * _HOUR_SECONDS, runtime.ledger.reader
        try:
            scopes = await reader.limit_totals("counted_on", since)
            keys = await reader.limit_totals("key", since)
        except (QueryFailed, TooManyQueries):
            raise StoreUnavailable("What was used lately cannot be told at the moment.") from None
        return {*scopes, *(scope for key in keys for scope in scopes_of_row(None, key))}

    def watch_answers(is_wanted: bool) -> None:
        (runtime.calls.listen if is_wanted else runtime.calls.leave_off)(answered)

    def answered(call: Call) -> None:
        if call.endpoint is not None and call.served is not None and call.status < _REDIRECTION:
            began = time.time() - (perf_counter() - call.began)
            alerts.episodes.answered(call.served.id, call.endpoint.id, began)

    around = Surroundings(
        limiter=runtime.limiter,
        rebuild=rebuild,
        describe=describe,
        catalogue=catalogue,
        ledger_is_well=lambda: runtime.ledger.status().is_well,
        take_replayed=take_replayed,
        counted_lately=counted_lately,
        watch_answers=watch_answers,
        salt=salt_of(runtime.settings),
    )
    alerts = Alerts(lambda: current.runtime.settings.alerts, queue, runtime.transport, around, runtime.log)
    return alerts


def salt_of(settings: Settings) -> str:
    """Return what distinguishes this gateway: its ledger's place.

    Without user and password.
    """
    parts = urlsplit(settings.usage.url.reveal())
    return f"{settings.store.prefix} {parts.netloc.rpartition('@')[2]}{parts.path}"
