"""Account for a request: reserve and journal first, settle at its end.

`Accounts` is shared; `Account` is one request's. However a request ends, `Account.settle` is called once for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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
from gateway.observability.calls import Call
from gateway.proxy.ask import Ask
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Caller, Model, Price
from gateway.usage import NANO, Admission, Ledger, Settlement, UsageSource, cost_nano

NOTHING_USED = Usage()
_HEAD = ".head"  # what the name of a request is continued with for the place that it has before it is admitted
UNWRITABLE = "The gateway cannot write down usage at the moment, so it serves nothing."


class Accounts:
    """Where requests are admitted and settled."""

    def __init__(self, ledger: Ledger, limiter: Limiter) -> None:
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

    async def open(self, call: Call, ask: Ask, *, streamed: bool) -> Account:
        """Admit the request. Raises RateLimited, QuotaUsedUp, StoreUnavailable or LedgerUnavailable."""
        now = time.time()
        operation, access, caller, terms, body = ask.operation, ask.access, ask.caller, ask.terms, ask.body
        reservation = None
        if terms.demands:
            wanted = reserved_usage(body.fields, body.size, operation)
            nano = _cost_nano(access.model.price, wanted.prompt_tokens, wanted.completion_tokens)
            place = self._on_head.get(call.request_id) if self._on_head else None
            reservation = await self._limiter.reserve(
                call.request_id, terms.demands, tokens=wanted.total_tokens, cost=nano / NANO, now=now, place=place
            )
            if place is not None:
                del self._on_head[call.request_id]
        account = Account(self._ledger, self._limiter, call, reservation, operation)
        try:
            self._ledger.admit(
                Admission(
                    request_id=call.request_id,
                    client_request_id=call.client_request_id,
                    time=now,
                    user=caller.user.id,
                    organisation=terms.organisation,
                    key=caller.key.id,
                    model=access.model.id,
                    route=operation.route,
                    streamed=streamed,
                    counted_on=terms.scope,
                )
            )
        except JournalUnavailable:
            account.give_back()
            raise LedgerUnavailable(UNWRITABLE) from None
        return account


class Account:
    """One request's books. `headers` are the `x-ratelimit-*` as of its admission."""

    def __init__(
        self, ledger: Ledger, limiter: Limiter, call: Call, reservation: Reservation | None, operation: Operation
    ) -> None:
        self.headers = reservation.headers() if reservation is not None else []
        self._ledger = ledger
        self._limiter = limiter
        self._call = call
        self._reservation = reservation
        self._operation = operation
        self._settled = False

    def settle(self, meter: UsageMeter, served: Model | None, fields: Mapping[str, Any], *, body_size: int) -> None:
        """Settle the request's limits and its row; the first call counts.

        `call` has status and outcome.

        It counts where an upstream gave an answer, and where its client left after an upstream had been asked.
        """
        if self._settled:
            return
        self._settled = True
        counts = meter.counts or self._was_left(meter)
        usage, source = self._usage(meter, fields, body_size)
        nano = _cost_nano(served.price if served is not None else None, usage.prompt_tokens, usage.completion_tokens)
        call, now = self._call, perf_counter()
        call.usage = usage
        self._ledger.settle(
            Settlement(
                request_id=call.request_id,
                served_model=served.id if served is not None else None,
                endpoint=call.endpoint.id if call.endpoint is not None else None,
                status=call.status,
                outcome=call.outcome or "interrupted",
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                total_tokens=usage.total_tokens,
                usage_source=source,
                cost_nano=nano,
                first_byte_ms=_milliseconds(call.began, call.first_byte),
                duration_ms=_milliseconds(call.began, now),
                attempts=call.attempts,
                answered=counts,
            )
        )
        if counts and self._reservation is not None:
            self._limiter.settle(self._reservation, tokens=usage.total_tokens, cost=nano / NANO, now=time.time())
        else:
            self.give_back()

    def give_back(self) -> None:
        """Return everything that was reserved: no upstream gave an answer."""
        if self._reservation is not None:
            self._limiter.cancel(self._reservation, now=time.time())

    def _usage(self, meter: UsageMeter, fields: Mapping[str, Any], body_size: int) -> tuple[Usage, UsageSource]:
        if not self._operation.is_billed:
            return NOTHING_USED, "none"
        was_left, goes_on = self._was_left(meter), self._goes_on(meter, fields)
        # A report of nothing, made before the end, says nothing of what was used then.
        if meter.usage is not None and not (meter.usage.total_tokens == 0 and (was_left or goes_on)):
            return self._reported(meter.usage), "reported"
        if goes_on:
            estimate = reserved_usage(fields, body_size, self._operation)
        elif was_left or (meter.text_bytes and not meter.failed):
            estimate = estimated_usage(prompt_tokens(fields, body_size, self._operation.prompt), meter.text_bytes)
        else:
            return NOTHING_USED, "none"
        return Usage(estimate.prompt_tokens, estimate.completion_tokens, estimate.total_tokens), "estimated"

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
        return meter.asked and self._call.outcome == "cancelled"

    def _goes_on(self, meter: UsageMeter, fields: Mapping[str, Any]) -> bool:
        """Whether the upstream works on without a listener.

        Then all that was reserved may yet be used.
        """
        if meter.unfinished:
            return True
        works_on = self._operation.works_on
        if works_on is None or fields.get(works_on) in (None, False) or meter.ended:
            return False
        if self._call.outcome == "cancelled":
            return meter.asked
        return self._call.streamed and meter.counts and not meter.failed and self._call.status < 300


def _cost_nano(price: Price | None, prompt: int, completion: int) -> int:
    return 0 if price is None else cost_nano(price, prompt, completion)


def _milliseconds(began: float, ended: float | None) -> float | None:
    return None if ended is None else round((ended - began) * 1000, 3)
