"""What spans need to know of a call that has ended."""

from __future__ import annotations

from time import perf_counter, time_ns

import msgspec

from gateway.observability.calls import Call, FailedTry
from gateway.observability.tracing import Trace
from gateway.types import Endpoint, Model, Usage

LONGEST_NAME = 200  # of a model, as the client named it
_LONGEST_PATH = 200


class FinishedCall(msgspec.Struct, frozen=True, gc=False):
    """A call that has ended, bounded whatever its client sent.

    Times are those of `time.perf_counter`, but `clock`: what the system's clock said at `ended`, in nanoseconds.
    `path`: the end of it. `failures` are the attempts that failed; one more of `attempts` is that which answered.
    """

    request_id: str
    method: str
    route: str
    path: str
    began: float
    ended: float
    clock: int
    attempt_began: float
    first_byte: float | None
    trace: Trace | None
    named: str | None
    resolved: Model | None
    served: Model | None
    endpoint: Endpoint | None
    failures: tuple[FailedTry, ...]
    attempts: int
    streamed: bool
    status: int
    code: str | None
    outcome: str | None
    usage: Usage | None

    @classmethod
    def of(cls, call: Call) -> FinishedCall:
        return cls(
            call.request_id,
            call.method,
            call.route,
            call.path[-_LONGEST_PATH:],
            call.began,
            perf_counter(),
            time_ns(),
            call.attempt_began,
            call.first_byte,
            call.trace,
            None if call.requested_model is None else call.requested_model[:LONGEST_NAME],
            None if call.access is None else call.access.model,
            call.served,
            call.endpoint,
            () if call.failures is None else tuple(call.failures),
            call.attempts,
            call.streamed,
            call.status,
            call.code,
            call.outcome,
            call.usage,
        )

    @property
    def spans(self) -> int:
        """How many it makes."""
        return 1 + self.attempts
