"""Answer one request by a stream, a refusal or a fault.

However it ends, its account is settled.
"""

from __future__ import annotations

import asyncio

from gateway.errors import GatewayError, InternalError, ShuttingDown, StreamIncomplete, UpstreamFailed
from gateway.observability.calls import CLIENT_GONE
from gateway.proxy.attempt import Attempt, WholeResponse, own_fields
from gateway.proxy.books.accounting import with_seen
from gateway.proxy.books.bookings import Bookings, Used
from gateway.proxy.endpoint_client import Content, Shape
from gateway.proxy.keeping.kept_events import KeptEvents, KeptFlow
from gateway.proxy.keeping.large_answers import remember_compressed
from gateway.proxy.keeping.object_keeper import Keeper
from gateway.proxy.refusals.refused import Refused
from gateway.proxy.responder import Fields, Head
from gateway.types import Outcome

_EVENTS = ("content-type", "text/event-stream")


class Response(WholeResponse):
    """The answer to one request, whole or not."""

    first_event_out: bool = False
    attempt: Attempt | None = None  # whose stream goes to the client

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
        head = self.answered(refusal.status, refusal.fields)
        self.responder.on_refusal(head, refusal.body, refusal.text)
        self._conclude("upstream_error")
        self.responder.on_end(self.meter.usage)

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
        head = self.answered(attempt.status, attempt.head.passed)
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
            self.settle("upstream_error" if self.meter.failed else "ok")
            self.responder.on_end(self.meter.usage)
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

    def ended_by(self, error: BaseException) -> None:
        """Answer with an error; settle where the client has gone."""
        fault = self._fault(error)
        if fault is None:
            self.left()
            del error  # lest it and this frame keep each other
            raise  # noqa: PLE0704 - it is being handled by who calls
        self.failed(fault)

    def _fault(self, error: BaseException) -> GatewayError | None:
        """The error that ends it; None where its client has left."""
        if isinstance(error, asyncio.CancelledError):
            return ShuttingDown() if self.call.was_interrupted() else None
        if isinstance(error, ConnectionResetError):
            return None
        if isinstance(error, GatewayError):
            return error
        self.log.exception("a mistake of the gateway", request_id=self.call.request_id)
        return InternalError(f"The gateway made a mistake (request {self.call.request_id}).")

    def failed(self, fault: GatewayError) -> None:
        """Answer with an error: raised, or in-band after the head."""
        responder = self.responder
        if not responder.started:
            self.call.status = fault.status
        self._conclude("interrupted" if isinstance(fault, ShuttingDown) else "upstream_error")
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
        self._conclude("cancelled")

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

    def _conclude(self, outcome: Outcome) -> None:
        """Settle by all that has come of an answer."""
        self.meter.conclude()
        self.settle(outcome)

    def _next_number(self) -> int | None:
        """The number of an event that would follow; None where none could."""
        if self.attempt is None:
            return 0
        live = self.attempt.live
        return None if live is None or live.mid_event else live.next_number

    def _own_fields(self, *, with_timing: bool = True, waiting_since: float = 0.0) -> Fields:
        limits = self.account.headers if self.account is not None else ()
        return own_fields(self.call, self.ask, limits, with_timing=with_timing, waiting_since=waiting_since)
