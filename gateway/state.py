"""What the routes share: made once by `app`, handed down, replaced in parts when the configuration changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from gateway.auth import Authenticator
from gateway.calls import Calls
from gateway.config import Settings
from gateway.cooldowns import CooldownLog
from gateway.grants.base import GrantStore
from gateway.ledger import Ledger
from gateway.limits import Limiter
from gateway.relay.story import Relay
from gateway.transport import Transport


@dataclass(slots=True)
class State:
    """One gateway process."""

    settings: Settings
    store: GrantStore
    ledger: Ledger
    limiter: Limiter
    authenticator: Authenticator
    calls: Calls
    transport: Transport
    cooldowns: CooldownLog
    relay: Relay
    log: FilteringBoundLogger
    clock: Callable[[], datetime]
