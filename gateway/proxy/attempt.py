"""One try against one endpoint, and the client's answer by it.

An `Attempt` is what the transport talks to. It gathers a whole answer, or watches a stream until its first event with
data; from then on bytes go from the upstream's read straight into the client's transport, in whole events. What is
whole a `WholeResponse` tells the client, and settles the request's account; all else is in `response`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.dialects import openai
from gateway.errors import Overloaded, TransportError
from gateway.http.client import Exchange
from gateway.observability.calls import Call
from gateway.proxy.ask import Ask
from gateway.proxy.books.accounting import Account
from gateway.proxy.endpoint_client import TEXT, WHOLE, AnswerHead, RawHeaders, content_of
from gateway.proxy.responder import Client, Field, Fields, Head, Responder
from gateway.proxy.stream.chunks import chunk_passage
from gateway.proxy.stream.opening import BOM
from gateway.proxy.stream.unfolding import Unfolding
from gateway.proxy.usage_meter import UsageMeter
from gateway.store.base import Catalogue
from gateway.types import Outcome

# content-encoding is not in the contract's list, yet a compressed body is unreadable without it.
_PASSED = {
    b"content-type": "content-type",
    b"content-language": "content-language",
    b"content-disposition": "content-disposition",
    b"content-encoding": "content-encoding",
    b"openai-processing-ms": "openai-processing-ms",
    b"openai-version": "openai-version",
    b"x-request-id": "x-upstream-request-id",
    b"request-id": "x-upstream-request-id",
}


class Attempt(Unfolding):
    """Implements the transport's `Receiver`. Use: `await opened()`, then for streams `await pour(on_event)`.

    Nearly every answer to who asks for no stream is text that comes whole in one read: what is here sees to it alone,
    and for everything else asks what the answer unfolds to.
    """

    # -- the relay's side

    @property
    def body(self) -> bytes:
        """What is held: of a whole answer, everything."""
        return self.held if type(self.held) is bytes else self.whole()

    def opening(self, exchange: Exchange) -> asyncio.Future[None]:
        """Return what a whole answer, first event or failure completes."""
        loop, self._exchange, self.answer_by = self.loop, exchange, self.give_up_at
        if self.expects_stream:
            self.answer_by = min(loop.time() + self.timeouts.first_byte, self.give_up_at)
        waits = self.waits
        if waits is None:
            self.set_deadline(self.answer_by)
        elif self.answer_by > waits.looks_at:
            waits.attempts.add(self)
        else:
            waits.begin(self)
        waiter = self._waiter = loop.create_future()
        if self.shape is not None or self.failure is not None:
            waiter.set_result(None)
        return waiter

    async def opened(self, exchange: Exchange) -> TransportError | None:
        """Wait for a whole answer or a first event; return the failure."""
        await self.opening(exchange)
        return await self.unpacked()

    async def unpacked(self) -> TransportError | None:
        """Read a compressed whole answer to its end; return the failure."""
        if self.shape is None:
            if self._no_room:
                raise Overloaded("The gateway holds as many bodies and answers as it may; ask again in a moment.")
            return self.failure
        if self.head.encoding and self.shape is WHOLE:
            await self._look_through()
        return None

    def pass_chunks(self, transport: asyncio.WriteTransport) -> None:
        """Let the stream's chunks go to the client as they come."""
        live, exchange = self.live, self._exchange
        if live is not None and exchange is not None and not live.is_numbered:
            exchange.passage = chunk_passage(self, live, transport, self.loop.time)

    async def pour(self, on_event: Callable[[bytes], None], *, into_stream: bool = False) -> TransportError | None:
        """Relay what is held and all that comes; return the failure.

        `into_stream`: something went out before it, so that a byte order mark would spoil its first line.
        """
        held = self.take()
        if held:
            on_event(held.removeprefix(BOM) if into_stream else held)
        self._on_event = on_event
        while not self._done:
            self._waiter = self.loop.create_future()
            await self._waiter
        await self._look_through()
        return self.failure

    def pressure(self, paused: bool) -> None:
        """Pause the upstream and its idle clock for a slow client."""
        self._paused = paused
        self.last_read = self.loop.time()
        if self._exchange is not None:
            if paused:
                self._exchange.pause()
            else:
                self._exchange.resume()

    def meter_whole(self, *, is_text: bool) -> None:
        """Meter a whole answer; at a glance where it is small JSON."""
        meter, body = self.meter, self.body
        contents = meter.reader.contents(body) if not self._looks and body.startswith(b"{") else None
        if contents is not None:
            meter.take(contents)
            return
        self._look_to_the_end()
        if self.view is not None:
            meter.whole(self.view, is_text=is_text)

    def close(self) -> None:
        """Abort a running exchange and release what is held. Idempotent."""
        if not self._done:
            self.abandon()
        if self.shape is None:
            self.release()
        self.held = b""  # what counts of it does so until the request ends
        self._on_event = None  # who takes events may know this one

    # -- the transport's side

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self.status, self.headers = status, headers
        self.head = head = read_head(headers)
        if status < 300 and not self.expects_stream and head.content is TEXT and not head.encoding:
            self._is_plain = True
        else:
            self._begin(head)

    def on_body(self, data: bytes) -> None:
        live = self.live
        if live is not None:
            self.last_read = self.loop.time()
            data = live.feed(data)
            if live.is_whole and not self._is_leaving:
                self._leave_soon()
            self._pass_on(data)
        elif self._is_plain and not self.counted and self.memory is not None and len(data) <= self.memory.spare:
            self.held, self.counted = data, len(data)
            self.memory.spare -= len(data)
        else:
            self._go_on(data)

    def on_end(self) -> None:
        if not self._is_plain or self.view is not None:
            self._end()
            return
        self.shape, self._done = WHOLE, True  # as `_be_done`
        if self._timer is not None:
            self._timer.cancel()
        elif self.waits is not None:
            self.waits.attempts.discard(self)
        self._exchange = self._timer = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _look_through(self) -> None:
        """Read a compressed body to its end, yielding to the loop."""
        while self.view is not None and self.view.step():  # noqa: ASYNC110 — there is nothing to wait for
            await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<Attempt: {self.shape.value if self.shape else 'waiting'}, status {self.status}>"


def read_head(headers: RawHeaders) -> AnswerHead:
    """Read an answer's headers in one pass.

    Of several request ids of the upstream's the first is passed; types likewise.
    """
    passed: list[tuple[str, str]] = []
    content_type: bytes | None = None
    encoding = b""
    has_id = False
    for name, value in headers:
        shown = _PASSED.get(name)
        if shown is None:
            continue
        if name == b"content-type":
            content_type = value if content_type is None else content_type
        elif name == b"content-encoding":
            declared = value.strip().lower()
            encoding = encoding or (declared if declared != b"identity" else b"")
        elif shown == "x-upstream-request-id":
            if has_id:
                continue
            has_id = True
        passed.append((shown, value.decode("latin-1")))
    return AnswerHead(passed, TEXT if content_type == b"application/json" else content_of(content_type), encoding)


class WholeResponse(msgspec.Struct, eq=False):
    """The answer to one request."""

    call: Call
    ask: Ask
    responder: Responder  # the client's own, or one that puts answers back into its protocol
    client: Client
    meter: UsageMeter
    log: FilteringBoundLogger
    account: Account | None = None

    def whole(self, attempt: Attempt) -> None:
        """Answer with a whole answer, which has been metered."""
        head = attempt.head
        self.responder.on_answer(self.answered(attempt.status, head.passed), attempt.body, head.encoding)
        self.settle("upstream_error" if self.meter.failed else "ok")
        self.responder.on_end(self.meter.usage)

    def answered(self, status: int, passed: Fields) -> Head:
        """Note that an upstream answers; return our head."""
        self.meter.answered = True
        self.call.first_byte = perf_counter()
        if not self.responder.started:
            self.call.status = status
        account = self.account
        return Head(status, passed, own_fields(self.call, self.ask, account.headers if account is not None else ()))

    def settle(self, outcome: Outcome) -> None:
        """Settle the account. Only the first call counts."""
        self.call.outcome = outcome
        if self.account is not None:
            self.account.settle(self.meter, self.call.served, self.ask.body.fields, body_size=self.ask.body.size)


def own_fields(
    call: Call, ask: Ask, limits: Sequence[Field] = (), *, with_timing: bool = True, waiting_since: float = 0.0
) -> Fields:
    """List the gateway's own headers for a call.

    As it stands (contract §4). `limits`: those of its account. `waiting_since`: when the wait began that has not ended;
    0.0 for none.
    """
    own = [("x-request-id", call.request_id), ("x-gateway-attempts", f"{call.attempts}")]
    served, asked = call.served, call.requested_model
    if served is not None:
        if ask.pin is None or not ask.needs_no_model:  # else whichever model's endpoint it was, says nothing
            own.append(_model_field(served.name))
        if asked is not None and asked != served.name and _serves_another(call, ask.catalogue):
            own.append(("x-gateway-requested-model", openai.printable(asked)))
    if with_timing:
        share = (waiting_since or perf_counter()) - call.began - call.upstream_seconds
        own.append(("server-timing", f"gateway;dur={share * 1000:.2f}"))
    own += limits
    return own


@lru_cache(maxsize=1024)
def _model_field(name: str) -> tuple[str, str]:
    return "x-gateway-model", openai.printable(name)


def _serves_another(call: Call, catalogue: Catalogue) -> bool:
    """Whether another model answers than the client named."""
    named = catalogue.find(call.requested_model or "")
    return named is None or named is not call.served
