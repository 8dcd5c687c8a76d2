"""What a run is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["embedded", "redis", "fleet", "fleet-mariadb"]
MODES: tuple[Mode, ...] = ("embedded", "redis", "fleet", "fleet-mariadb")
_WORKERS = {"embedded": 1, "redis": 2}


@dataclass(frozen=True)
class Options:
    """`seconds`: of load in this mode. `pause_seconds`: the longest that a client waits between two requests."""

    mode: Mode
    seconds: float
    seed: int
    clients: int = 16
    pause_seconds: float = 0.1

    @property
    def workers(self) -> int:
        """Of each gateway."""
        return _WORKERS.get(self.mode, 4)

    @property
    def gateways(self) -> int:
        return 2 if self.is_fleet else 1

    @property
    def is_fleet(self) -> bool:
        return self.mode.startswith("fleet")

    @property
    def has_redis(self) -> bool:
        return self.mode != "embedded"

    @property
    def database(self) -> str | None:
        """A server's kind; None: SQLite."""
        return {"fleet": "postgres", "fleet-mariadb": "mariadb"}.get(self.mode)

    @property
    def warm_up_seconds(self) -> float:
        return min(10.0, self.seconds / 5)

    @property
    def kills_until(self) -> float:
        """Second from which on no process is killed, so that memory can be seen to stay flat in one process's life."""
        return self.seconds / 2
