"""Pass one request at a time to the application server.

And what it upgrades.

aiohttp is told of a request what shapes its answer: whether it is a HEAD, of which version, and what it needs for an
upgrade. The rest was read and judged here, and is found in our `Request`: so no version of aiohttp's parser can refuse
what was accepted, read it otherwise, or leave anything behind for the next request.
"""

from __future__ import annotations

import asyncio

from gateway.http.message import Head, Request

# Not the protocols, of which one may be a credential that would be logged, and no extensions.
_UPGRADES = frozenset(("connection", "upgrade", "origin", "sec-websocket-key", "sec-websocket-version"))


class Passage:
    """The application's side of a connection.

    `request`: the present one, where it is the application's.
    """

    __slots__ = ("_application", "request", "upgraded")

    def __init__(self) -> None:
        self._application: asyncio.Protocol | None = None  # aiohttp's side of this connection, once there is one
        self.request: Request | None = None
        self.upgraded = False  # all that comes from now on is in another protocol

    @property
    def busy(self) -> bool:
        """Whether the present request is the application's."""
        return self.request is not None

    @property
    def is_joined(self) -> bool:
        """Whether the application knows of this connection."""
        return self._application is not None

    def join(self, application: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Take the application's protocol for this connection."""
        self._application = application
        application.connection_made(transport)

    def begin(self, request: Request, *, may_upgrade: bool) -> None:
        """Pass on a request."""
        self.request = request
        self.give(_announcement(request.head, may_upgrade=may_upgrade))

    def has_room(self, size: int) -> bool:
        """Count bytes of another protocol; False where memory has no room.

        They are the request's until its conversation lets go of them.
        """
        held = self.request.held if self.request is not None else None
        return held is None or held.has_grown(size)

    def give(self, data: bytes) -> None:
        """Pass on bytes as they are."""
        if self._application is not None:
            self._application.data_received(data)

    def lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._application is not None:
            self._application.connection_lost(exc)

    def pressed(self, paused: bool) -> None:
        """The client takes nothing for now, or again."""
        if self._application is not None and paused:
            self._application.pause_writing()
        elif self._application is not None:
            self._application.resume_writing()


def _announcement(head: Head, *, may_upgrade: bool) -> bytes:
    """A head for aiohttp's parser."""
    lines = [f"{'HEAD' if head.method == 'HEAD' else 'GET'} / HTTP/1.{int(head.http11)}", "host: gateway"]
    if may_upgrade:
        lines += [f"{name}: {value}" for name, value in head.headers.items() if name.lower() in _UPGRADES]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
