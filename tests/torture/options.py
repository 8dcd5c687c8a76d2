"""What a run is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["embedded", "redis"]
MODES: tuple[Mode, ...] = ("embedded", "redis")


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
        return 2 if self.mode == "redis" else 1

    @property
    def warm_up_seconds(self) -> float:
        return min(10.0, self.seconds / 5)

    @property
    def kills_until(self) -> float:
        """Second from which on no process is killed, so that memory can be seen to stay flat in one process's life."""
        return self.seconds / 2
