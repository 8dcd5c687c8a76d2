"""Account for a request: reserve and journal first, settle at its end.

`Accounts` is shared; `Account` is one request's. However a request ends, `Account.settle` is called once for it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import msgspec

from gateway.dialects.base import Operation, Usage
from gateway.errors import JournalUnavailable, LedgerUnavailable
from gateway.limits import (
    Limiter,
    Reservation,
    estimated_usage,
    place_demands,
    prompt_tokens,
    reserved_usage,
)
from gateway.objects.record import Unsettled
from gateway.observability.calls import Call, FailedTry
from gateway.proxy.ask import Ask
from gateway.proxy.books.besides import characters_of
from gateway.proxy.books.bookings import Bookings, Deferred, packed
from gateway.proxy.books.reserving import reserved_by
from gateway.proxy.usage_meter import UsageMeter, replaced, with_seen
from gateway.types import Caller, Model, id_text
from gateway.usage import NANO, Admission, FailedAttempt, Ledger, Settlement, UsageSource

NOTHING_USED = Usage()
_HEAD = ".head"  # what the name of a request is continued with for the place that it has before it is admitted
UNWRITABLE = "The gateway cannot write down usage at the moment, so it serves nothing."


class Accounts:
    """Where requests are admitted and settled."""

    def __init__(self, ledger: Ledger, limiter: Limiter, bookings: Bookings) -> None:
        self.bookings = bookings
        self._ledger = ledger
        self._limiter = limiter
        self._on_head: dict[str, Reservation] = {}  # by request id: not admitted yet

    async def take_place(self, call: Call, caller: Caller) -> None:
        """Count the request in its key's own `rpm` and `concurrency`.

        Before its large body is read.

        `open` takes the place over; of a request that gets no further `concurrency` is given back when the call ends.
        Raises RateLimited.
        """
        asked = place_demands(caller)
        if asked:
            name = call.request_id + _HEAD
            place = await self._limiter.reserve(name, asked, tokens=0, cost=0, now=time.time())
            self._on_head[call.request_id] = place
            call.on_leaving = partial(self._leave, call.request_id)

    def _leave(self, request_id: str) -> None:
        place = self._on_head.pop(request_id, None)
        if place is not None:
            self._limiter.settle(place, tokens=0, cost=0, now=time.time())

    async def open(
        self, call: Call, ask: Ask, *, streamed: bool, turn: Callable[[Account], Awaitable[None]] | None = None
    ) -> Account:
        """Admit the request. Raises RateLimited, QuotaUsedUp, StoreUnavailable or LedgerUnavailable.

        `turn`: what it waits for in between, with all that is reserved; what it raises gives that back.
        """
        now = time.time()
        operation, caller, terms = ask.operation, ask.caller, ask.terms
        reservation = None
        if terms.demands:
            wanted = reserved_by(ask)
            place = self._on_head.get(call.request_id) if self._on_head else None
            reservation = await self._limiter.reserve(
                call.request_id,
                terms.demands,
                tokens=wanted.prompt_tokens + wanted.completion_tokens,
                cost=wanted.nano / NANO,
                now=now,
                place=place,
                requests=wanted.requests,
            )
            if place is not None:
                del self._on_head[call.request_id]
        headers = reservation.headers() if reservation is not None else []
        account = Account(self._ledger, self._limiter, call, operation, reservation, headers)
        if turn is not None:
            try:
                await turn(account)
            except BaseException:
                account.give_back()
                raise
        admission = Admission(
            request_id=call.request_id,
            client_request_id=call.client_request_id,
            time=now,
            user=caller.user.id,
            organisation=terms.organisation,
            key=caller.key.id,
            model=ask.access.model.id,
            route=operation.route,
            streamed=streamed,
            counted_on=terms.scope,
        )
        try:
            self._ledger.admit(admission)
        except JournalUnavailable:
            account.give_back()
            raise LedgerUnavailable(UNWRITABLE) from None
        if ask.keeper is not None and ask.may_go_on:
            ask.keeper.work = WorkBegun(account, ask, admission)
        return account


class Account(msgspec.Struct, eq=False):
    """One request's books. `headers` are the `x-ratelimit-*` as of its admission."""

    _ledger: Ledger
    _limiter: Limiter
    call: Call
    _operation: Operation
    _reservation: Reservation | None = None
    headers: list[tuple[str, str]] = []
    _settled: bool = False
    work: Unsettled | None = None  # that goes on, and is booked when it ends

    def settle(self, meter: UsageMeter, served: Model | None, fields: Mapping[str, Any], *, body_size: int) -> None:
        """Settle the request's limits and its row; the first call counts.

        `call` has status and outcome.

        It counts where an upstream gave an answer, and where its client left after an upstream had been asked.
        """
        if self._settled:
            return
        self._settled = True
        call, now = self.call, perf_counter()
        counts = meter.answered or meter.counts or self._was_left(meter)
        usage, source = self._usage(meter, fields, body_size)
        if meter.saw_more:
            usage = with_seen(usage, meter)
        usage, nano, price = self._charge(usage, source, fields)
        call.usage = usage
        began, endpoint, first_byte = call.began, call.endpoint, call.first_byte
        self._ledger.settle(
            Settlement(
                call.request_id,
                None if served is None else served.id,
                None if endpoint is None else endpoint.id,
                call.status,
                call.outcome or "interrupted",
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
                usage.reasoning_tokens,
                usage.total_tokens,
                source,
                nano,
                None if first_byte is None else round((first_byte - began) * 1000, 3),
                round((now - began) * 1000, 3),
                call.attempts,
                counts,
                usage.details,
                price,
                () if call.failures is None else tuple(map(_failed, call.failures)),
            )
        )
        if counts and self._reservation is not None:
            self._limiter.settle(self._reservation, tokens=usage.total_tokens, cost=nano / NANO, now=time.time())
        else:
            self.give_back()

    def defer(self, work: Unsettled) -> None:
        """Leave the rest to the end of the work."""
        self.work, self._settled = work, True
        self._ledger.defer(self.call.request_id)
        if self._reservation is not None:
            self._limiter.detach(self._reservation, now=time.time())

    @property
    def period_starts(self) -> tuple[int, ...]:
        held = self._reservation
        return () if held is None else tuple(each.period_start for each in held.standings)

    def give_back(self) -> None:
        """Return everything that was reserved: no upstream gave an answer."""
        if self._reservation is not None:
            self._limiter.cancel(self._reservation, now=time.time())

    def _usage(self, meter: UsageMeter, fields: Mapping[str, Any], body_size: int) -> tuple[Usage, UsageSource]:
        reported, operation = meter.usage, self._operation
        if not operation.is_billed:  # a response that is read again was booked when it was made
            return NOTHING_USED, "none"
        if reported is not None and reported.completion_tokens:
            return reported, "reported"
        was_left, goes_on = self._was_left(meter), self._goes_on(meter, fields)
        # A report of nothing, made before the end, says nothing of what was used then.
        if reported is not None and not (reported.total_tokens == 0 and (was_left or goes_on)):
            return self._reported(reported), "reported"
        if goes_on:
            estimate = reserved_usage(fields, body_size, operation)
        elif was_left or (meter.text_bytes and not meter.failed):
            estimate = estimated_usage(prompt_tokens(fields, body_size, operation.prompt), meter.text_bytes)
        else:
            return NOTHING_USED, "none"
        return Usage(estimate.prompt_tokens, estimate.completion_tokens, estimate.total_tokens), "estimated"

    def _charge(self, usage: Usage, source: UsageSource, fields: Mapping[str, Any]) -> tuple[Usage, int, str | None]:
        """Return the usage, its cost in billionths, and the price's record.

        By the price of the endpoint that answered.
        """
        call, operation = self.call, self._operation
        card = call.endpoint.card if call.endpoint is not None and call.served is not None else None
        if card is None or not operation.is_billed:
            return usage, 0, None
        rates, is_due = card.rates(usage), source != "none" or call.outcome == "ok"
        if source != "reported" and is_due and rates.others["characters"]:
            usage = replaced(usage, characters=characters_of(fields))
        if usage.details is not None:
            call.is_unpriced = card.is_unpriced(usage)
        # `request` is never paid for what runs no model, nor for a rerank that reports tokens.
        by_tokens = operation.usage.request_or_tokens and usage.total_tokens
        requests = int(is_due and not by_tokens)
        return usage, rates.cost_nano(usage, requests=requests), rates.record

    def _reported(self, usage: Usage) -> Usage:
        """Return reported usage; a bare total is the prompt's.

        Where answers have no tokens of their own: nothing else shows what it costs.
        """
        if self._operation.answer is not None or usage.prompt_tokens or usage.completion_tokens:
            return usage
        return msgspec.structs.replace(usage, prompt_tokens=usage.total_tokens)

    def _was_left(self, meter: UsageMeter) -> bool:
        """Whether the client left after an upstream had the request.

        At least the prompt was used then.
        """
        return meter.asked and self.call.outcome == "cancelled"

    def _goes_on(self, meter: UsageMeter, fields: Mapping[str, Any]) -> bool:
        """Whether the upstream works on without a listener.

        Then all that was reserved may yet be used.
        """
        if meter.unfinished:
            return True
        works_on = self._operation.works_on
        if works_on is None or fields.get(works_on) in (None, False) or meter.ended:
            return False
        if self.call.outcome == "cancelled":
            return meter.asked
        return self.call.streamed and meter.counts and not meter.failed and self.call.status < 300


class WorkBegun:
    """Work that a request may begin, and what is kept."""

    def __init__(self, account: Account, ask: Ask, admission: Admission) -> None:
        self._account = account
        self._ask = ask
        self._admission = admission

    def unsettled(self, object_id: str, kind: str, account: str) -> Unsettled:
        ask, call, reserved = self._ask, self._account.call, reserved_by(self._ask)
        model = call.served if call.served is not None else ask.access.model
        deferred = Deferred(
            admission=self._admission,
            model=model.id,
            endpoint=call.endpoint.id if call.endpoint is not None else "",
            attempts=call.attempts,
            is_batch=ask.reserved is not None,
            requests=reserved.requests,
            prompt_tokens=reserved.prompt_tokens,
            completion_tokens=reserved.completion_tokens,
            cost_nano=reserved.nano,
            demands=tuple([(demand.scope, demand.limits) for demand in ask.terms.demands]),
            starts=self._account.period_starts,
        )
        owner = id_text(ask.caller.user.id)
        return Unsettled(
            id=object_id, kind=kind, owner=owner, account=account, model=id_text(model.id), reservation=packed(deferred)
        )

    def begun(self, work: Unsettled) -> None:
        self._account.defer(work)


def _failed(attempt: FailedTry) -> FailedAttempt:
    return FailedAttempt(attempt.model, attempt.endpoint, attempt.reason, attempt.status, attempt.milliseconds)
