"""Book work that goes on after its request: batches, background responses.

Once an upstream has taken such work, its request's row is deferred and its reservation is held for it, by what is
remembered in the index: whoever learns of its end books it, in whichever process, once.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

import msgspec

from gateway.limits import Demand, Limiter, Reservation, Standing
from gateway.objects.index import ObjectIndex
from gateway.objects.record import Unsettled
from gateway.observability.calls import Call
from gateway.pricing import RateCard
from gateway.proxy.ask import Ask
from gateway.proxy.books.reserving import reserved_by
from gateway.store.base import Catalogue
from gateway.types import Endpoint, Id, Limits, Model, Outcome, Usage, id_text
from gateway.usage import NANO, Admission, Ledger, Settlement, UsageSource


class Deferred(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is needed to book work, kept in the index."""

    admission: Admission
    model: Id  # what took it
    endpoint: Id
    attempts: int
    is_batch: bool
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int
    demands: tuple[tuple[str, Limits], ...] = ()
    starts: tuple[int, ...] = ()  # of the periods that it is counted in

    @property
    def reserved(self) -> Usage:
        return Usage(self.prompt_tokens, self.completion_tokens, self.prompt_tokens + self.completion_tokens)

    def reservation(self, now: float) -> Reservation:
        """Return what limits hold for it."""
        demands = [Demand(*each) for each in self.demands]
        standings = [Standing(period_start=start) for start in self.starts]
        cost, tokens = self.cost_nano / NANO, self.reserved.total_tokens
        return Reservation(self.admission.request_id, demands, tokens, cost, standings, now, self.requests)


class Used(NamedTuple):
    """What ended work used. `nano` None: by the price of its usage."""

    usage: Usage
    source: UsageSource
    outcome: Outcome
    requests: int = 1
    nano: int | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Deferred)


def packed(deferred: Deferred) -> bytes:
    return _encode(deferred)


def deferred_in(work: Unsettled) -> Deferred:
    return _decoder.decode(work.reservation)


class Holder(Protocol):
    """A request's account, which the work takes over."""

    call: Call

    @property
    def period_starts(self) -> tuple[int, ...]: ...
    def defer(self, work: Unsettled) -> None: ...


class WorkBegun:
    """Work that a request may begin, and what is kept."""

    def __init__(self, account: Holder, ask: Ask, admission: Admission) -> None:
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


class Bookings:
    """Where work is booked when it ends."""

    def __init__(self, ledger: Ledger, limiter: Limiter, index: ObjectIndex) -> None:
        self._ledger = ledger
        self._limiter = limiter
        self._index = index

    async def hold(self, work: Unsettled) -> None:
        """Hold what is reserved for it. Raises StoreUnavailable."""
        reservation = deferred_in(work).reservation(time.time())
        if reservation.demands:
            await self._limiter.hold(reservation)

    async def book(self, work: Unsettled, used: Used, catalogue: Catalogue) -> None:
        """Book ended work, once among all processes. Raises StoreUnavailable.

        The row is written first: where this process dies in between, the next one writes it again, and the database
        takes the first.
        """
        deferred = deferred_in(work)
        usage, card = used.usage, card_of(deferred, catalogue)
        nano, price = used.nano, None
        if card is not None:
            rates = card.usual.base if deferred.is_batch else card.rates(usage)
            price = rates.record
            if nano is None:
                nano = rates.cost_nano(usage, requests=used.requests, is_batch=deferred.is_batch)
        elif nano is None:  # the endpoint, and with it its price, has left
            nano = deferred.cost_nano if used.source == "estimated" else 0
        self._ledger.book(
            deferred.admission,
            Settlement(
                request_id=deferred.admission.request_id,
                served_model=deferred.model,
                endpoint=deferred.endpoint,
                status=200,
                outcome=used.outcome,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                total_tokens=usage.total_tokens,
                usage_source=used.source,
                cost_nano=nano,
                attempts=deferred.attempts,
                details=usage.details,
                price=price,
                requests=deferred.requests,  # as limits counted it when it was admitted
            ),
        )
        if await self._index.settled(work.id):
            now = time.time()
            reservation = deferred.reservation(now)
            if reservation.demands:
                self._limiter.settle_held(reservation, tokens=usage.total_tokens, cost=nano / NANO, now=now)

    def __repr__(self) -> str:
        return f"<Bookings in {self._ledger!r}>"


def card_of(deferred: Deferred, catalogue: Catalogue) -> RateCard | None:
    """Return the price of the endpoint that took the work."""
    model = catalogue.by_id(deferred.model)
    endpoint = _endpoint_of(model, deferred.endpoint) if model is not None else None
    return endpoint.card if endpoint is not None else None


def _endpoint_of(model: Model, endpoint_id: Id) -> Endpoint | None:
    wanted = id_text(endpoint_id)
    return next((each for each in model.endpoints if id_text(each.id) == wanted), None)
