"""Records of rate-limit cooldowns, kept for the people who watch over the endpoints (contract §5)."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from gateway.types import Id

MOST_RECORDS = 1000
KEPT_FOR = timedelta(hours=24)


class CooldownRecord(NamedTuple):
    """One cooldown, as the panel reads it: `endpoint` is its base URL without credentials."""

    timestamp: datetime
    model_id: Id
    model_name: str
    endpoint: str
    wait_ms: int

    def as_json(self) -> dict[str, object]:
        return {
            "timestamp": self.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "modelId": self.model_id,
            "modelName": self.model_name,
            "endpoint": self.endpoint,
            "waitMs": self.wait_ms,
        }


class CooldownLog(Protocol):
    """Where cooldown records go."""

    def add(self, record: CooldownRecord) -> None: ...

    def newest(self, most: int, now: datetime) -> list[CooldownRecord]:
        """Newest first; none older than a day."""


class MemoryCooldownLog:
    """Keeps the newest 1,000 in this process."""

    def __init__(self) -> None:
        self._records: deque[CooldownRecord] = deque(maxlen=MOST_RECORDS)

    def add(self, record: CooldownRecord) -> None:
        self._records.appendleft(record)

    def newest(self, most: int, now: datetime) -> list[CooldownRecord]:
        recent = [record for record in self._records if now - record.timestamp < KEPT_FOR]
        return recent[:most]
