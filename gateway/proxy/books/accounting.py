"""Account for a request: reserve and journal first, settle at its end.

`Accounts` is shared; `Account` is one request's, and goes by what was `Seen` of its answer. However a request ends,
`Account.settle` is called once for it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import msgspec

from gateway.dialects.base import Contents, Operation, ToolCalls, Usage, UsageReader
from gateway.dialects.openai import USAGE_READER
from gateway.dialects.token_counts import USUAL_TIERS
from gateway.errors import JournalUnavailable, LedgerUnavailable
from gateway.limits import (
    Limiter,
    Reservation,
    estimated_usage,
    prompt_tokens,
    reserved_usage,
)
from gateway.objects.record import Unsettled
from gateway.observability.calls import Call, FailedTry
from gateway.proxy.ask import Ask
from gateway.proxy.books.besides import characters_of
from gateway.proxy.books.bookings import Bookings, WorkBegun
from gateway.proxy.books.head_places import PlacesOnHead
from gateway.proxy.books.reserving import reserved_by
from gateway.types import Model, UsageDetails
from gateway.usage import NANO, Admission, FailedAttempt, Ledger, Settlement, UsageSource

NOTHING_USED = Usage()
_NO_CALLS, _NO_DETAILS = ToolCalls(), UsageDetails()
UNWRITABLE = "The gateway cannot write down usage at the moment, so it serves nothing."


class Accounts:
    """Where requests are admitted and settled."""

    def __init__(self, ledger: Ledger, limiter: Limiter, bookings: Bookings) -> None:
        self.bookings = bookings
        self._ledger = ledger
        self._limiter = limiter
        self.places = PlacesOnHead(limiter)

    async def open(
        self, call: Call, ask: Ask, *, streamed: bool, turn: Callable[[Account], Awaitable[None]] | None = None
    ) -> Account:
        """Reserve, then admit. Raises RateLimited, QuotaUsedUp, StoreUnavailable or LedgerUnavailable.

        `turn`: what it waits for in between, with all that is reserved; what it raises gives that back.
        """
        account = self.account(call, ask)
        if ask.terms.demands:
            self.hold(account, await self.reserve(account, ask))
        if turn is not None:
            try:
                await turn(account)
            except BaseException:
                account.give_back()
                raise
        self.admit(account, ask, streamed=streamed)
        return account

    def account(self, call: Call, ask: Ask) -> Account:
        """Begin a request's account, in which nothing is reserved."""
        return Account(self._ledger, self._limiter, call, ask.operation, time.time())

    def reserve(self, account: Account, ask: Ask) -> Awaitable[Reservation]:
        """Reserve what its limits ask for. Raises RateLimited, QuotaUsedUp or StoreUnavailable."""
        request_id, wanted, places = account.call.request_id, reserved_by(ask), self.places.taken
        return self._limiter.reserve(
            request_id,
            ask.terms.demands,
            tokens=wanted.prompt_tokens + wanted.completion_tokens,
            cost=wanted.nano / NANO,
            now=account.opened,
            place=places.get(request_id) if places else None,
            requests=wanted.requests,
        )

    def hold(self, account: Account, reservation: Reservation) -> None:
        """Keep what has been reserved until the account is settled."""
        account.reservation, account.headers = reservation, reservation.headers()
        if self.places.taken:
            self.places.taken.pop(account.call.request_id, None)

    def admit(self, account: Account, ask: Ask, *, streamed: bool) -> None:
        """Write the request down before it goes anywhere. Raises LedgerUnavailable."""
        call, caller, terms = account.call, ask.caller, ask.terms
        admission = Admission(
            request_id=call.request_id,
            client_request_id=call.client_request_id,
            time=account.opened,
            user=caller.user.id,
            organisation=terms.organisation,
            key=caller.key.id,
            model=ask.access.model.id,
            route=ask.operation.route,
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


class Seen(msgspec.Struct, eq=False):
    """What was seen of an answer, by which its request is charged."""

    reader: UsageReader = USAGE_READER
    asked: bool = False  # some upstream has been sent the request
    answered: bool = False  # some upstream gave an answer, be it a refusal
    unfinished: bool = False  # the answer says that the work is yet to be done
    usage: Usage | None = None
    failed: bool = False  # an error took the answer's place, or came in its midst
    service_tier: str | None = None  # the last reported
    tools: ToolCalls | None = None
    images: int = 0
    ended: bool = False  # a response has said that it is over, be it that it failed
    text_seen: int = 0  # in bytes
    text_retold: int = 0  # the same text, as a whole at the end

    @property
    def text_bytes(self) -> int:
        """About so many bytes of text were answered; 0 where nothing was."""
        return max(self.text_seen, self.text_retold)

    @property
    def counts(self) -> bool:
        """Whether an upstream answered, so that its usage counts.

        Be it one of which nothing reached the client.
        """
        return self.answered or self.usage is not None or self.text_bytes > 0

    @property
    def saw_more(self) -> bool:
        """Whether there is more to charge than a usage."""
        return self.tools is not None or self.images > 0 or (self.service_tier or "") not in USUAL_TIERS

    def take(self, contents: Contents) -> None:
        """Take in a whole answer."""
        self.add(contents)
        self.unfinished = contents.unfinished and (self.usage is None or self.usage.total_tokens == 0)

    def add(self, contents: Contents) -> None:
        """Take in an answer, or the end of one."""
        if self.usage is None:
            self.usage = contents.usage
        elif contents.usage is not None:
            self.usage = self.reader.joined(self.usage, contents.usage)
        self.text_seen += contents.text_bytes
        if contents.whole_text_bytes > self.text_retold:
            self.text_retold = contents.whole_text_bytes
        if contents.failed:
            self.failed = True
        if contents.service_tier:
            self.service_tier = contents.service_tier
        if contents.tools is not None:
            self.tools = contents.tools
        if contents.images:
            self.images += contents.images


class Account(msgspec.Struct, eq=False):
    """One request's books. `headers` are the `x-ratelimit-*` as of its admission."""

    _ledger: Ledger
    _limiter: Limiter
    call: Call
    _operation: Operation
    opened: float  # of the wall's clock
    reservation: Reservation | None = None
    headers: list[tuple[str, str]] = []
    _settled: bool = False
    work: Unsettled | None = None  # that goes on, and is booked when it ends

    def settle(self, seen: Seen, served: Model | None, fields: Mapping[str, Any], *, body_size: int) -> None:
        """Settle the request's limits and its row; the first call counts.

        `call` has status and outcome.

        It counts where an upstream gave an answer, and where its client left after an upstream had been asked.
        """
        if self._settled:
            return
        self._settled = True
        call, now = self.call, perf_counter()
        counts = seen.counts or self._was_left(seen)
        usage, source = self._usage(seen, fields, body_size)
        if seen.saw_more:
            usage = with_seen(usage, seen)
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
        held = self.reservation
        if held is not None and counts:
            self._limiter.settle(held, tokens=usage.total_tokens, cost=nano / NANO, now=time.time())
        elif held is not None:
            self.give_back()

    def defer(self, work: Unsettled) -> None:
        """Leave the rest to the end of the work."""
        self.work, self._settled = work, True
        self._ledger.defer(self.call.request_id)
        if self.reservation is not None:
            self._limiter.detach(self.reservation, now=time.time())

    @property
    def period_starts(self) -> tuple[int, ...]:
        held = self.reservation
        return () if held is None else tuple(each.period_start for each in held.standings)

    def give_back(self) -> None:
        """Return everything that was reserved: no upstream gave an answer."""
        if self.reservation is not None:
            self._limiter.cancel(self.reservation, now=time.time())

    def _usage(self, seen: Seen, fields: Mapping[str, Any], body_size: int) -> tuple[Usage, UsageSource]:
        reported, operation = seen.usage, self._operation
        if not operation.is_billed:  # a response that is read again was booked when it was made
            return NOTHING_USED, "none"
        if reported is not None and reported.completion_tokens:
            return reported, "reported"
        was_left, goes_on = self._was_left(seen), self._goes_on(seen, fields)
        # A report of nothing, made before the end, says nothing of what was used then.
        if reported is not None and not (reported.total_tokens == 0 and (was_left or goes_on)):
            return self._reported(reported), "reported"
        if goes_on:
            estimate = reserved_usage(fields, body_size, operation)
        elif was_left or (seen.text_bytes and not seen.failed):
            estimate = estimated_usage(prompt_tokens(fields, body_size, operation.prompt), seen.text_bytes)
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
            usage = _replaced(usage, characters=characters_of(fields))
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

    def _was_left(self, seen: Seen) -> bool:
        """Whether the client left after an upstream had the request.

        At least the prompt was used then.
        """
        return seen.asked and self.call.outcome == "cancelled"

    def _goes_on(self, seen: Seen, fields: Mapping[str, Any]) -> bool:
        """Whether the upstream works on without a listener.

        Then all that was reserved may yet be used.
        """
        if seen.unfinished:
            return True
        works_on = self._operation.works_on
        if works_on is None or fields.get(works_on) in (None, False) or seen.ended:
            return False
        if self.call.outcome == "cancelled":
            return seen.asked
        return self.call.streamed and seen.counts and not seen.failed and self.call.status < 300


def _failed(attempt: FailedTry) -> FailedAttempt:
    return FailedAttempt(attempt.model, attempt.endpoint, attempt.reason, attempt.status, attempt.milliseconds)


def with_seen(usage: Usage, seen: Seen) -> Usage:
    """Add what stands beside a usage: tier, tool calls, images."""
    calls, reported = seen.tools or _NO_CALLS, usage.details or _NO_DETAILS
    tier = None if seen.service_tier in USUAL_TIERS else seen.service_tier
    most = {name: max(count, getattr(reported, name)) for name, count in calls._asdict().items()}
    return _replaced(usage, **most, images=seen.images, service_tier=tier or reported.service_tier)


def _replaced(usage: Usage, **details: Any) -> Usage:
    changed = msgspec.structs.replace(usage.details or _NO_DETAILS, **details)
    return msgspec.structs.replace(usage, details=None if changed == _NO_DETAILS else changed)
