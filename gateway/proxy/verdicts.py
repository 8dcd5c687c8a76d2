"""Which failed attempts count against which endpoint, and the log's lines."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.dialects.openai import RequestBody
from gateway.http.multipart import FormBody
from gateway.observability.calls import Call
from gateway.pool import Blame, Cause, Cooldown, Lease
from gateway.proxy.failures import Failures
from gateway.proxy.refusals.judging import Fault


class Verdicts(msgspec.Struct, eq=False):
    """Judge the failures of one request's attempts, pool by pool.

    `blame`: of the pool that is being tried; a failure may be the request's own fault.
    """

    call: Call
    log: FilteringBoundLogger
    on_cooldown: Callable[[Cooldown], None]
    failures: Failures
    blame: Blame = msgspec.field(default_factory=Blame)

    def failed(self, lease: Lease, fault: Fault, now: float, answer_text: str | None) -> None:
        """Count an attempt that failed. `now`: the loop's seconds."""
        told = about(self.call, lease) | {"why": fault.why} | ({"upstream_said": answer_text} if answer_text else {})
        cooldown = None
        if fault.words is None:
            cooldown = lease.failed(fault.cause, now, retry_after_seconds=fault.wait_seconds)
        self.failures.add(lease.obstacle(fault.cause), fault)
        if cooldown is None:
            self.log.warning("attempt failed", **told)
        else:
            self.log.warning("attempt failed, endpoint cools down", **told, wait_ms=cooldown.wait_ms)
            self.on_cooldown(cooldown)
        self._count(self.blame.add(lease, fault.words), now)

    def succeeded(self, lease: Lease, now: float) -> None:
        """Count failures that had waited: this endpoint did not say the same."""
        self._count(self.blame.add(lease, None), now)

    def end_pool(self, body: RequestBody | FormBody, now: float) -> None:
        """Settle a failure that every endpoint had alike.

        The request's own fault, unless others meet it too.
        """
        leases, self.blame = self.blame.shared(), Blame()
        if leases:
            digest = body.digest()
            for lease in leases:
                self._cooled(lease, lease.failed_by_request(digest, now))

    def _count(self, leases: list[Lease], now: float) -> None:
        for lease in leases:
            self._cooled(lease, lease.failed(Cause.BROKEN, now))

    def _cooled(self, lease: Lease, cooldown: Cooldown | None) -> None:
        if cooldown is not None:
            self.log.warning("endpoint cools down", **about(self.call, lease), wait_ms=cooldown.wait_ms)
            self.on_cooldown(cooldown)


def about(call: Call, lease: Lease) -> dict[str, object]:
    """Name request, model and endpoint for a line of the log."""
    return {
        "request_id": call.request_id,
        "model": call.served.name if call.served is not None else None,
        "endpoint": lease.endpoint.id,
    }
