"""One response on a relayed socket: its call, account, lease and meter."""

from __future__ import annotations

import asyncio
from time import perf_counter

import msgspec

from gateway.api.router import Hit
from gateway.errors import GatewayError
from gateway.observability.calls import CLIENT_GONE
from gateway.pool import Lease
from gateway.proxy.ask import Ask
from gateway.proxy.books.accounting import Account
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Outcome
from gateway.websockets.frames import Event
from gateway.websockets.session import Session
from gateway.websockets.waiting import SocketTurn


class SocketRequest(msgspec.Struct, eq=False):
    """A response from its admission to its settlement."""

    session: Session
    hit: Hit
    ask: Ask
    account: Account
    meter: UsageMeter
    lane: str | None = None
    lease: Lease | None = None
    turn: SocketTurn | None = None  # has waited for its endpoint
    response_id: str | None = None
    created: bool = False  # the upstream has said so
    is_over: bool = False
    next_number: int = 0  # the `sequence_number` of an event that would follow
    heard_at: float = 0.0  # on the loop's clock: the last event, or when it was asked

    @classmethod
    async def admit(
        cls, session: Session, hit: Hit, ask: Ask, *, lane: str | None = None, turn: SocketTurn | None = None
    ) -> SocketRequest:
        """Reserve, wait for its turn, and journal. Raises what `Accounts.open` raises."""
        hit.call.streamed = True
        accounts = hit.runtime.relay.accounts
        if turn is None:
            account = await accounts.open(hit.call, ask, streamed=True)
        else:
            try:
                account = await accounts.open(hit.call, ask, streamed=True, turn=turn.wait)
            except BaseException:
                turn.release()
                raise
            ask = turn.ask
        request = cls(session, hit, ask, account, UsageMeter(ask.operation.usage), lane, turn=turn)
        request.heard_at = asyncio.get_running_loop().time()
        return request

    def saw(self, content: bytes, event: Event) -> None:
        """Meter an event of this response."""
        call = self.hit.call
        self.heard_at = asyncio.get_running_loop().time()
        self.meter.answered = True
        self.meter.message(content)
        if call.first_byte is None:
            call.first_byte = perf_counter()
        if isinstance(event.sequence_number, int):
            self.next_number = event.sequence_number + 1
        if self.lease is not None and not self.created and event.type != "error":
            self.created = True
            self.lease.succeeded(self.heard_at)

    def ended(self) -> None:
        """Settle a response that has said it is over."""
        self._settle("ok", 200)

    def refused(self, status: int) -> None:
        """Settle a response that ended in an upstream's error."""
        self._settle("upstream_error", 200 if self.created else status)

    def failed(self, fault: GatewayError, outcome: Outcome = "upstream_error") -> None:
        """Settle a response that comes to nothing, or no further."""
        self.hit.call.code = fault.code
        self._settle(outcome, 200 if self.created else fault.status)

    def settle_unasked(self) -> None:
        """Settle a response without an upstream; the caller ends the call."""
        self.is_over = True
        self.hit.call.outcome, self.hit.call.status = "ok", 200
        self._settle_account()

    def left(self) -> None:
        """Settle for a client that has gone."""
        self._settle("cancelled", CLIENT_GONE)

    def _settle(self, outcome: Outcome, status: int) -> None:
        if self.is_over:
            return
        self.is_over = True
        call = self.hit.call
        call.outcome, call.status = outcome, status
        try:
            self._settle_account()
        finally:
            if self.lease is not None:
                self.lease.release()
            if self.turn is not None:
                self.turn.release()
            self.session.finish(self.hit)

    def _settle_account(self) -> None:
        self.meter.conclude()
        body = self.ask.body
        self.account.settle(self.meter, self.hit.call.served, body.fields, body_size=body.size)

    def __repr__(self) -> str:
        return f"<SocketRequest {self.response_id or 'unanswered'}{', over' * self.is_over}>"
