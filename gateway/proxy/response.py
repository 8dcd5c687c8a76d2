"""Answer one request, and settle its account at every ending."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.dialects import openai
from gateway.errors import GatewayError, ShuttingDown, StreamIncomplete, UpstreamFailed
from gateway.observability.calls import CLIENT_GONE, Call
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import Attempt
from gateway.proxy.books.accounting import Account
from gateway.proxy.books.bookings import Bookings, Used
from gateway.proxy.endpoint_client import Content, Shape
from gateway.proxy.keeping.kept_events import KeptEvents, KeptFlow
from gateway.proxy.keeping.large_answers import remember_compressed
from gateway.proxy.keeping.object_keeper import Keeper
from gateway.proxy.refusals.refused import Refused
from gateway.proxy.responder import Client, Fields, Head, Responder
from gateway.proxy.usage_meter import UsageMeter, with_seen
from gateway.store.base import Catalogue
from gateway.types import Outcome

_EVENTS = ("content-type", "text/event-stream")


class Response(msgspec.Struct, eq=False):
    """The answer to one request."""

    call: Call
    ask: Ask
    responder: Responder  # the client's own, or one that puts answers back into its protocol
    client: Client
    meter: UsageMeter
    log: FilteringBoundLogger
    account: Account | None = None
    first_event_out: bool = False
    attempt: Attempt | None = None  # whose stream goes to the client

    def whole(self, attempt: Attempt) -> None:
        """Answer with a whole answer of the upstream's."""
        head = attempt.head
        self.responder.on_answer(self._answered(attempt.status, head.passed), attempt.body, head.encoding)
        self._end("upstream_error" if self.meter.failed else "ok")

    async def remember(self, keeper: Keeper, attempt: Attempt) -> None:
        """Keep what a whole answer brings, before it goes out.

        Raises StoreUnavailable or LedgerUnavailable.
        """
        served, endpoint, encoding = self.call.served, self.call.endpoint, attempt.head.encoding
        if served is not None and endpoint is not None:
            self.meter.answered = True
            if not await keeper.whole(served, endpoint, attempt.body, encoding):
                await remember_compressed(keeper, served, endpoint, attempt.body, encoding)

    def note_part(self, attempt: Attempt) -> None:
        """Meter a plain answer's part when its client leaves.

        It counts by its text.
        """
        is_answer = attempt.shape is None and 200 <= attempt.status < 300
        if is_answer and self.ask.operation.is_text:
            attempt.look()
            if attempt.view is not None:
                self.meter.whole(attempt.view, is_text=True)

    def refused(self, refusal: Refused) -> None:
        """Answer with the upstream's refusal."""
        head = self._answered(refusal.status, refusal.fields)
        self.responder.on_refusal(head, refusal.body, refusal.text)
        self._end("upstream_error")

    async def streamed(self, attempt: Attempt) -> None:
        """Relay a stream to its end. Raises StreamIncomplete.

        Where it breaks off.
        """
        call, goes_on = self.call, self.responder.started
        call.streamed = True
        if goes_on and attempt.shape is Shape.FLOW:
            raise UpstreamFailed("The model's answer came in a form that a stream cannot bear.")
        self.attempt = attempt
        events = await self._kept(attempt)
        head = self._answered(attempt.status, attempt.head.passed)
        if not goes_on:
            self.responder.on_head(head)
        self.first_event_out = True
        self.client.watch(attempt.pressure if events is None else events.pressure)
        if events is None:
            if (transport := self.responder.chunked) is not None:
                attempt.pass_chunks(transport)
            broken = await attempt.pour(self.responder.on_event, into_stream=goes_on)
        else:
            broken = await events.pour(into_stream=goes_on)
        if broken is None:
            self.meter.conclude()
            self._end("upstream_error" if self.meter.failed else "ok")
            return
        endpoint = call.endpoint.id if call.endpoint is not None else None
        self.log.warning("stream broke off", request_id=call.request_id, endpoint=endpoint, why=str(broken))
        raise StreamIncomplete("The stream broke off before its end.")

    async def _kept(self, attempt: Attempt) -> KeptEvents | None:
        """Remember what the first events bring, then relay through `KeptEvents`.

        None where a stream brings nothing. Raises StoreUnavailable or LedgerUnavailable.
        """
        keeper, call = self.ask.keeper, self.call
        if keeper is None or call.served is None or call.endpoint is None:
            return None
        self.meter.answered = True
        if attempt.shape is not Shape.EVENTS:
            if keeper.forgets is not None:
                await keeper.whole(call.served, call.endpoint, b"", b"")
            if not keeper.reads(call.endpoint) or attempt.head.content is Content.MEDIA:
                return None
            return KeptFlow(keeper, attempt, self.responder.on_event, call.served, call.endpoint)
        await keeper.remember(keeper.news_in(attempt.body, call.served, call.endpoint))
        return KeptEvents(keeper, attempt, self.responder.on_event, call.served, call.endpoint)

    def failed(self, fault: GatewayError) -> None:
        """Answer with an error: raised, or in-band after the head."""
        responder = self.responder
        if not responder.started:
            self.call.status = fault.status
        self.settle("interrupted" if isinstance(fault, ShuttingDown) else "upstream_error")
        if not responder.started:
            fault.headers = (*fault.headers, *self._own_fields(with_timing=False))
            raise fault
        if self.first_event_out or isinstance(fault, ShuttingDown):
            fault = StreamIncomplete("The stream broke off before its end.")
        self.call.code = fault.code
        responder.on_error(fault, self._next_number())

    def left(self) -> None:
        """Settle for a client that has gone.

        It is billed for what was seen.
        """
        self.call.status = CLIENT_GONE
        self.settle("cancelled")

    def settle(self, outcome: Outcome) -> None:
        """Settle the account. Only the first call counts."""
        self.call.outcome = outcome
        self.meter.conclude()
        if self.account is not None:
            self.account.settle(self.meter, self.call.served, self.ask.body.fields, body_size=self.ask.body.size)

    async def book_work(self, bookings: Bookings) -> None:
        """Book work that has ended within its own stream."""
        work, usage = self.account.work if self.account is not None else None, self.meter.usage
        if work is None or not self.meter.ended or usage is None or not usage.total_tokens:
            return
        used = Used(with_seen(usage, self.meter), "reported", "upstream_error" if self.meter.failed else "ok")
        try:
            await bookings.book(work, used, self.ask.catalogue)
        except GatewayError as fault:  # it is booked again, to no effect, by whoever looks after running work
            self.log.warning("ended work is settled later", object=work.id, because=fault.message)

    def beat(self) -> bool:
        """Send a heartbeat; False where it is of no use."""
        if self.first_event_out:
            return False
        try:
            if not self.responder.started:
                self.call.status, self.call.streamed = 200, True
                # What is waited for at this moment is in no sum yet, and is none of the gateway's own time.
                waiting_since = max(self.call.attempt_began, self.call.began + self.call.upstream_seconds)
                self.responder.on_head(Head(200, [_EVENTS], self._own_fields(waiting_since=waiting_since)))
            self.responder.on_heartbeat()
        except ConnectionResetError:
            return False
        return True

    def _answered(self, status: int, passed: Fields) -> Head:
        self.meter.answered = True
        self.call.first_byte = perf_counter()
        if not self.responder.started:
            self.call.status = status
        return Head(status, passed, self._own_fields())

    def _end(self, outcome: Outcome) -> None:
        self.settle(outcome)
        self.responder.on_end(self.meter.usage)

    def _next_number(self) -> int | None:
        """The number of an event that would follow; None where none could."""
        if self.attempt is None:
            return 0
        live = self.attempt.live
        return None if live is None or live.mid_event else live.next_number

    def _own_fields(self, *, with_timing: bool = True, waiting_since: float = 0.0) -> Fields:
        ask = self.ask
        own = own_fields(self.call, ask.catalogue, with_timing=with_timing, waiting_since=waiting_since)
        if ask.pin is not None and ask.needs_no_model:
            # Whichever model's endpoint it was, says nothing to the caller.
            own = [field for field in own if field[0] != "x-gateway-model"]
        if self.account is not None:
            own += self.account.headers
        return own


def own_fields(call: Call, catalogue: Catalogue, *, with_timing: bool, waiting_since: float = 0.0) -> Fields:
    """List the gateway's own headers for a call.

    As it stands (contract §4). `waiting_since`: when the wait began that has not ended; 0.0 for none.
    """
    own = [("x-request-id", call.request_id), ("x-gateway-attempts", f"{call.attempts}")]
    served, asked = call.served, call.requested_model
    if served is not None:
        own.append(_model_field(served.name))
        if asked is not None and asked != served.name and _serves_another(call, catalogue):
            own.append(("x-gateway-requested-model", openai.printable(asked)))
    if with_timing:
        share = (waiting_since or perf_counter()) - call.began - call.upstream_seconds
        own.append(("server-timing", f"gateway;dur={share * 1000:.2f}"))
    return own


@lru_cache(maxsize=1024)
def _model_field(name: str) -> tuple[str, str]:
    return "x-gateway-model", openai.printable(name)


def _serves_another(call: Call, catalogue: Catalogue) -> bool:
    """Whether another model answers than the client named."""
    named = catalogue.find(call.requested_model or "")
    return named is None or named is not call.served
