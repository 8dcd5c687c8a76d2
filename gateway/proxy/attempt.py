"""One try against one endpoint.

An `Attempt` is what the transport talks to. It gathers a whole answer, or watches a stream until its first event with
data; from then on bytes go from the upstream's read straight into the client's transport, in whole events.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec

from gateway.dialects import openai
from gateway.dialects.base import EventRules
from gateway.errors import ConnectionCut, FirstByteTimedOut, IdleTimedOut, InvalidResponse, Overloaded, TransportError
from gateway.http.client import Exchange
from gateway.http.memory_budget import Held
from gateway.proxy.answer_view import MOST_DECODED_BYTES, View
from gateway.proxy.endpoint_client import NO_HEAD, AnswerHead, Content, RawHeaders, Shape, read_head
from gateway.proxy.stream.chunks import chunk_passage
from gateway.proxy.stream.deadline import Bell, Deadline
from gateway.proxy.stream.holding import Holding
from gateway.proxy.stream.live import Live
from gateway.proxy.stream.opening import BOM, NO_STREAM, Opening, Verdict
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Timeouts

MAX_HELD_BYTES = 16 * 2**20  # of a whole answer: an upstream that dies within it is a failed attempt, no broken answer
MAX_ERROR_BYTES, ERROR_BODY_SECONDS = 64 * 2**10, 1.0  # the reason of an error is worth that much, and no more
PREPARATION_SECONDS = 1.0  # for which the head of a response waits for its first words: until then it may still fail
GRACE_SECONDS = 0.5  # in which an upstream may still end its stream itself; then it is left
_RETRYABLE = frozenset((401, 408, 425, 429))  # and all from 500


class Attempt(msgspec.Struct, eq=False):
    """Implements the transport's `Receiver`. Use: `await opened()`, then for streams `await pour(on_event)`.

    `expects_stream`: the client asked for one, so the endpoint's `first_byte` time-out holds.
    `give_up_at`: when the request's `total` time-out ends, in the loop's time.
    `events`: what streams of this route are made of.
    """

    loop: asyncio.AbstractEventLoop
    timeouts: Timeouts
    expects_stream: bool
    take_usage_out: bool
    give_up_at: float
    meter: UsageMeter
    events: EventRules = openai.PLAIN_EVENTS
    status: int = 0
    headers: RawHeaders = []
    head: AnswerHead = NO_HEAD
    shape: Shape | None = None
    memory: Held | None = None  # what the request may hold of its answer
    error_text: bytes = b""  # an error that came in an event's place
    view: View | None = None  # of a body that is not cut into events
    live: Live | None = None  # where the answer is a stream of events that has begun
    failure: TransportError | None = None
    last_read: float = 0.0  # when something came
    _exchange: Exchange | None = None
    _opening: Opening | None = None
    _holding: Holding = msgspec.UNSET  # type: ignore[assignment]
    _deadline: Deadline = msgspec.UNSET  # type: ignore[assignment]
    _on_event: Callable[[bytes], None] | None = None
    _paused: bool = False
    _done: bool = False
    _answer_by: float = 0.0  # when the answer, or the first event of a stream, has to be there
    _looks: bool = False  # the view has been given what is held
    _flows: bool = False  # it does not wait to be whole
    _is_prepared: bool = False  # the first event is near: the head waits for it no longer than a second
    _is_leaving: bool = False  # the stream is whole; its upstream may still end it by itself
    _no_room: bool = False  # for its answer in memory, which says nothing against the endpoint
    _bell: Bell = msgspec.UNSET  # type: ignore[assignment]  # the relay's side awaits news here

    # -- the relay's side

    def __post_init__(self) -> None:
        self._holding = Holding(self.memory)
        self._deadline, self._bell = Deadline(self.loop), Bell(self.loop)

    @property
    def body(self) -> bytes:
        """What is held: of a whole answer, everything."""
        return self._holding.whole

    async def opened(self, exchange: Exchange) -> TransportError | None:
        """Wait for a whole answer or a first event; return the failure."""
        self._exchange = exchange
        patience = self.timeouts.first_byte if self.expects_stream else math.inf
        self._answer_by = min(self.loop.time() + patience, self.give_up_at)
        self._deadline.set(self._answer_by, self._timed_out)
        while self.shape is None and self.failure is None:
            await self._bell.heard()
        if self._no_room and self.shape is None:
            raise Overloaded("The gateway holds as many bodies and answers as it may; ask again in a moment.")
        if self.shape is Shape.WHOLE and self.head.encoding:
            await self._look_through()
        return self.failure if self.shape is None else None

    def pass_chunks(self, transport: asyncio.WriteTransport) -> None:
        """Let the stream's chunks go to the client as they come."""
        live, exchange = self.live, self._exchange
        if live is not None and exchange is not None and not live.is_numbered:
            exchange.passage = chunk_passage(self, live, transport, self.loop.time)

    async def pour(self, on_event: Callable[[bytes], None], *, into_stream: bool = False) -> TransportError | None:
        """Relay what is held and all that comes; return the failure.

        `into_stream`: something went out before it, so that a byte order mark would spoil its first line.
        """
        held = self._holding.take()
        if held:
            on_event(held.removeprefix(BOM) if into_stream else held)
        self._on_event = on_event
        while not self._done:
            await self._bell.heard()
        await self._look_through()
        return self.failure

    def pressure(self, paused: bool) -> None:
        """Pause the upstream and its idle clock for a slow client."""
        self._paused = paused
        self.last_read = self.loop.time()
        if (exchange := self._exchange) is not None:
            (exchange.pause if paused else exchange.resume)()

    def look(self) -> None:
        """Feed the view with what is held, and all that comes."""
        # A small body is looked at once, at its end; a large or a compressed one would be too much work there.
        if self.view is not None and not self._looks:
            self._looks = True
            self.view.feed(self.body)

    def meter_whole(self, *, is_text: bool) -> None:
        """Meter a whole answer; at a glance where it is small JSON."""
        if self.view is not None and (self._looks or not self.meter.is_plain(self.body)):
            if not self._looks:
                self.look()
                self.view.end()
            self.meter.whole(self.view, is_text=is_text)

    def close(self) -> None:
        """Abort a running exchange and release what is held. Idempotent."""
        self._deadline.stop()
        if not self._done and self._exchange is not None:
            self._exchange.abort()
        self._done = True
        if self.shape is None:
            self._holding.release()
        else:
            self._holding.drop()

    # -- the transport's side

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self.status, self.headers = status, headers
        self.head = head = read_head(headers)
        self.last_read = now = self.loop.time()
        if status >= 300:
            self._deadline.set(min(now + ERROR_BODY_SECONDS, self._answer_by), self._timed_out)
        elif head.encoding or head.content is Content.MEDIA or not self._may_stream():
            self._flows = head.content is not Content.TEXT
            is_stream = self._may_stream() and head.content in (Content.EVENTS, Content.OTHER)
            self.view = self.meter.events_view(head.encoding) if is_stream else self.meter.body_view(head.encoding)
        else:
            self._opening = Opening(head.content, holds_preparations=self.events.has_preparations)

    def on_body(self, data: bytes) -> None:
        self.last_read, live = self.loop.time(), self.live
        if live is not None:
            data = live.feed(data)
            if live.is_whole and not self._is_leaving:
                self._leave_soon()
            self._pass_on(data)
        elif self._opening is not None:
            if self._holding.has_counted(data):
                self._open(self._opening, data)
            else:
                self._find_no_room()
        else:
            self._take(data)

    def on_end(self) -> None:
        if self._opening is not None:
            self._opened_as(self._opening, self._opening.end())
        if self.live is not None:
            self._pass_on(self.live.end())
        elif not self._done:
            if self.view is not None and (self._looks or self.head.encoding):
                self.look()
                self.view.end()
            if self.shape is None:
                self._end_whole()
        self._finish()

    def on_failure(self, error: TransportError) -> None:
        if self._done:
            return
        last_words = self.live.last_words() if self.live is not None else None
        if self.status >= 500 or self.status in _RETRYABLE:
            self.shape = Shape.PART
        elif last_words is None:
            self.failure = error
        else:
            self._pass_on(last_words)
        self._end_now()

    # -- within: what the answer is

    def _may_stream(self) -> bool:
        return self.expects_stream or self.head.content is Content.EVENTS

    def _open(self, opening: Opening, data: bytes) -> None:
        verdict = opening.feed(data)
        if verdict is not Verdict.UNDECIDED:
            self._opened_as(opening, verdict)
        elif opening.is_prepared and not self._is_prepared:
            self._is_prepared = True
            self._deadline.set(min(self.last_read + PREPARATION_SECONDS, self.give_up_at), self._timed_out)

    def _opened_as(self, opening: Opening, verdict: Verdict) -> None:
        self._opening = None
        self._holding.release()
        if verdict in NO_STREAM:
            self.error_text = opening.error_text
            self.on_failure(InvalidResponse(NO_STREAM[verdict]))
        elif verdict is Verdict.EVENTS:
            self._go_live(bytes(opening.held), opening.silence)
        else:
            self._flows = verdict is Verdict.FLOW
            self.view = self.meter.body_view(self.head.encoding)
            self._take(bytes(opening.held))

    def _go_live(self, held: bytes, silence: int) -> None:
        self.head = self.head.as_events()
        signs, is_numbered = self.events.end_signs, self.events.is_numbered
        self.live = live = Live(self.meter, signs, is_numbered=is_numbered, take_usage_out=self.take_usage_out)
        self._holding.append(held[:silence] + live.feed(held[silence:]))
        self._become(Shape.EVENTS)
        if live.is_whole:
            self._leave_soon()

    def _take(self, data: bytes) -> None:
        """Bytes of what is no stream of events."""
        if self._looks and self.view is not None:
            self.view.feed(data)
        if self.shape is Shape.FLOW:
            self._pass_on(data)
        elif not self._holding.has_taken(data):
            self._find_no_room()
        elif self.view is None:  # an error
            if self._holding.size > MAX_ERROR_BYTES:
                self._end_in_part()
        else:
            if self._flows or self.head.encoding or self._holding.size > MOST_DECODED_BYTES:
                self.look()
            if self._flows or self._holding.size > MAX_HELD_BYTES:
                self.meter.follow(self.view)
                self._become(Shape.FLOW)

    def _end_whole(self) -> None:
        if self.status < 300 and self._may_stream():
            if not self._holding.size:
                self.on_failure(InvalidResponse("an empty answer to a stream"))
                return
            if not self.head.encoding and openai.is_error_body(self.body):
                self.error_text = self.body
                self.on_failure(InvalidResponse("an error in the place of a stream"))
                return
        self.shape = Shape.WHOLE

    def _end_in_part(self) -> None:  # the status of an error is enough
        self.shape = Shape.PART
        self._end_now()

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        if self._on_event is None:
            self._holding.append(data)
            return
        try:
            self._on_event(data)
        except ConnectionResetError:
            # The client has gone; its connection cancels the request in this or the next turn of the loop.
            self.close()

    def _become(self, shape: Shape) -> None:
        self.shape = shape
        if self._is_streaming():
            self._deadline.set(self.last_read + self.timeouts.idle, self._timed_out)
        self._bell.ring()

    def _is_streaming(self) -> bool:  # then `idle` holds and `total` no longer
        return self.shape is Shape.EVENTS or self._may_stream()

    def _leave_soon(self) -> None:
        self._is_leaving = True
        self._deadline.set(self.last_read + min(GRACE_SECONDS, self.timeouts.idle), self._timed_out)

    def _timed_out(self) -> None:
        if self._is_leaving:
            self._end_now()
        elif self.shape is not None:
            self._fall_silent()
        elif self.status >= 300:
            self._end_in_part()
        elif self._opening is not None and self._is_prepared:
            self._opened_as(self._opening, Verdict.EVENTS)
        elif (by := min(self._uploaded_at() + self.timeouts.first_byte, self.give_up_at)) > self.loop.time() + 0.01:
            self._deadline.set(by, self._timed_out)
        else:
            self.on_failure(FirstByteTimedOut("no answer in time"))

    def _uploaded_at(self) -> float:
        return self._exchange.last_sent_at if self._exchange is not None else -math.inf

    def _fall_silent(self) -> None:
        now = self.loop.time()
        quiet_until = (now if self._paused else self.last_read) + self.timeouts.idle
        if not self._is_streaming():
            self.on_failure(ConnectionCut("the answer did not end in time"))
        elif quiet_until > now:
            self._deadline.set(quiet_until, self._timed_out)
        else:
            self.on_failure(IdleTimedOut(f"no byte for {self.timeouts.idle:g} s in the middle of a stream"))

    def _end_now(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()
        self._finish()

    def _find_no_room(self) -> None:
        self._no_room = True
        self.on_failure(ConnectionCut("there is no room for the answer"))

    def _finish(self) -> None:
        self._done = True
        self._deadline.stop()
        self._bell.ring()

    async def _look_through(self) -> None:
        """Read a compressed body to its end, yielding to the loop."""
        while self.view is not None and self.view.step():  # noqa: ASYNC110 — there is nothing to wait for
            await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<Attempt: {self.shape.value if self.shape else 'waiting'}, status {self.status}>"
