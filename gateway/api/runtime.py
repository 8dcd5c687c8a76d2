"""What the routes share: made once by `app`, handed down, replaced in parts when the configuration changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from gateway.access.authenticate import Authenticator
from gateway.access.lookup_cache import Moment
from gateway.api.intake import Intake
from gateway.config import Settings
from gateway.config.reload import Reloader
from gateway.http.client import Transport
from gateway.http.memory_budget import Memory
from gateway.limits import Limiter
from gateway.observability.calls import Calls
from gateway.observability.log_stream import LogStream
from gateway.observability.loop_lag import Pace
from gateway.observability.metrics import Crew, Tallies
from gateway.proxy.cooldowns import Cooldowns
from gateway.proxy.pipeline import Relay
from gateway.store.base import GrantStore, RecordStore
from gateway.store.cached import CachedRecords
from gateway.usage import Ledger


@dataclass(slots=True)
class State:
    """One gateway process."""

    settings: Settings
    store: GrantStore
    records: RecordStore
    remembered: CachedRecords
    ledger: Ledger
    limiter: Limiter
    moment: Moment
    authenticator: Authenticator
    calls: Calls
    tallies: Tallies
    memory: Memory
    intake: Intake
    pace: Pace
    transport: Transport
    cooldowns: Cooldowns
    relay: Relay
    log: FilteringBoundLogger
    clock: Callable[[], datetime]
    scraping: asyncio.Lock = field(default_factory=asyncio.Lock)
    crew: Crew | None = None  # None where this process is the only worker
    log_stream: LogStream | None = None  # what the log is written to, where lines of it may be lost
    reloader: Reloader | None = None  # None where there is no file to reload, as in the demo
