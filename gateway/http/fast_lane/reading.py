"""The reading half of a client connection: bytes to requests.

What comes ahead of its turn waits as bytes. Heads and bodies are read here for both servers, so that framing, bounds
and refusals are the same whoever serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import ClientTooSlow, GatewayError, HeadTooLarge, Overloaded
from gateway.http.fast_lane.heads import (
    MAX_HEAD_BYTES,
    Beginning,
    Framed,
    Repetition,
    head_end,
    read_head,
    without_blank_lines,
)
from gateway.http.fast_lane.incoming_body import ArrivingBody, ChunkedBody, CountedBody
from gateway.http.fast_lane.lane_server import LaneServer
from gateway.http.fast_lane.passage import Passage
from gateway.http.fast_lane.patience import HeadPatience
from gateway.http.fast_lane.writing import Writing
from gateway.http.message import Body, Head, Request

# How long the rest of a body that its handler did not read may take to arrive before the connection is given up, and
# how much of it is read: a client that never ends shall not keep us busy all that time.
LINGERING_SECONDS = 10.0
LINGERING_BYTES = 32 << 20
# Of requests that a client sends ahead of its answers, so much waits here; then the client waits.
MAX_AHEAD_BYTES = 64 * 1024


class Reading(Writing):
    """Read requests: for the lane, or for the application."""

    __slots__ = (
        "_ahead",
        "_arriving",
        "_beginning",
        "_body",
        "_bounds",
        "_head_held",
        "_head_patience",
        "_idle",
        "_linger",
        "_linger_bytes",
        "_passage",
        "_pausers",
        "_repetition",
        "_server",
        "ends_here",
        "half_closed",
    )

    def __init__(self, server: LaneServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._server = server
        self._bounds = server.bounds()
        self.half_closed = False
        self.ends_here = False  # no further request will be taken from this connection
        self._repetition = Repetition()
        self._ahead = b""  # read, but not yet looked at
        self._arriving: ArrivingBody | None = None  # the body of the present request
        self._body: CountedBody | ChunkedBody | None = None  # takes what arrives, until the body is whole
        self._idle: asyncio.Future[Request] | None = None  # the lane waits by it for a request
        self._passage = Passage()
        self._beginning: Beginning | None = None  # judges a head that is not whole
        self._head_held = server.memory.hold()  # by a head that is not whole
        self._head_patience = HeadPatience(loop)
        self._linger = LINGERING_SECONDS
        self._linger_bytes = LINGERING_BYTES
        self._pausers = 0  # reasons for which nothing is read

    @property
    def write_seconds(self) -> float:
        """How long a client may take nothing."""
        return self._bounds.write_seconds

    def give_up_on_body(self) -> None:
        """End the connection with the answer, the body unread."""
        self._linger = 0.0

    def ask_for_application(self) -> None:
        """Have `begin_passage` called once the application server is loaded."""
        raise NotImplementedError

    def request(self, head: Head, content: Body, length: int | None, body: bytes | None = None) -> Request:
        """Make a request of this connection."""
        raise NotImplementedError

    def unwatch(self) -> None:
        """End what a route's `watch` began."""
        raise NotImplementedError

    def refuse(self, fault: GatewayError, data: bytes) -> None:
        """Answer what was no request, as the connection's last.

        `data`: what there is of it, which may say whose shape the answer is to have.
        """
        raise NotImplementedError

    def _go_on(self) -> None:
        """Go on with bytes that came during the last request."""
        ahead, self._ahead = self._ahead, b""
        if len(ahead) > MAX_AHEAD_BYTES:
            self._pause(False)
        if ahead:
            self._receive(ahead)

    # -- bytes

    def _take(self, data: bytes) -> None:
        """Take bytes, whatever the connection is at."""
        if self._passage.upgraded:
            if self._passage.has_room(len(data)):
                self._passage.give(data)
            else:
                self.abort()
            return
        if self._body is not None and self._arriving is not None:
            data = self._take_body(self._body, self._arriving, data)
        if not data:
            return
        if self._is_at_work:
            self._wait_its_turn(data)
        elif self._ahead:
            self._receive(self._ahead + data, len(self._ahead))
        else:
            self._receive(data)

    @property
    def _is_at_work(self) -> bool:
        """Whether a request is being served, or about to be."""
        return self._idle is None or self._arriving is not None or self._passage.busy

    def _take_body(self, body: CountedBody | ChunkedBody, arriving: ArrivingBody, data: bytes) -> bytes:
        """Feed the present request's body; return what follows."""
        self._linger_bytes -= len(data)
        try:
            rest = body.take(data, arriving)
        except GatewayError as fault:
            self.ends_here, self._body = True, None
            self.give_up_on_body()
            arriving.fail(fault)
            return b""
        if arriving.whole:
            self._body = None
            self.ends_here = self.ends_here or body.overran
        return rest

    def _wait_its_turn(self, data: bytes) -> None:
        was_little = len(self._ahead) <= MAX_AHEAD_BYTES
        self._ahead += data
        if was_little and len(self._ahead) > MAX_AHEAD_BYTES:
            self._pause(True)

    def _receive(self, data: bytes, looked_at: int = 0) -> None:
        """Take bytes at the beginning of a request.

        While none is being served; in the first of them no head ended yet.
        """
        known = self._repetition.known(data)
        if known is not None:
            head, body_at, length = known
            self._begin_own(self._read(head, data, body_at, CountedBody(length) if length else None))
            return
        size, data = len(data), without_blank_lines(data)
        try:
            body_at = self._head_end(data, max(0, looked_at - (size - len(data))))
            if not body_at:
                self._keep_head(data)
                return
            framed = read_head(data, body_at)
            self._look_ahead(framed, data)
        except GatewayError as fault:
            self.refuse(fault, data)
            return
        length = framed.head.declared_length or 0
        body = framed.chunks or (CountedBody(length) if length else None)
        if self._server.serves(framed.head):
            self._repetition.keep(data, framed)
            self._begin_own(self._read(framed.head, data, body_at, body))
        else:
            self._pass_on(self._read(framed.head, data, body_at, body))

    def _head_end(self, data: bytes, looked_at: int) -> int:
        """Return the head's end, 0 if unfinished. Raises HeadTooLarge.

        What has come of it is judged at once.
        """
        try:
            end = head_end(data, looked_at)
        except HeadTooLarge:
            Beginning().feed(data[:MAX_HEAD_BYTES])  # that it is no HTTP goes before its size
            raise
        if not end and data:
            if self._beginning is None or not looked_at:
                self._beginning, looked_at = Beginning(), 0
            self._beginning.feed(data[looked_at:])
        return end

    def _look_ahead(self, framed: Framed, data: bytes) -> None:
        """Judge what is behind a request in the same read. Raises InvalidHttp.

        Where that is no HTTP, the client may have framed the request otherwise than we did, so it is not served.
        """
        ahead_at = framed.body_at + (framed.head.declared_length or 0)
        if framed.chunks is None and len(data) > ahead_at and not self._may_upgrade(framed.head):
            ahead = without_blank_lines(data[ahead_at : ahead_at + MAX_HEAD_BYTES])
            Beginning().feed(ahead[: head_end(ahead) or None])

    def _keep_head(self, data: bytes) -> None:
        """Keep an unfinished head, within its time and memory bound."""
        self._ahead = data
        if data:
            self._head_patience.begin(self._server.bounds().head_seconds, self._head_timed_out)
            # It is there twice at the moment when more of it comes.
            if not self._head_held.has_grown(max(0, 2 * len(data) - self._head_held.size)):
                self.refuse(Overloaded("The gateway holds as many requests as it may; ask again in a moment."), data)

    def _read(self, head: Head, data: bytes, body_at: int, body: CountedBody | ChunkedBody | None) -> Request:
        """Read a request whose head is whole.

        Its body may be here as well, and more behind it.
        """
        if self._beginning is not None:  # it came in pieces
            self._head_is_over()
        self._bounds = self._server.bounds()  # those that hold now are the request's own to its end
        self._linger = LINGERING_SECONDS
        rest = data[body_at:]
        if body is None:
            request, self._ahead = self.request(head, NOTHING_MORE, 0, b""), b""
        elif isinstance(body, CountedBody) and len(rest) == body.owed:  # as most reads bring
            request, self._ahead, rest = self.request(head, NOTHING_MORE, len(rest), rest), b"", b""
        else:
            arriving = self._arriving = ArrivingBody(self._pause)
            length = body.owed if isinstance(body, CountedBody) else None
            self._body, self._ahead = body, b""
            rest = self._take_body(body, arriving, rest) if rest else b""
            request = self.request(head, arriving, length)
        if rest:
            self._wait_its_turn(rest)
        return request

    def _begin_own(self, request: Request) -> None:
        """Give a request to the lane."""
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(request)

    def _may_upgrade(self, head: Head) -> bool:
        return "upgrade" in head.headers and self._server.may_upgrade(head)

    def _pass_on(self, request: Request) -> None:
        """Give a request to the application server, once that is loaded."""
        if self.transport is None or self.transport.is_closing():
            return
        self._passage.request = request
        self.ask_for_application()

    def begin_passage(self, application: Callable[[], asyncio.Protocol]) -> None:
        """Let the application have the request that was passed on.

        `application` makes its side of this connection.
        """
        request = self._passage.request
        if request is None or self.transport is None or self.transport.is_closing():
            return
        if not self._passage.is_joined:
            self._passage.join(application(), self.transport)
        may_upgrade = self._may_upgrade(request.head)
        if may_upgrade:  # where it is refused, older releases of aiohttp go on as if it had been granted
            request.keep_alive = False
        self._passage.begin(request, may_upgrade=may_upgrade)

    # -- time and pace

    def _pause(self, paused: bool) -> None:
        """Nothing is read while there is any reason for it."""
        self._pausers += 1 if paused else -1
        if self.transport is None:
            return
        if paused and self._pausers == 1:
            self.transport.pause_reading()
        elif not paused and self._pausers == 0:
            self.transport.resume_reading()

    def _head_is_over(self) -> None:
        self._beginning = None
        self._head_held.release()
        self._head_patience.end()

    def _head_timed_out(self) -> None:
        self.refuse(ClientTooSlow("The request's head did not arrive in time."), self._ahead)

    def _close_transport(self) -> None:
        """Close once the last bytes are out.

        Ends at once where the client never takes them.
        """
        if self.transport is not None:
            if self._watch is not None:
                self._watch.start(self._bounds.write_seconds)
            self.transport.close()


class _NothingMore:
    """The content of a request whose body was there at once."""

    at_end = True
    whole = True

    async def read(self) -> bytes:
        return b""


NOTHING_MORE = _NothingMore()
