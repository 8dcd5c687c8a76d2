"""One try against one endpoint.

An `Attempt` is what the transport talks to. It gathers a whole answer, or watches a stream until its first event with
data; from then on bytes go from the upstream's read straight into the client's transport, in whole events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import Overloaded, TransportError
from gateway.http.client import Exchange
from gateway.proxy.endpoint_client import TEXT, WHOLE, RawHeaders, read_head
from gateway.proxy.stream.chunks import chunk_passage
from gateway.proxy.stream.opening import BOM
from gateway.proxy.stream.unfolding import Unfolding


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

    async def opened(self, exchange: Exchange) -> TransportError | None:
        """Wait for a whole answer or a first event; return the failure."""
        loop, self._exchange, self._answer_by = self.loop, exchange, self.give_up_at
        if self.expects_stream:
            self._answer_by = min(loop.time() + self.timeouts.first_byte, self.give_up_at)
        self._timer = loop.call_at(self._answer_by, self._look_again)
        while self.shape is None and self.failure is None:
            self._waiter = loop.create_future()
            await self._waiter
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
        if self._looks or not self.meter.is_plain(self.body):
            self._look_to_the_end()
            if self.view is not None:
                self.meter.whole(self.view, is_text=is_text)

    def close(self) -> None:
        """Abort a running exchange and release what is held. Idempotent."""
        if not self._done:
            self.abandon()
        if self.shape is None:
            self.release()
        self.held = b""  # what counts of it does so until the request ends

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
        self.shape = WHOLE
        self._be_done()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _look_through(self) -> None:
        """Read a compressed body to its end, yielding to the loop."""
        while self.view is not None and self.view.step():  # noqa: ASYNC110 — there is nothing to wait for
            await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<Attempt: {self.shape.value if self.shape else 'waiting'}, status {self.status}>"
