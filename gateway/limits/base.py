"""The contract of a limiter; the same tests run against each.

A request is admitted only where, in each of its demands, what is settled and what running requests have reserved is
together below the limit. That is one atomic step for all demands: all admit it, or nothing is changed.

- Counts (`rpm`, `concurrency`, `requests`) are thus never overrun.
- Tokens and cost (`tpm`, `tokens`, `cost`) are overrun at most by what running requests use beyond their reservation.
  A reservation is not asked to fit: it takes what is left of each limit, so that a quota can be used to its end and no
  request is too large for ever.
- A total that is only reserved refuses with RateLimited, for much of it may come back; one that is used up, by what is
  settled alone, with QuotaUsedUp.
- `rpm` and `tpm` look back over exactly 60 s from each admission. Totals count by the calendar in UTC; a request
  belongs to the period that it was admitted in.
- A clock that steps back frees nothing and counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.limits.demand import Demand, Standing, Used
from gateway.limits.reservation import Reservation
from gateway.types import Limits

# From a scope and the first second of a period: what the ledger knows to be used since. Its errors reach the caller.
Rebuild = Callable[[str, float], Awaitable[Used]]


# A reservation, and the tokens and billionths that it came to. Called where it is set, as each is settled.
OnSettled = Callable[[Reservation, int, int], None]


class Limiter(Protocol):
    """Keep limits: reserve before a request, settle after it.

    `now` is seconds since the epoch, `tokens` and `cost` are never negative.
    """

    on_settled: OnSettled | None

    async def reserve(
        self,
        request_id: str,
        demands: Sequence[Demand],
        *,
        tokens: int,
        cost: float,
        now: float,
        place: Reservation | None = None,
        requests: int = 1,
    ) -> Reservation:
        """Admit the request, once for each `request_id`.

        `requests`: so many it counts for in totals.
        `place`: what the same request took before, of `rpm` and `concurrency` alone. It is exchanged in the same step,
        and its scopes are not asked for these again; where the request is refused, it stays as it was.
        Raises RateLimited or QuotaUsedUp, and whatever the rebuilding of totals raises.
        """

    def settle(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        """Replace what was reserved by what was used.

        Only the first settle or cancel of a request counts.
        """

    def cancel(self, reservation: Reservation, *, now: float) -> None:
        """Give everything back, the request itself included."""

    def detach(self, reservation: Reservation, *, now: float) -> None:
        """Let an admitted request go on without its worker.

        It holds its totals, but no place among running ones. From then on whoever looks after such work calls `hold`
        again and again, and `settle_held` at its end.
        """

    async def hold(self, reservation: Reservation) -> None:
        """Hold what a detached request has reserved, wherever it was admitted.

        Idempotent; nobody is asked whether there is room. In a later period it holds nothing.
        """

    def settle_held(self, reservation: Reservation, *, tokens: int, cost: float, now: float) -> None:
        """Settle a detached request; for the one caller that has ended it."""

    async def used(self, scope: str, limits: Limits, now: float) -> Used:
        """Return the use of `scope` in the current period of `limits`.

        Running requests count as requests only.
        """

    async def standing(self, demands: Sequence[Demand], now: float) -> list[Standing]:
        """How each demand stands, changing nothing."""

    @property
    def is_degraded(self) -> bool:
        """Whether this worker alone keeps limits that should hold across all."""

    @property
    def is_behind(self) -> bool:
        """Whether shared totals still lack what has ended in this worker."""

    async def close(self) -> None:
        """Deliver what is not yet settled in the shared store, and end."""
