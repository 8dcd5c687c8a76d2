"""What the client of a relayed request gets: a whole answer, a stream, or an error, and then the books are closed."""

from __future__ import annotations

from time import perf_counter

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.dialects import openai
from gateway.errors import GatewayError, ShuttingDown, StreamIncomplete, UpstreamFailed
from gateway.http.message import Request
from gateway.http.reply import Answer, EventStream, Reply
from gateway.observability.calls import CLIENT_GONE, Call
from gateway.proxy.accounting import Account
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import Shape
from gateway.proxy.heartbeat import HEARTBEAT
from gateway.proxy.own_headers import own_headers
from gateway.proxy.refusals.masking import readable
from gateway.proxy.refusals.refused import Refused
from gateway.proxy.usage_meter import Seen
from gateway.types import Outcome

_STREAM_HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


class Responder(msgspec.Struct, eq=False):
    """The client's side of one request. Every ending settles its account."""

    log: FilteringBoundLogger
    request: Request
    call: Call
    ask: Ask
    stream: EventStream
    seen: Seen
    account: Account | None = None
    first_event_out: bool = False
    attempt: Attempt | None = None  # whose stream goes to the client

    def whole(self, attempt: Attempt) -> Reply:
        """A whole answer of the upstream's, byte for byte; as events, where heartbeats have opened a stream already."""
        self._answered()
        outcome: Outcome = "upstream_error" if self.seen.failed else "ok"
        if not self.stream.started:
            return self._answer(attempt.status, attempt.head.passed, attempt.body, outcome)
        content = readable(attempt.body, attempt.head.encoding)
        events = openai.whole_as_events(content) if content is not None else None
        if events is None:
            raise UpstreamFailed("The model could not answer this request.")
        self.stream.send(events)
        self.settle(outcome)
        self.stream.finish()
        return self.stream

    def refused(self, said: Refused) -> Reply:
        """The upstream's refusal. Where heartbeats have opened a stream already it is told within that."""
        self._answered()
        if not self.stream.started:
            return self._answer(said.status, said.fields, said.body, "upstream_error")
        self.stream.send(self.ask.operation.events.refusal_event(said.text))
        self.settle("upstream_error")
        self.stream.finish()
        return self.stream

    def _answered(self) -> None:
        self.seen.answered = True
        self.call.first_byte = perf_counter()

    def _answer(self, status: int, fields: list[tuple[str, str]], body: bytes, outcome: Outcome) -> Answer:
        self.call.status = status
        self.settle(outcome)
        return Answer(status, [*fields, *self._own_headers()], body)

    async def streamed(self, attempt: Attempt) -> Reply:
        call, stream = self.call, self.stream
        call.streamed = True
        if stream.started and attempt.shape is Shape.FLOW:
            raise UpstreamFailed("The model's answer came in a form that a stream cannot bear.")
        self.attempt = attempt
        goes_on = stream.started
        if not goes_on:
            call.status = attempt.status
            fields = [*attempt.head.passed, *_STREAM_HEADERS, *self._own_headers()]
            stream.start(self.request, attempt.status, fields)
        self._answered()
        self.first_event_out = True
        self.request.connection.watch(attempt.pressure)
        broken = await attempt.pour(stream, into_stream=goes_on)
        if broken is None:
            self.settle("upstream_error" if self.seen.failed else "ok")
            stream.finish()
            return stream
        endpoint = call.endpoint.id if call.endpoint is not None else None
        self.log.warning("stream broke off", request_id=call.request_id, endpoint=endpoint, why=str(broken))
        raise StreamIncomplete("The stream broke off before its end.")

    def end_badly(self, fault: GatewayError) -> Reply:
        """Tells a fault: as an answer (by raising it) or, where the head is out, in-band."""
        stream = self.stream
        if not stream.started:
            self.call.status = fault.status
        self.settle("interrupted" if isinstance(fault, ShuttingDown) else "upstream_error")
        if not stream.started:
            fault.headers = (*fault.headers, *self._own_headers(with_timing=False))
            raise fault
        if self.first_event_out or isinstance(fault, ShuttingDown):
            fault = StreamIncomplete("The stream broke off before its end.")
        self.call.code = fault.code
        live = self.attempt.live if self.attempt is not None else None
        if self.attempt is not None and (live is None or live.mid_event):
            stream.cut()  # nothing could be added that the client would not take for a part of the answer
            return stream
        number = live.next_number if live is not None else 0
        stream.send(self.ask.operation.events.error_event(fault, number))
        stream.finish()
        return stream

    def left(self) -> None:
        """The client has gone: what was seen until then is what it is billed for."""
        self.call.status = CLIENT_GONE
        self.settle("cancelled")

    def settle(self, outcome: Outcome) -> None:
        self.call.outcome = outcome
        self.seen.conclude()
        if self.account is not None:
            self.account.settle(self.seen, self.call.served, self.ask.body.fields, body_size=len(self.ask.body.raw))

    def _own_headers(self, *, with_timing: bool = True) -> list[tuple[str, str]]:
        own = own_headers(self.call, self.ask.catalogue, with_timing=with_timing)
        return own if self.account is None else own + self.account.headers

    def beat(self) -> bool:
        """A heartbeat: opens the stream where it is not yet open. False where there is nobody left to hear it."""
        if self.first_event_out:
            return False
        try:
            if not self.stream.started:
                self.call.status, self.call.streamed = 200, True
                headers = [("content-type", "text/event-stream"), *_STREAM_HEADERS, *self._own_headers()]
                self.stream.start(self.request, 200, headers)
            self.stream.send(HEARTBEAT)
        except ConnectionResetError:
            return False
        return True
