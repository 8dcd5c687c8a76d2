"""Begin and end a connection; take turns with the application server."""

from __future__ import annotations

import asyncio
import select
from typing import cast

from gateway.errors import InvalidHttp
from gateway.http.fast_lane.answering import Answering
from gateway.http.fast_lane.patience import IdlePatience
from gateway.http.fast_lane.reading import MAX_AHEAD_BYTES
from gateway.http.message import Request
from gateway.http.write_watch import WriteWatch


class LaneConnection(Answering):
    """One client connection, served by the lane or aiohttp in turn.

    What a request takes of it is in `Answering`.
    """

    __slots__ = ()

    def ask_for_application(self) -> None:
        """Have `begin_passage` called once the application server is loaded."""
        self._server.when_application_is_there(self)

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._watch = WriteWatch(self.transport, self._loop)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = str(peer[0])
        self._idle_patience = IdlePatience(
            self._loop, lambda: self._server.bounds().keepalive_seconds, lambda: self.is_idle, self._close_transport
        )
        self._idle = self._loop.create_future()
        self._task = self._loop.create_task(self._run(self._idle))
        self._task.add_done_callback(self._ended)
        self._server.joined(self)

    def eof_received(self) -> bool:
        """Cancel a relay on FIN; answer others, then end."""
        self.half_closed = self.ends_here = True
        if self._passage.upgraded or self._on_gone:
            self._client_left()
            return False
        if self._arriving is not None and not self._arriving.whole:
            self.give_up_on_body()
            self._arriving.fail(unfinished())
        return self._is_at_work

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        if self._idle_patience is not None:
            self._idle_patience.end()
            self._idle_patience = None  # it knows this connection, and its task does: neither keeps the other
        self._server.left(self)
        super().connection_lost(exc)
        self._cancel()
        self.unwatch()
        self._passage.lost(exc)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._passage.pressed(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._passage.pressed(False)

    # -- what the server asks of it

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come of a next request."""
        return not self._is_at_work and not self._ahead

    def has_unread_bytes(self) -> bool:
        """Whether the kernel holds bytes not yet read."""
        if self.transport is None:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """End the connection: at once if idle, else after its answer."""
        self.ends_here = True
        if not self._is_at_work:
            self._close_transport()

    def force_close(self) -> None:
        """End the connection at once; what was written already may still leave."""
        self.ends_here = True
        self._cancel()
        self._close_transport()

    # -- what the application server asks of it

    @property
    def passed(self) -> Request:
        """The request that the application has."""
        if self._passage.request is None:
            raise RuntimeError("the application has no request of this connection")
        return self._passage.request

    async def application_answered(self, *, keep_alive: bool) -> None:
        """Go on after the application's answer, or end the connection.

        Once the present request's body is over.
        """
        self.unwatch()
        if await self._may_follow() and keep_alive:
            self._passage.request = None
            if self._idle_patience is not None:
                self._idle_patience.since = self._loop.time()
            self._go_on()
        else:
            self._close_transport()

    def application_upgraded(self) -> None:
        """Pass all bytes from now on to the application.

        They are not HTTP.
        """
        self._passage.upgraded = True
        ahead, self._ahead = self._ahead, b""
        if len(ahead) > MAX_AHEAD_BYTES:
            self._pause(False)
        if ahead:
            self._passage.give(ahead)

    def __repr__(self) -> str:
        state = "idle" if self.is_idle else "at work"
        return f"<LaneConnection of {self.client}, {state}{', half closed' if self.half_closed else ''}>"


def unfinished() -> InvalidHttp:
    """Return the error of a body cut by a FIN."""
    return InvalidHttp("The request's body ended before it was whole.", headers=(("connection", "close"),))
