"""What the routes share: made once by `app`, handed down, replaced in parts when the configuration changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from gateway.auth import Authenticator
from gateway.calls import Calls
from gateway.config import Settings
from gateway.cooldowns import Cooldowns
from gateway.grants.base import GrantStore, RecordStore
from gateway.grants.cached import CachedRecords
from gateway.intake import Intake
from gateway.ledger import Ledger
from gateway.limits import Limiter
from gateway.log_stream import LogStream
from gateway.memory import Memory
from gateway.metrics import Crew, Tallies
from gateway.moment import Moment
from gateway.pace import Pace
from gateway.relay.story import Relay
from gateway.reload import Reloader
from gateway.transport import Transport


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
