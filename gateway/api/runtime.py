"""The runtime: everything that serves requests under one configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.access.authenticate import Authenticator
from gateway.access.lookup_cache import LookUps
from gateway.access.resolve import access_to
from gateway.access.sessions import Sessions
from gateway.access.tokens import KeySets
from gateway.alerts import Alerts
from gateway.api.intake import Intake
from gateway.batches.settler import Settler, View
from gateway.config import Settings
from gateway.config.reload import Reloader
from gateway.errors import FeatureDisabled, ModelNotFound, StoreUnavailable
from gateway.http.bounds import ClientBounds
from gateway.http.client import Transport
from gateway.http.memory_budget import Memory
from gateway.http.multipart.form_intake import FormIntake
from gateway.limits import Limiter
from gateway.objects.accounts import AccountsInUse
from gateway.objects.index import ObjectIndex
from gateway.observability.calls import Call, Calls
from gateway.observability.live_requests import LiveRequests
from gateway.observability.log_stream import LogStream
from gateway.observability.loop_lag import LoopLag
from gateway.observability.metrics import Counters, MetricsAggregation
from gateway.observability.otel import Telemetry
from gateway.proxy.ask import Ask
from gateway.proxy.cooldowns import Cooldowns
from gateway.proxy.keeping.refresher import Refresher
from gateway.proxy.pipeline import Relay
from gateway.proxy.queueing import RequestQueue
from gateway.store.base import GrantStore, RecordStore
from gateway.store.cached import CachedRecords
from gateway.store.passes import Passes
from gateway.usage import Ledger


@dataclass(frozen=True, slots=True)
class Runtime:
    """A configuration, what it made, and the process's lasting parts.

    A reload makes the next one. A request takes one at its beginning and keeps it to its end.
    """

    # made anew for each configuration
    settings: Settings
    store: GrantStore
    lookups: LookUps
    authenticator: Authenticator
    sessions: Sessions
    relay: Relay
    bounds: ClientBounds
    # handed from one to the next
    records: RecordStore
    passes: Passes
    key_sets: KeySets
    remembered: CachedRecords
    ledger: Ledger
    limiter: Limiter
    objects: ObjectIndex
    accounts: AccountsInUse
    settler: Settler
    queue: RequestQueue
    calls: Calls
    live: LiveRequests
    counters: Counters
    memory: Memory
    intake: Intake
    forms: FormIntake
    loop_lag: LoopLag
    transport: Transport
    cooldowns: Cooldowns
    log: FilteringBoundLogger
    clock: Callable[[], datetime]
    scraping: asyncio.Lock
    telemetry: Telemetry
    latest: Callable[[], Runtime]  # that of new requests, for what outlives a reload
    alerts: Alerts | None = None  # None until they are begun
    log_stream: LogStream | None = None  # what the log is written to, where lines of it may be lost
    aggregation: MetricsAggregation | None = None  # None where this process is the only worker
    reloader: Reloader | None = None  # None where there is no file to reload, as in the demo

    def __repr__(self) -> str:
        return f"<Runtime of {self.settings.source}, {self.calls!r}>"


class Current:
    """The runtime of new requests, swapped by one assignment."""

    __slots__ = ("runtime",)
    runtime: Runtime  # from the first assignment on

    @property
    def is_set(self) -> bool:
        """Whether everything has been built."""
        return hasattr(self, "runtime")

    def __repr__(self) -> str:
        return f"<Current {self.runtime!r}>"


async def view_of(current: Current) -> View:
    """Return how objects are read by the present configuration. Raises StoreUnavailable."""
    runtime = current.runtime
    catalogue = runtime.lookups.catalogue or await runtime.lookups.find_catalogue(runtime.store)
    relay, accounts = runtime.relay, runtime.accounts.of(catalogue.models)
    return View(catalogue, Refresher(relay.transport, relay.upstreams, accounts, catalogue, relay.via.line(())))


async def still_asked(latest: Callable[[], Runtime], call: Call, ask: Ask) -> Ask:
    """Return a request that has waited, by the present records.

    Itself where nothing has changed. Raises what refuses a new one; while records cannot be looked up, it stands.
    """
    runtime, caller = latest(), ask.caller
    lookups = runtime.lookups
    lookups.begin()
    try:
        if not await runtime.store.feature("ai"):
            raise FeatureDisabled("The AI feature is switched off.")
        caller = await runtime.authenticator.caller_again(caller, "ai:use", call.peer)
        catalogue = lookups.catalogue or await lookups.find_catalogue(runtime.store)
    except StoreUnavailable:
        return ask
    if catalogue is ask.catalogue and caller == ask.caller:
        return ask
    model = catalogue.by_id(ask.access.model.id)
    if model is None:
        raise ModelNotFound("This model does not exist any more.", param="model")
    if not ask.needs_no_model:
        access_to(caller, model)
    access = ask.access if model is ask.access.model else msgspec.structs.replace(ask.access, model=model)
    return msgspec.structs.replace(ask, caller=caller, catalogue=catalogue, access=access)
