"""The writing half of a client connection, with its write time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.http.message import Headers
from gateway.http.write_watch import WriteWatch

# Up to this size a piece is joined with its framing: one small copy costs less than a scattered write.
JOIN_BELOW_BYTES = 16 * 1024


class Writing(asyncio.Protocol):
    """Implements what of `http.message.Connection` is about answers."""

    __slots__ = (
        "_chunked",
        "_drained",
        "_head_only",
        "_is_framed",
        "_loop",
        "_on_pressure",
        "_paused",
        "_watch",
        "answer_fields",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.answer_fields: Headers = ()
        self._chunked = self._head_only = self._is_framed = False  # how the present stream is framed
        self._paused = False  # the client takes nothing more for now
        self._drained: asyncio.Future[None] | None = None
        self._on_pressure: Callable[[bool], None] | None = None
        self._watch: WriteWatch | None = None

    @property
    def write_seconds(self) -> float:
        """How long a client may take nothing."""
        raise NotImplementedError

    @property
    def chunked(self) -> asyncio.WriteTransport | None:
        """The transport, where the present stream is chunked."""
        return self.transport if self._is_framed else None

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not left yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def send(self, data: bytes) -> None:
        """Send a piece of the body. Raises ConnectionResetError.

        At once; raises where the client has gone.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        size = len(data)
        if 0 < size < JOIN_BELOW_BYTES and self._is_framed:  # an event, as a rule
            transport.write(b"%x\r\n%b\r\n" % (size, data))
        elif self._head_only or not size:
            return
        elif not self._chunked:
            transport.write(data)
        else:
            transport.writelines((b"%x\r\n" % size, data, b"\r\n"))

    def end_stream(self) -> None:
        """End the body cleanly."""
        if self._is_framed:
            self._open_transport().write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Break the connection, so that the answer counts as cut."""
        if self.transport is not None:
            self.transport.abort()

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        self._open_transport()
        if self._paused:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def _open_transport(self) -> asyncio.Transport:
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        return transport

    # -- asyncio's callbacks

    def pause_writing(self) -> None:
        self._paused = True
        if self._watch is not None:
            self._watch.start(self.write_seconds)
        if self._on_pressure is not None:
            self._on_pressure(True)

    def resume_writing(self) -> None:
        self._paused = False
        if self._watch is not None:
            self._watch.stop()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        if self._on_pressure is not None:
            self._on_pressure(False)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client has gone"))
            self._drained.exception()  # whether anybody waits or not
        self.transport = None
