"""Build each part of a process: store, ledger, limiter, objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import cast

from structlog.typing import FilteringBoundLogger

from gateway.access.tokens import FETCH_SECONDS, Fetch
from gateway.api.runtime import Current, Runtime, still_asked
from gateway.config import Settings
from gateway.errors import QueryFailed, StoreUnavailable, TooManyQueries
from gateway.http.client import Proxy, Transport
from gateway.http.client.fetch import fetch
from gateway.http.multipart import Spools
from gateway.jose.key_set import MOST_BYTES
from gateway.limits import Limiter, MemoryLimiter, Rebuild, Used, key_of
from gateway.objects.backend import Backend
from gateway.objects.index import ObjectIndex
from gateway.objects.journaled import JournaledIndex
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.sqlite import SqliteObjects
from gateway.observability.calls import Calls
from gateway.observability.metrics import Counters
from gateway.proxy.queueing import RequestQueue, Turns
from gateway.proxy.upstreams import Upstreams
from gateway.store.base import RecordStore
from gateway.store.cached import CachedRecords
from gateway.store.embedded import EmbeddedStore
from gateway.store.file import YamlStore
from gateway.store.layered import LayeredStore
from gateway.store.passes import EmbeddedPasses, Passes, RedisPasses
from gateway.types import Secret
from gateway.usage import Ledger, Totals

# How long a first request under a limit may wait for what the ledger knows.
REBUILD_SECONDS = 3.0
MIGRATION_SECONDS = 30.0


def yaml_store(settings: Settings) -> YamlStore:
    return YamlStore(
        models=settings.models,
        organisations=settings.organisations,
        plans=settings.plans,
        users=settings.users,
        keys=settings.keys,
        features=settings.features,
        lowest_tier=settings.tiers[0],
    )


def layered_store(settings: Settings, remembered: CachedRecords) -> LayeredStore:
    return LayeredStore(yaml_store(settings), remembered, tiers=settings.tiers)


def record_store(settings: Settings, log: FilteringBoundLogger, current: Current | None = None) -> RecordStore:
    """Where run-time records live. Raises ConfigError where it cannot be opened.

    `current`: whose configuration may bring another login, in a process that reloads it.
    """
    store = settings.store
    if store.kind == "embedded":
        return EmbeddedStore(store.path, log)
    from gateway.redis.link_forms import link_to  # only who uses it pays for loading redis-py
    from gateway.store.redis import RedisStore

    def latest_url() -> Secret:
        return current.runtime.settings.store.url if current is not None and current.is_set else store.url

    link = link_to(store.url, log, prefix=store.prefix, ca_file=store.ca_file, latest=latest_url)
    return RedisStore(link, log, prefix=store.prefix)


def passes_of(settings: Settings, records: RecordStore) -> Passes:
    """Return where sessions and tickets are kept."""
    if settings.store.kind == "embedded":
        return EmbeddedPasses(settings.store.path)
    from gateway.store.redis import RedisStore

    link = cast(RedisStore, records).link
    return RedisPasses(link.tagged, prefix=link.tagged_prefix(settings.store.prefix))


def opened_ledger(settings: Settings, current: Current, log: FilteringBoundLogger) -> Ledger:
    """Raise LedgerUnusable and JournalUnavailable."""
    usage = settings.usage

    def latest_url() -> Secret:
        return current.runtime.settings.usage.url if current.is_set else usage.url

    return Ledger.open(
        usage.url,
        Path(usage.journal),
        log=log,
        retention_days=usage.retention_days,
        sums_retention_days=usage.sums_retention_days,
        max_journal_bytes=usage.journal_max_mb * 2**20,
        sync_seconds=usage.journal_sync_seconds,
        when_unwritable=usage.when_unwritable,
        latest_url=latest_url,
    )


async def started_limiter(
    settings: Settings, records: RecordStore, ledger: Ledger, log: FilteringBoundLogger
) -> Limiter:
    """Return a started limiter, in memory or in Redis."""
    if settings.store.kind == "embedded":
        return MemoryLimiter(totals_from(ledger))
    from gateway.limits.redis import RedisLimiter
    from gateway.store.redis import RedisStore

    link = cast(RedisStore, records).link  # one for both: a silent Redis delays a request once
    prefix = link.tagged_prefix(settings.store.prefix)
    limiter = RedisLimiter(link.tagged, totals_from(ledger), prefix=prefix, log=log.warning)
    await limiter.start()
    return limiter


def object_index(
    settings: Settings, records: RecordStore, current: Current, counters: Counters, log: FilteringBoundLogger
) -> ObjectIndex:
    """Raise ConfigError and JournalUnavailable."""
    object_days = partial(attrgetter("runtime.settings.surface.object_days"), current)
    backend: Backend
    if settings.store.kind == "embedded":
        backend = SqliteObjects(settings.store.path, log, object_days=object_days)
        directory = Path(settings.store.path) / "objects"  # the store's lock says that no other process writes there
    else:
        from gateway.objects.redis import RedisObjects
        from gateway.store.redis import RedisStore

        backend = RedisObjects(cast(RedisStore, records).link, prefix=settings.store.prefix, object_days=object_days)
        directory = Path(f"{settings.usage.journal}-objects")  # beside the ledger's, which is empty after a stop
    return JournaledIndex(backend, ObjectJournal(directory), log, on_taken=counters.id_taken)


def totals_from(ledger: Ledger) -> Rebuild:
    """Return the loader of totals, which asks the ledger.

    A key's are its own and those of the keys that it made.

    Raises StoreUnavailable, at the latest after REBUILD_SECONDS, whatever the database does; while tables of an older
    release are brought up to date after MIGRATION_SECONDS.
    """

    async def used(scope: str, since: float) -> Totals:
        key = key_of(scope)
        async with asyncio.timeout(REBUILD_SECONDS):
            await ledger.flushed()
            if key is None:
                return await ledger.reader.counted_on(scope, since)
            return await ledger.reader.used_by_key(key, since)

    async def rebuild(scope: str, since: float) -> Used:
        ends_at = time.monotonic() + MIGRATION_SECONDS
        while True:
            try:
                found = await used(scope, since)
            except (QueryFailed, TooManyQueries, TimeoutError) as error:
                if isinstance(error, TimeoutError) and ledger.is_migrating and time.monotonic() < ends_at:
                    continue
                raise StoreUnavailable("What was used of this limit cannot be told at the moment.") from None
            return Used(found.requests, found.tokens, found.cost)

    return rebuild


def opened_spools(settings: Settings, current: Current, log: FilteringBoundLogger) -> Spools:
    """Where large uploads wait; what a killed process left there is removed."""

    def report(reason: str) -> None:
        log.error("an upload cannot be kept on disk", why=reason)

    spools = Spools(
        Path(settings.store.path) / "spool", lambda: current.runtime.settings.server.spool_mb * 2**20, report
    )
    spools.sweep()
    return spools


def fetcher(transport: Transport) -> Fetch:
    """Return what fetches an issuer's keys."""

    async def fetch_keys(url: str, ca_file: str) -> bytes:
        return await fetch(transport, url, ca_file=ca_file, seconds=FETCH_SECONDS, most_bytes=MOST_BYTES)

    return fetch_keys


def proxy_of(settings: Settings) -> Proxy | None:
    url, refusal = settings.proxy.https_proxy, settings.proxy.refusal
    if refusal:
        return Proxy("", 0, None, settings.proxy.no_proxy, refusal)
    return Proxy.from_url(url.reveal(), settings.proxy.no_proxy) if url is not None else None


def request_queue(upstreams: Upstreams, counters: Counters, calls: Calls, records: RecordStore) -> RequestQueue:
    """Make the queue, which follows changes and ends with the drain."""
    queue = RequestQueue(upstreams, counters)

    def end() -> None:
        if calls.draining:  # an upgrade begins without: what waits is served before its connection goes
            queue.close()

    calls.on_ending.append(end)
    records.on_change(lambda kind, record_id: queue.wake())
    return queue


def turns_of(settings: Settings, queue: RequestQueue, latest: Callable[[], Runtime]) -> Turns | None:
    """The queue by these settings; None where no request waits."""
    if not settings.queue.max:
        return None
    return Turns(queue, settings.queue, settings.tiers, partial(still_asked, latest))
