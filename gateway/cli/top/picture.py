"""What is known of a running gateway: requests, endpoints, usage, limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.observability.live_requests import LiveRequest
from gateway.types import Id

MOST_ENDED = 200
MOST_RUNNING = 10_000
RATE_SECONDS = 60.0


class EndpointSeen(msgspec.Struct, frozen=True):
    """An endpoint as the worker that was asked sees it."""

    modelName: str
    endpointId: Id
    url: str
    state: str
    cause: str | None
    secondsLeft: float
    failures: int
    inFlight: int


class UsageSeen(msgspec.Struct, frozen=True):
    """What a user has used today."""

    user: Id
    requests: int
    tokens: int
    cost: float


class LimitSeen(msgspec.Struct, frozen=True):
    """A limit of a user, for a model."""

    user: Id
    model: str | None
    limit: str
    most: float
    used: float
    window: str
    resetsAt: str | None

    @property
    def share(self) -> float:
        return self.used / self.most if self.most else 1.0


class Seen(msgspec.Struct, frozen=True):
    """A request, and when it began on our own clock."""

    request: LiveRequest
    began: float


class Shown(msgspec.Struct, frozen=True):
    """A picture as JSON."""

    url: str
    at: str
    status: str
    notes: list[str]
    perMinute: int
    failedPerMinute: int
    running: list[LiveRequest]
    ended: list[LiveRequest]
    endpoints: list[EndpointSeen]
    busiest: list[UsageSeen]
    limits: list[LimitSeen]
    currency: str | None = None


class Picture:
    """Filled in by the feed, drawn by the frame.

    `clock`: seconds that only grow. `notes`: what is missing, by what it concerns.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.url = url
        self.status = "not connected"
        self.notes: dict[str, str] = {}
        self.running: dict[str, Seen] = {}
        self.ended: deque[Seen] = deque(maxlen=MOST_ENDED)
        self.endpoints: Sequence[EndpointSeen] = ()
        self.cooling_since = 0.0  # when `endpoints` were asked for: their `secondsLeft` counts from there
        self.busiest: Sequence[UsageSeen] = ()
        self.limits: Sequence[LimitSeen] = ()
        self.currency: str | None = None
        self.clock = clock
        self._ends: deque[tuple[float, bool]] = deque()
        self._lost = 0

    def take(self, event: dict[str, Any]) -> None:
        """Take in an event of the stream of requests.

        Unknown ones are passed over.
        """
        kind = event.get("type")
        if kind == "request":
            self._request(msgspec.convert(event, LiveRequest))
        elif kind == "lost":
            self._lost += int(event["requests"])
            self.notes["lost"] = f"{self._lost} requests not shown: they came too fast"
        elif kind == "partial":
            self.notes.pop("partial", None)
            if event["partial"]:
                self.notes["partial"] = "requests of one worker alone: the others cannot be heard"
        elif kind == "begun":
            self.running.clear()  # what still runs is told anew

    def _request(self, request: LiveRequest) -> None:
        now = self.clock()
        self.running.pop(request.id, None)
        seen = Seen(request, now - request.milliseconds / 1000)
        if request.outcome != "running":
            self.ended.append(seen)
            self._ends.append((now, request.outcome in ("upstream_error", "interrupted", "refused")))
        elif len(self.running) < MOST_RUNNING:
            self.running[request.id] = seen

    def rates(self) -> tuple[int, int]:
        """Count what ended within a minute, and what of it failed."""
        since = self.clock() - RATE_SECONDS
        while self._ends and self._ends[0][0] < since:
            self._ends.popleft()
        return len(self._ends), sum(failed for _, failed in self._ends)

    def model_of(self, user: Id) -> str | None:
        """Name the model that a user was seen with last."""
        for seen in (*reversed(self.running.values()), *reversed(self.ended)):
            if seen.request.user == user and seen.request.model is not None:
                return seen.request.model
        return None

    def shown(self) -> Shown:
        ended, failed = self.rates()
        return Shown(
            self.url,
            datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            self.status,
            list(self.notes.values()),
            ended,
            failed,
            [seen.request for seen in self.running.values()],
            [seen.request for seen in reversed(self.ended)],
            list(self.endpoints),
            list(self.busiest),
            list(self.limits),
            self.currency,
        )

    def __repr__(self) -> str:
        return f"<Picture of {self.url}: {len(self.running)} running, {len(self.endpoints)} endpoints>"
