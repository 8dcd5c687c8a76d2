"""The composition root: from settings to all that a process holds.

No other module knows everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter

from structlog.typing import FilteringBoundLogger

from gateway.access.authenticate import Authenticator
from gateway.access.lookup_cache import LookUps
from gateway.access.sessions import Sessions
from gateway.access.tokens import KeySets, Tokens
from gateway.api import Router, all_routes, rows_by_version
from gateway.api.intake import Intake
from gateway.api.middleware import Dispatcher, rendered
from gateway.api.ops import PROBED
from gateway.api.ops.alerting import alerting, on_cooldown, queue_of
from gateway.api.router import error_shape
from gateway.api.runtime import Current, Runtime, view_of
from gateway.assembly import (
    fetcher,
    layered_store,
    object_index,
    opened_ledger,
    opened_spools,
    passes_of,
    proxy_of,
    record_store,
    request_queue,
    started_limiter,
    totals_from,
    turns_of,
)
from gateway.batches.settler import Settler
from gateway.config import Settings
from gateway.dashboard import dashboard_routes
from gateway.errors import GatewayError, Overloaded
from gateway.http.bounds import ClientBounds
from gateway.http.client import Origin, Transport
from gateway.http.client.addresses import may_be_reached
from gateway.http.connection_limit import ConnectionLimit, room_for
from gateway.http.fast_lane import answer_bytes
from gateway.http.memory_budget import Memory
from gateway.http.multipart import Spools
from gateway.http.multipart.form_intake import FormIntake
from gateway.http.reply import Answer
from gateway.http.server import Server
from gateway.http.via import Via
from gateway.limits import Limiter
from gateway.objects.accounts import AccountsInUse
from gateway.objects.index import ObjectIndex
from gateway.observability.calls import Call, Calls
from gateway.observability.live_requests import LiveRequests
from gateway.observability.log_stream import LogStream
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Counters
from gateway.observability.otel import Telemetry
from gateway.proxy.books.accounting import Accounts
from gateway.proxy.books.bookings import Bookings
from gateway.proxy.cooldowns import Cooldowns
from gateway.proxy.pipeline import Relay
from gateway.proxy.upstreams import Upstreams
from gateway.store.base import GrantStore, RecordStore
from gateway.store.cached import CachedRecords
from gateway.store.live_channel import live_requests
from gateway.store.passes import Passes
from gateway.usage import Ledger
from gateway.websockets import SocketPaths, socket_routes

# Of C alone, since every request asks for it: a frame of Python takes longer than the answer.
now = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a process opens at its start, and closes in reverse."""

    records: RecordStore
    live: LiveRequests
    telemetry: Telemetry
    ledger: Ledger
    limiter: Limiter
    transport: Transport
    objects: ObjectIndex
    passes: Passes
    spools: Spools
    intake: Intake
    loop_lag: LoopLag
    counters: Counters


@asynccontextmanager
async def running(
    settings: Settings, log: FilteringBoundLogger, *, log_stream: LogStream | None = None
) -> AsyncIterator[Current]:
    """Build everything that a process holds; close it in reverse.

    Raises ConfigError where the store cannot be used as it is configured.
    """
    current = Current()
    async with AsyncExitStack() as held:
        opened = await open_parts(settings, log, current, held)
        current.runtime = composed(settings, log, current, opened, log_stream)
        await opened.objects.start()
        alerts = alerting(current, queue_of(settings, opened.records), totals_from(opened.ledger))
        for task in (alerts, current.runtime.settler, current.runtime.key_sets):
            await held.enter_async_context(task)
        yield current


async def open_parts(settings: Settings, log: FilteringBoundLogger, current: Current, held: AsyncExitStack) -> Opened:
    """Open what has to be closed again, in order.

    Raises ConfigError where the store cannot be used as it is configured.
    """

    def allow_address(origin: Origin, address: str) -> bool:
        return not origin.guarded or may_be_reached(address, current.runtime.settings.server.private_endpoints)

    records = record_store(settings, log, current)
    live = live_requests(Calls(), settings.store, records)
    await records.start()
    held.push_async_callback(records.close)
    held.push_async_callback(live.close)
    telemetry = Telemetry(live.calls, log)
    telemetry.apply(settings.telemetry)
    held.push_async_callback(telemetry.close)
    ledger = opened_ledger(settings, current, log)
    held.push_async_callback(ledger.close)
    limiter = await started_limiter(settings, records, ledger, log)
    held.push_async_callback(limiter.close)
    transport = Transport(proxy=proxy_of(settings), allow_address=allow_address)
    held.push_async_callback(transport.close)
    counters = Counters()
    objects = object_index(settings, records, current, counters, log)
    held.push_async_callback(objects.close)
    intake, loop_lag = Intake(), LoopLag()
    held.callback(intake.close)
    spools = opened_spools(settings, current, log)
    held.callback(spools.close)
    loop_lag.start()
    held.callback(loop_lag.stop)
    passes = passes_of(settings, records)
    held.push_async_callback(passes.close)
    return Opened(
        records, live, telemetry, ledger, limiter, transport, objects, passes, spools, intake, loop_lag, counters
    )


def composed(
    settings: Settings, log: FilteringBoundLogger, current: Current, opened: Opened, log_stream: LogStream | None
) -> Runtime:
    """Put the first runtime together, around what was opened."""
    records, ledger, limiter, transport = opened.records, opened.ledger, opened.limiter, opened.transport
    objects, passes, upstreams, telemetry = opened.objects, opened.passes, Upstreams(), opened.telemetry
    latest = partial(attrgetter("runtime"), current)
    remembered, bookings = CachedRecords(records, log), Bookings(ledger, limiter, objects)
    store, lookups = layered_store(settings, remembered), LookUps(remembered.freshness)
    queue = request_queue(upstreams, opened.counters, opened.live.calls, records)
    key_sets = KeySets(fetcher(transport), passes, partial(attrgetter("runtime.settings.auth.jwt"), current), log)
    authenticator = authenticator_of(settings, store, lookups, key_sets)
    via = Via(records.identity)
    records.on_identity(via.identify)
    relay = Relay(
        transport,
        upstreams,
        Accounts(ledger, limiter, bookings),
        partial(on_cooldown, current),
        log,
        via,
        settings.server.stream_heartbeat_seconds,
        turns_of(settings, queue, latest),
        has_spans=telemetry.is_on,
        logs_texts=settings.server.log_upstream_texts,
    )
    return Runtime(
        settings=settings,
        store=store,
        lookups=lookups,
        authenticator=authenticator,
        sessions=Sessions(passes, authenticator, now),
        relay=relay,
        bounds=bounds_of(settings, log),
        queue=queue,
        records=records,
        passes=passes,
        key_sets=key_sets,
        remembered=remembered,
        ledger=ledger,
        limiter=limiter,
        objects=objects,
        accounts=AccountsInUse(),
        calls=opened.live.calls,
        live=opened.live,
        telemetry=telemetry,
        settler=Settler(objects, bookings, partial(view_of, current), log),
        counters=opened.counters,
        memory=Memory(partial(attrgetter("runtime.bounds.memory_bytes"), current)),
        intake=opened.intake,
        forms=FormIntake(opened.spools),
        loop_lag=opened.loop_lag,
        transport=transport,
        cooldowns=Cooldowns(records, upstreams),
        log=log,
        clock=now,
        scraping=asyncio.Lock(),
        latest=latest,
        log_stream=log_stream,
    )


def configured(before: Runtime, settings: Settings) -> Runtime:
    """Build the runtime of a changed gateway.yaml, in a thread.

    Changes nothing that is in use; what is read only at the start is left as it is.
    """
    store, lookups = layered_store(settings, before.remembered), LookUps(before.remembered.freshness)
    authenticator = authenticator_of(settings, store, lookups, before.key_sets)
    return replace(
        before,
        settings=settings,
        store=store,
        lookups=lookups,
        authenticator=authenticator,
        sessions=Sessions(before.passes, authenticator, before.clock),
        relay=replace(
            before.relay,
            heartbeat_seconds=settings.server.stream_heartbeat_seconds,
            turns=turns_of(settings, before.queue, before.latest),
            has_spans=settings.telemetry.otlp is not None,
            logs_texts=settings.server.log_upstream_texts,
        ),
        bounds=bounds_of(settings, before.log, before.bounds),
    )


def authenticator_of(settings: Settings, store: GrantStore, lookups: LookUps, key_sets: KeySets) -> Authenticator:
    """Authenticate by keys, and by tokens of issuers if any."""
    issuers = settings.auth.jwt
    return Authenticator(store, now, lookups, Tokens(issuers, key_sets, now) if issuers else None)


def bounds_of(settings: Settings, log: FilteringBoundLogger, before: ClientBounds | None = None) -> ClientBounds:
    """Return the bounds on clients: their number and time-outs.

    As many as configured, or as the limit of open files leaves room for.
    """
    server = settings.server
    most = room_for(server.max_connections, server.max_in_flight)
    if most < server.max_connections and (before is None or before.connections != most):
        log.info(
            "the limit of open files leaves room for fewer connections",
            max_connections=server.max_connections,
            room_for=most,
        )
    times = server.timeouts
    return ClientBounds(most, times.head, times.write, times.keepalive, server.memory_mb * 2**20)


def make_server(current: Current) -> Server:
    runtime = current.runtime
    refusal = rendered(Overloaded("The gateway has too many connections; try again in a moment."))
    refusal.force_close()

    def refused(fault: GatewayError, path: str) -> Answer:
        call = Call("", path, "", None)
        runtime.counters.unparsable(fault.status, fault.code)
        runtime.log.info("no request", request_id=call.request_id, status=fault.status, code=fault.code)
        return rendered(fault, call, error_shape(path))

    router = Router([*all_routes(), *dashboard_routes()], socket_routes(current))
    return Server(
        Dispatcher(current, router, Router(rows_by_version())),
        render_error=refused,
        limit=ConnectionLimit(answer_bytes(refusal), runtime.log),
        relayed=router.relayed,
        upgrades=SocketPaths(router.upgrades, current),
        probed=PROBED,
        fast_lane=runtime.settings.server.fast_lane,
        bounds=partial(attrgetter("runtime.bounds"), current),
        log=runtime.log,
        memory=runtime.memory,
    )
