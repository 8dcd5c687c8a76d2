"""The state of an endpoint, and frozen views of it."""

from __future__ import annotations

import enum
import hashlib
import sys
from collections.abc import Callable
from math import inf
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.types import Endpoint, Id, id_text

BODIES_IN_A_ROW = 3  # so many different requests, and a failure that seemed the request's is the endpoint's

State = Literal["available", "cooling", "probing", "full"]


class Cause(enum.Enum):
    """Why an attempt failed, and why an endpoint cools."""

    RATE_LIMITED = "rate_limited"  # it answered 429
    CREDENTIALS = "credentials"  # it answered 401 to the credential that we hold for it
    TIMED_OUT = "timed_out"  # no connection, or no answer, in time
    BROKEN = "broken"  # everything else that is retryable


class Blocked(enum.Enum):
    """Why an endpoint that does not cool cannot be taken."""

    FULL = "full"  # at its `max_in_flight`


class Obstacle(NamedTuple):
    """Why one request could not use one endpoint.

    `no_answer` makes an error of all of them.

    `until`: the monotonic second at which the endpoint is free again; in the past where it is free already.
    `attempted`: this request was sent there and failed. Otherwise it could not even be sent.
    """

    cause: Cause | Blocked
    until: float
    attempted: bool


class Cooldown(msgspec.Struct, frozen=True):
    """A cooldown that begins, or whose end has moved out.

    Fit for logs and for the panel: no credential is in it.
    """

    model_id: Id
    model_name: str
    endpoint_id: Id
    endpoint_url: str
    cause: Cause
    wait_ms: int
    until: float  # monotonic seconds


class EndpointState(msgspec.Struct, frozen=True):
    """One endpoint as admin routes and logs show it.

    `cause` is None and `seconds_left` 0 unless `state` is `cooling`. `probing`: its cooldown after failures is over,
    and it still has to prove itself.
    """

    id: Id
    url: str
    priority: int
    weight: int
    state: State
    cause: Cause | None
    seconds_left: float
    failures: int
    in_flight: int


class Health:
    """An endpoint's record of failures and cooldowns.

    It outlives a reload of the configuration, and so do the leases that hold it.
    """

    __slots__ = (
        "bodies",
        "cause",
        "cooldowns",
        "epoch",
        "failures",
        "in_flight",
        "is_spotless",
        "on_change",
        "on_probation",
        "probes",
        "until",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        self.is_spotless = True  # nothing is held against it, so that a success changes nothing
        self.failures = 0  # in a row; rate limits and refused credentials are not among them
        self.bodies: tuple[bytes, ...] = ()  # the last request bodies, all different, whose own fault a failure seemed
        self.cooldowns = 0  # for failures, in a row: the exponent of the waiting time
        self.until = -inf
        self.cause = Cause.BROKEN  # of the cooldown that ends at `until`
        self.on_probation = False  # set by a cooldown for failures, lifted by a success after it
        self.probes = 0  # in flight and undecided, of this epoch
        # Verdicts on requests begun in an earlier epoch come too late: what they tell has been acted upon already.
        self.epoch = 0
        self.on_change: Callable[[], None] | None = None  # while requests wait for it

    def is_cooling(self, now: float) -> bool:
        return now < self.until

    def fail(self) -> None:
        """Count a failure; it begins a row, or goes on with one."""
        self.failures += 1
        self.is_spotless = False

    def succeed(self) -> None:
        self.end_row()
        self.cooldowns = 0
        self.is_spotless = True
        if self.on_probation:
            self.on_probation = False
            self.changed()

    def end_row(self) -> None:
        """A success: failures from here on are in another row."""
        self.failures = 0
        self.bodies = ()

    def add_body(self, body: bytes) -> bool:
        """Keep a request body's digest; False where it repeats."""
        if body in self.bodies:
            return False
        self.bodies = (*self.bodies, body)[-BODIES_IN_A_ROW:]
        self.is_spotless = False
        return True

    def rest(self, cause: Cause, until: float) -> bool:
        """Extend the cooldown to a later end; True where it did.

        A later end replaces an earlier one, never the other way.
        """
        if until < self.until:
            return False
        self.until = until
        self.cause = cause
        self.changed()
        return True

    def begin_probation(self) -> None:
        """Begin a cooldown for failures: the next taken is a probe."""
        self.cooldowns += 1
        self.on_probation = True
        self.is_spotless = False
        self._begin_epoch()

    def forget(self) -> None:
        """As good as new, but for what is in flight."""
        self.succeed()
        self.until = -inf
        self._begin_epoch()
        self.changed()

    def changed(self) -> None:
        """Notify who waits: it may be free, or cool for longer."""
        if self.on_change is not None:
            self.on_change()

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self.probes = 0

    def __repr__(self) -> str:
        rest = f", rests until {self.until:.3f} ({self.cause.value})" if self.until > -inf else ""
        probation = ", on probation" if self.on_probation else ""
        return f"<{self.in_flight} in flight, {self.failures} failures in a row{rest}{probation}>"


class Slot:
    """An endpoint's place in its pool: its settings and health.

    The health outlives the settings.
    """

    __slots__ = ("credit", "endpoint", "health", "id", "max_in_flight", "position", "salt", "url", "weight")

    def __init__(self, endpoint: Endpoint, position: int) -> None:
        self.endpoint = endpoint
        self.id = id_text(endpoint.id)
        self.url = without_credentials(endpoint.url)
        self.weight = endpoint.weight
        self.max_in_flight = sys.maxsize if endpoint.max_in_flight is None else endpoint.max_in_flight
        name = self.id.encode("utf-8", "surrogatepass")
        self.salt = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")  # the same on every worker
        self.position = position  # among the endpoints of its priority
        self.credit = 0  # of the weighted rotation
        self.health = Health()

    def is_free(self, now: float) -> bool:
        """Whether it is neither cooling, full, nor probed by another request."""
        health = self.health
        if now < health.until or health.in_flight >= self.max_in_flight:
            return False
        return not (health.on_probation and self.is_being_probed())

    def free_at(self, now: float) -> float:
        """When it may be free: `now` where a request's end decides it."""
        return max(now, self.health.until)

    def is_being_probed(self) -> bool:
        """Whether another request finds out at this moment if it has recovered."""
        return self.health.on_probation and self.health.probes > 0

    def is_full(self) -> bool:
        return self.health.in_flight >= self.max_in_flight

    def state(self, now: float) -> State:
        if self.health.is_cooling(now):
            return "cooling"
        if self.is_full():
            return "full"
        return "probing" if self.health.on_probation else "available"

    def snapshot(self, now: float) -> EndpointState:
        health = self.health
        return EndpointState(
            id=self.endpoint.id,
            url=self.url,
            priority=self.endpoint.priority,
            weight=self.weight,
            state=self.state(now),
            cause=health.cause if health.is_cooling(now) else None,
            seconds_left=max(0.0, health.until - now),
            failures=health.failures,
            in_flight=health.in_flight,
        )

    def __repr__(self) -> str:
        return f"<endpoint {self.id} at {self.url}: {self.health!r}>"


def without_credentials(url: str) -> str:
    """Return the base URL without user info, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def same_credential(one: Endpoint, other: Endpoint) -> bool:
    """Whether both would present themselves to their upstream in the same way."""
    return (
        one.api_key == other.api_key
        and one.auth_header == other.auth_header
        and one.headers == other.headers
        and one.query == other.query
    )
