"""What an answer is, and how long it is waited for.

All that is not plain text in one read: streams, errors, large and compressed answers, and time-outs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from gateway.dialects import openai
from gateway.dialects.base import EventRules
from gateway.errors import ConnectionCut, FirstByteTimedOut, IdleTimedOut, InvalidResponse, TransportError
from gateway.http.client import Exchange
from gateway.proxy.answer_view import MOST_DECODED_BYTES, View
from gateway.proxy.endpoint_client import EVENTS, NO_HEAD, TEXT, WHOLE, AnswerHead, Content, RawHeaders, Shape
from gateway.proxy.stream.holding import Holding
from gateway.proxy.stream.live import Live
from gateway.proxy.stream.opening import NO_STREAM, Opening, Verdict
from gateway.proxy.stream.waits import Waits
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Timeouts

MAX_HELD_BYTES = 16 * 2**20  # of a whole answer: an upstream that dies within it is a failed attempt, no broken answer
MAX_ERROR_BYTES, ERROR_BODY_SECONDS = 64 * 2**10, 1.0  # the reason of an error is worth that much, and no more
PREPARATION_SECONDS = 1.0  # for which the head of a response waits for its first words: until then it may still fail
# The loop calls what is due before it looks at the sockets. In a process that stood still for a while (stopped,
# starved, its machine asleep) bytes may lie there that came in time: they are read before an upstream is silent.
LOOK_AGAIN_SECONDS = 0.005
GRACE_SECONDS = 0.5  # in which an upstream may still end its stream itself; then it is left
_RETRYABLE = frozenset((401, 408, 425, 429))  # and all from 500


class Unfolding(Holding):
    """What came of an answer, and what it turns out to be.

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
    headers: RawHeaders = []  # noqa: RUF012 - each has its own
    head: AnswerHead = NO_HEAD
    shape: Shape | None = None
    error_text: bytes = b""  # an error that came in an event's place
    view: View | None = None  # of a body that is not cut into events, once it has to be looked into piece by piece
    live: Live | None = None  # where the answer is a stream of events that has begun
    failure: TransportError | None = None
    last_read: float = 0.0  # when something of what is no plain answer came
    _exchange: Exchange | None = None
    _opening: Opening | None = None
    _timer: asyncio.TimerHandle | None = None
    _on_event: Callable[[bytes], None] | None = None
    _paused: bool = False
    _done: bool = False
    waits: Waits | None = None  # sees to the time-outs of all attempts
    answer_by: float = 0.0  # when the answer, or the first event of a stream, has to be there
    _is_plain: bool = False  # text that is no stream and not compressed: it is looked at when it is whole
    _looks: bool = False  # the view has been given what is held
    _flows: bool = False  # it does not wait to be whole
    _is_prepared: bool = False  # the first event is near: the head waits for it no longer than a second
    _is_leaving: bool = False  # the stream is whole; its upstream may still end it by itself
    _no_room: bool = False  # for its answer in memory, which says nothing against the endpoint
    _waiter: asyncio.Future[None] | None = None  # the relay's side awaits news here

    def look(self) -> None:
        """Feed the view with what is held, and all that comes."""
        # A small body is looked at once, at its end; a large or a compressed one would be too much work there.
        if self.view is None and self._is_plain:
            self.view = self.meter.body_view(b"")
        if self.view is not None and not self._looks:
            self._looks = True
            self.view.feed(self.whole())

    def _look_to_the_end(self) -> None:
        if not self._looks:
            self.look()
            if self.view is not None:
                self.view.end()

    def abandon(self) -> None:
        """Abort a running exchange. Idempotent."""
        if not self._done:
            exchange = self._exchange
            self._be_done()
            if exchange is not None:
                exchange.abort()

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

    # -- what the answer is

    def _may_stream(self) -> bool:
        return self.expects_stream or self.head.content is EVENTS

    def _begin(self, head: AnswerHead) -> None:
        """The head of whatever is no plain answer."""
        self.last_read = self.loop.time()
        if self.status >= 300:
            self.set_deadline(min(self.last_read + ERROR_BODY_SECONDS, self.answer_by))
        elif head.encoding or head.content is Content.MEDIA or not self._may_stream():
            self._flows = head.content is not TEXT
            is_stream = self._may_stream() and head.content in (EVENTS, Content.OTHER)
            self.view = self.meter.events_view(head.encoding) if is_stream else self.meter.body_view(head.encoding)
        else:
            self._opening = Opening(head.content, holds_preparations=self.events.has_preparations)

    def _go_on(self, data: bytes) -> None:
        """Bytes of what is neither plain nor a stream that has begun."""
        self.last_read = self.loop.time()
        if self._opening is None:
            self._take(data)
        elif self.has_counted(len(data)):
            self._open(self._opening, data)
        else:
            self._find_no_room()

    def _open(self, opening: Opening, data: bytes) -> None:
        verdict = opening.feed(data)
        if verdict is not Verdict.UNDECIDED:
            self._opened_as(opening, verdict)
        elif opening.is_prepared and not self._is_prepared:
            self._is_prepared = True
            self.set_deadline(min(self.last_read + PREPARATION_SECONDS, self.give_up_at))

    def _opened_as(self, opening: Opening, verdict: Verdict) -> None:
        self._opening = None
        self.release()
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
        self.keep(held[:silence] + live.feed(held[silence:]))
        self._become(Shape.EVENTS)
        if live.is_whole:
            self._leave_soon()

    def _take(self, data: bytes) -> None:
        """Bytes of what is no stream of events."""
        if self._looks and self.view is not None:
            self.view.feed(data)
        if self.shape is Shape.FLOW:
            self._pass_on(data)
        elif not self.has_taken(data):
            self._find_no_room()
        elif self.view is None and not self._is_plain:  # an error
            if self.counted > MAX_ERROR_BYTES:
                self._end_in_part()
        elif self._flows or self.head.encoding or self.counted > MOST_DECODED_BYTES:
            self._look_or_flow()

    def _look_or_flow(self) -> None:
        self.look()
        if self.view is not None and (self._flows or self.counted > MAX_HELD_BYTES):
            self.meter.follow(self.view)
            self._become(Shape.FLOW)

    def _end(self) -> None:
        """The end of whatever is no plain answer."""
        if self._opening is not None:
            self._opened_as(self._opening, self._opening.end())
        if self.live is not None:
            self._pass_on(self.live.end())
        elif not self._done:
            if self._looks and self.view is not None:
                self.view.end()
            elif self.head.encoding:
                self._look_to_the_end()
            if self.shape is None:
                self._end_whole()
        self._finish()

    def _end_whole(self) -> None:
        if self.status < 300 and self._may_stream():
            if not self.counted:
                self.on_failure(InvalidResponse("an empty answer to a stream"))
                return
            if not self.head.encoding and openai.is_error_body(self.whole()):
                self.error_text = self.whole()
                self.on_failure(InvalidResponse("an error in the place of a stream"))
                return
        self.shape = WHOLE

    def _end_in_part(self) -> None:  # the status of an error is enough
        self.shape = Shape.PART
        self._end_now()

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        if self._on_event is None:
            self.keep(data)
            return
        try:
            self._on_event(data)
        except ConnectionResetError:
            # The client has gone; its connection cancels the request in this or the next turn of the loop.
            self.abandon()

    def _become(self, shape: Shape) -> None:
        self.shape = shape
        if self._is_streaming():
            self.set_deadline(self.last_read + self.timeouts.idle)
        self._ring()

    def _is_streaming(self) -> bool:  # then `idle` holds and `total` no longer
        return self.shape is Shape.EVENTS or self._may_stream()

    def _leave_soon(self) -> None:
        self._is_leaving = True
        self.set_deadline(self.last_read + min(GRACE_SECONDS, self.timeouts.idle))

    def set_deadline(self, when: float) -> None:
        """Call `_timed_out` then; it takes the place of the one before."""
        if self._timer is not None:
            self._timer.cancel()
        elif self.waits is not None:
            self.waits.attempts.discard(self)
        self._timer = self.loop.call_at(when, self._look_again)

    def _look_again(self) -> None:
        self._timer = self.loop.call_later(LOOK_AGAIN_SECONDS, self._timed_out)

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
            self.set_deadline(by)
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
            self.set_deadline(quiet_until)
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
        self._be_done()
        self._ring()

    def _be_done(self) -> None:
        """Let go of what knows this attempt, lest they keep each other."""
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
        elif self.waits is not None:
            self.waits.attempts.discard(self)
        self._exchange = self._timer = None

    def _ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
