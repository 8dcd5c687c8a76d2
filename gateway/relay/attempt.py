"""One try against one endpoint.

An `Attempt` is what the transport talks to. It gathers a whole answer, or watches a stream until its first event with
data; from then on bytes go from the upstream's read straight into the client's transport, in whole events.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol

import msgspec

from gateway import openai
from gateway.errors import ConnectionCut, FirstByteTimedOut, IdleTimedOut, InvalidResponse, Overloaded, TransportError
from gateway.memory import Held
from gateway.relay.outlet import NO_HEAD, AnswerHead, RawHeaders, read_head
from gateway.relay.seen import Seen
from gateway.relay.view import View
from gateway.sse import EventFramer, Fragment, event_data, event_name, whole_events
from gateway.transport import Exchange
from gateway.types import Timeouts

# A whole answer is held up to here, so that an upstream dying within it is a failed attempt and not a broken answer.
MAX_HELD_BYTES = 16 * 2**20
# uvloop calls what is due before it looks at the sockets. In a process that stood still for a while (stopped, starved,
# its machine asleep) bytes may lie there that came in time: they are read before an upstream is said to be silent.
LOOK_AGAIN_SECONDS = 0.005


class Sink(Protocol):
    """Where a stream goes: the client's side. `send` raises ConnectionResetError where the client has gone."""

    def send(self, data: bytes) -> None: ...


class Shape(enum.Enum):
    """What an upstream's answer turned out to be."""

    WHOLE = "whole"  # complete, in `body`
    EVENTS = "events"  # a stream whose first event is there
    FLOW = "flow"  # a body too large to hold, or a compressed stream: passed on as it comes


class Attempt(msgspec.Struct, eq=False):
    """Implements the transport's `Receiver`. Use: `await opened()`, then for streams `await pour(sink)`.

    `expects_stream`: the client asked for one, so the endpoint's `first_byte` time-out holds.
    `give_up_at`: when the request's `total` time-out ends, in the loop's time.
    """

    loop: asyncio.AbstractEventLoop
    timeouts: Timeouts
    expects_stream: bool
    take_usage_out: bool
    give_up_at: float
    seen: Seen
    status: int = 0
    headers: RawHeaders = []
    head: AnswerHead = NO_HEAD
    shape: Shape | None = None
    memory: Held | None = None  # what the request may hold of its answer
    said: bytes = b""  # an error that came in an event's place
    _exchange: Exchange | None = None
    _framer: EventFramer | None = None
    _held: list[bytes | bytearray] = []
    _held_bytes: int = 0
    _sink: Sink | None = None
    _paused: bool = False
    _done: bool = False
    _failure: TransportError | None = None
    _last_read: float = 0.0
    view: View | None = None  # of a body that is not cut into events
    _live: bool = False  # a stream has begun: `idle` holds, not `total`
    _no_room: bool = False  # for its answer in memory, which says nothing against the endpoint
    _waiter: asyncio.Future[None] | None = None
    _timer: asyncio.TimerHandle | None = None

    # -- the relay's side

    @property
    def body(self) -> bytes:
        """What is held: of a whole answer, everything."""
        if len(self._held) != 1:
            return b"".join(self._held)
        self._held[0] = whole = bytes(self._held[0])  # which is no copy where it is bytes already
        return whole

    @property
    def mid_event(self) -> bool:
        """The client was left in the middle of an event too large to hold."""
        return self._framer is not None and self._framer.mid_event

    async def opened(self, exchange: Exchange) -> TransportError | None:
        """Waits for a whole answer or a stream's first event; returns what went wrong instead, if anything did."""
        self._exchange = exchange
        first_byte_at = self.loop.time() + self.timeouts.first_byte
        self._restart_timer(min(first_byte_at, self.give_up_at) if self.expects_stream else self.give_up_at)
        while self.shape is None and self._failure is None:
            await self._news()
        if self._no_room:
            raise Overloaded("The gateway holds as many bodies and answers as it may; ask again in a moment.")
        if self.shape is Shape.WHOLE:
            await self._look_through()
        return self._failure if self.shape is None else None

    async def pour(self, sink: Sink) -> TransportError | None:
        """Passes on what is held and then all that comes, until the end; returns what broke it, if anything did."""
        held, self._held = self.body, []
        if held:
            sink.send(held)
        self._sink = sink
        while not self._done:
            await self._news()
        await self._look_through()
        return self._failure

    def pressure(self, paused: bool) -> None:
        """The client reads slowly: the upstream waits, and its idle clock stands still."""
        self._paused = paused
        self._last_read = self.loop.time()
        if self._exchange is not None:
            if paused:
                self._exchange.pause()
            else:
                self._exchange.resume()

    def close(self) -> None:
        """Ends the attempt: an exchange that still runs is aborted at once. Idempotent."""
        self._stop_timer()
        if not self._done and self._exchange is not None:
            self._exchange.abort()
        self._done = True
        self._held = []
        if self.memory is not None and self.shape is None:
            self.memory.shrink(self._held_bytes)
            self._held_bytes = 0

    # -- the transport's side

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self.status, self.headers = status, headers
        self.head = head = read_head(headers)
        self._last_read = self.loop.time()
        if head.is_event_stream and 200 <= status < 300:
            self._live = True
            if head.encoding:
                self.view = self.seen.events_view(head.encoding)
            else:
                self._framer = EventFramer()
            return
        if 200 <= status < 300:
            self.view = self.seen.body_view(head.encoding)
        if self.expects_stream:
            self._restart_timer(self.give_up_at)

    def on_body(self, data: bytes) -> None:
        self._last_read = self.loop.time()
        sink = self._sink
        if sink is not None:
            self._pass_on(sink, data)
        elif self._framer is not None:
            self._hold_events(self._framer.feed(data))
        else:
            if self.memory is not None and not self.memory.has_grown(len(data)):
                self._find_no_room()
                return
            self._hold(data)
            if self.view is not None:
                self.view.feed(data)
            if self.shape is None and (self._live or self._held_bytes > MAX_HELD_BYTES):
                if self.view is not None:
                    self.seen.follow(self.view)
                self._become(Shape.FLOW)

    def on_end(self) -> None:
        if self._framer is not None:
            # A last event without its blank line: readers differ on it, so it is passed on as it is.
            rest = self._framer.end()
            if rest and self._sink is not None:
                self._send_events(self._sink, [rest])
            elif rest:
                self._hold_events([rest])
            if self.shape is None:
                self._fail(InvalidResponse("the stream ended without an event"))
                return
        else:
            if self.view is not None:
                self.view.end()
            self.shape = self.shape or Shape.WHOLE
        self._finish()

    def on_failure(self, error: TransportError) -> None:
        self._fail(error)

    # -- within

    def _hold(self, data: bytes) -> None:
        """Large answers grow in place: many pieces would leave holes in memory that nobody else can use."""
        self._held_bytes += len(data)
        if not self._held:
            self._held.append(data)
            return
        whole = self._held[0]
        if not isinstance(whole, bytearray):
            self._held[0] = whole = bytearray(whole)
        whole += data

    def _pass_on(self, sink: Sink, data: bytes) -> None:
        if self._framer is not None:
            self._send_events(sink, self._framer.take(data))
            return
        if self.view is not None:
            self.view.feed(data)
        self._to_sink(sink, data)

    def _send_events(self, sink: Sink, pieces: list[bytes]) -> None:
        passed = self._passed(pieces)
        if passed:
            self._to_sink(sink, passed[0] if len(passed) == 1 else b"".join(passed))

    def _to_sink(self, sink: Sink, data: bytes) -> None:
        try:
            sink.send(data)
        except ConnectionResetError:
            # The client has gone; its connection cancels the request in this or the next turn of the loop.
            self.close()

    def _hold_events(self, events: list[bytes]) -> None:
        """Before the head is out: looks for the first event with data; an error there is a failed attempt."""
        if self.shape is None:
            for position, event in enumerate(events):
                payload = event_data(event)
                if payload is None:
                    continue
                if openai.is_error_payload(payload, event_name(event)):
                    self.said = payload
                    self._fail(InvalidResponse("the first event of the stream is an error"))
                    return
                self._held.extend(events[:position])
                events = events[position:]
                self._become(Shape.EVENTS)
                break
        self._held.extend(self._passed(events) if self.shape is not None else events)

    def _passed(self, pieces: list[bytes]) -> list[bytes]:
        """Takes down what is told of usage, and leaves out the event that only we had asked for."""
        passed = []
        for piece in pieces:
            if isinstance(piece, Fragment):
                self.seen.fragment(piece)
            elif self.seen.events(piece) and self.take_usage_out:
                passed += [event for event in whole_events(piece) if not openai.is_usage_only(event)]
                continue
            passed.append(piece)
        return passed

    def _become(self, shape: Shape) -> None:
        self.shape = shape
        if self._live:
            self._restart_timer(self._last_read + self.timeouts.idle)
        self._wake()

    def _timed_out(self) -> None:
        self._timer = self.loop.call_later(LOOK_AGAIN_SECONDS, self._still_timed_out)

    def _still_timed_out(self) -> None:
        self._timer = None
        if self.shape is None:
            self._fail(FirstByteTimedOut("no answer in time"))
        elif not self._live:
            self._fail(ConnectionCut("the answer did not end in time"))
        else:
            now = self.loop.time()
            quiet_until = (now if self._paused else self._last_read) + self.timeouts.idle
            if quiet_until > now:
                self._restart_timer(quiet_until)
            else:
                self._fail(IdleTimedOut(f"no byte for {self.timeouts.idle:g} s in the middle of a stream"))

    def _restart_timer(self, when: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_at(when, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: TransportError) -> None:
        if not self._done:
            self._failure = error
            if self._exchange is not None:
                self._exchange.abort()
            self._finish()

    def _find_no_room(self) -> None:
        self._no_room = True
        self._fail(ConnectionCut("there is no room for the answer"))

    def _finish(self) -> None:
        self._done = True
        self._stop_timer()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _look_through(self) -> None:
        """What was unpacked slower than it came is read to its end, with a turn of the loop for others in between."""
        while self.view is not None and self.view.step():  # noqa: ASYNC110 — there is nothing to wait for
            await asyncio.sleep(0)

    async def _news(self) -> None:
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def __repr__(self) -> str:
        return f"<Attempt: {self.shape.value if self.shape else 'waiting'}, status {self.status}>"
