"""What an alert says.

Once made, neither its id nor its body changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from gateway.types import utc_text

DAY_SECONDS = 86_400
_KEPT_SECONDS = 2 * DAY_SECONDS  # longer than it is tried
_ID_CHARACTERS = 32

Clock = Callable[[], float]  # seconds since 1970

_encode = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """An alert.

    `name` tells it from all others, here; `id` everywhere. `kept_until`: how long its name must be remembered, so that
    it is not made twice (seconds since 1970).
    """

    name: str
    id: str
    body: bytes
    kept_until: float


def event(salt: str, name: str, kind: str, now: float, data: dict[str, Any], *, kept_until: float = 0.0) -> Event:
    """Make an event.

    `salt` distinguishes gateways that share a receiver.
    Its id follows from its name: one for all workers.
    """
    name = writable(name)
    digest = hashlib.sha256(f"{salt}\n{name}".encode()).hexdigest()
    body = _encode({"type": kind, "timestamp": time_text(now), "data": data})
    return Event(name, f"evt_{digest[:_ID_CHARACTERS]}", body, max(kept_until, now + _KEPT_SECONDS))


def writable(text: str) -> str:
    """Escape what UTF-8 cannot write: names from YAML may hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def time_text(seconds: float) -> str:
    return utc_text(datetime.fromtimestamp(round(seconds, 3), UTC))
