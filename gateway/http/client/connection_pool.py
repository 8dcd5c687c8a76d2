"""Open upstream connections, kept for a while and closed."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, defaultdict
from time import monotonic
from typing import NamedTuple

from gateway.errors import ConnectFailed, ConnectionCut, TransportError
from gateway.http.client.authorities import Authorities
from gateway.http.client.connection import BaseConnection
from gateway.http.client.dial import AllowAddress, Dialer, Origin
from gateway.http.client.proxy import Proxy
from gateway.http.client.receiver import Exchange

_SWEEPS_PER_IDLE_TIME = 4
CLOSED = "closed by the gateway"


class Counts(NamedTuple):
    """Connections to one origin."""

    idle: int
    busy: int


class ConnectionPool:
    """Open connections, keep idle ones for a while, close them all.

    An idle connection is not used after `max_idle_seconds`. `max_head_bytes` bounds an answer's
    head with its interim answers, and what trailers and chunk extensions may cost. `proxy` is for https origins.
    `allow_address` is asked about each address that a name resolves to; behind a proxy, which resolves names itself,
    only about origins that are addresses. `ssl_context` is by default Python's, with certificate checks.
    """

    def __init__(
        self,
        *,
        proxy: Proxy | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_idle_seconds: float = 55.0,
        max_head_bytes: int = 65536,
        allow_address: AllowAddress | None = None,
    ) -> None:
        self.authorities = Authorities(ssl_context)
        self._dialer = Dialer(proxy, self.authorities, allow_address)
        self._max_idle_seconds = max_idle_seconds
        self._max_head_bytes = max_head_bytes
        self._connections: set[BaseConnection] = set()  # all that are open, or closing
        self._idle: defaultdict[Origin, list[BaseConnection]] = defaultdict(list)  # by origin, the longest idle first
        self._replacements: dict[asyncio.Task[None], Exchange] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained = asyncio.Event()  # set by a lost connection that leaves none

    async def close(self) -> None:
        """Close every connection; waiting receivers get ConnectionCut.

        Nothing can be sent any more.
        """
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for exchange in list(self._replacements.values()):
            if exchange.replacement is not None:
                exchange.abort()
                exchange.fail(ConnectionCut(f"{exchange.origin.authority}: {CLOSED}"))
        await asyncio.gather(*self._replacements, return_exceptions=True)
        for connection in list(self._connections):
            connection.cut(CLOSED)
        self._drained.clear()
        if self._connections:
            await self._drained.wait()

    def snapshot(self) -> dict[Origin, Counts]:
        """Open connections by origin."""
        opened = Counter(connection.origin for connection in self._connections)
        idle = {origin: len(self._idle.get(origin, ())) for origin in opened}
        return {origin: Counts(idle[origin], count - idle[origin]) for origin, count in sorted(opened.items(), key=str)}

    def __repr__(self) -> str:
        origins = [f"{origin} idle={counts.idle} busy={counts.busy}" for origin, counts in self.snapshot().items()]
        return f"<{type(self).__name__} {', '.join(origins) or 'without connections'}{', closed' * self._closed}>"

    def make_connection(self, origin: Origin) -> BaseConnection:
        """Make a connection that has no line yet."""
        raise NotImplementedError

    # What a connection calls.

    def released(self, connection: BaseConnection) -> None:
        """Back into the pool."""
        raise NotImplementedError

    def lost(self, connection: BaseConnection) -> None:
        """Closed, for whatever reason."""
        self._connections.discard(connection)
        if connection.idle_since:
            connection.idle_since = 0.0
            self._idle[connection.origin].remove(connection)
        if not self._connections:
            self._drained.set()

    def replace(self, exchange: Exchange) -> None:
        """Send the exchange's request once more, on a new connection."""
        task = asyncio.get_running_loop().create_task(self._send_again(exchange))
        exchange.replacement = task
        self._replacements[task] = exchange
        task.add_done_callback(self._replacements.pop)

    async def _send_again(self, exchange: Exchange) -> None:
        assert exchange.request is not None  # noqa: S101 — the connection asks for a replacement only with it
        head, body = exchange.request
        exchange.request = None
        try:
            connection = await self._open(exchange.origin, exchange.connect_timeout)
        except TransportError as error:
            exchange.replacement = None
            exchange.fail(error)
        else:
            exchange.replacement = None
            connection.send(exchange, head, body)

    async def _open(self, origin: Origin, timeout_seconds: float) -> BaseConnection:
        connection = self.make_connection(origin)
        line = await self._dialer.dial(origin, connection, timeout_seconds)
        if not connection.attach(line):
            raise ConnectFailed(f"{origin.authority}: closed or answered before anything was asked")
        self._connections.add(connection)
        if self._closed:
            connection.close()
            raise ConnectFailed(f"{origin.authority}: {CLOSED}")
        return connection

    def _sweep(self) -> None:
        """Close connections that have been idle for too long."""
        self._sweeper = None
        too_old = monotonic() - self._max_idle_seconds
        for origin, connections in list(self._idle.items()):
            for connection in list(connections):
                if connection.idle_since <= too_old:
                    connection.close()
            if not connections:
                del self._idle[origin]
        if self._idle:
            self._sweep_later()

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._max_idle_seconds / _SWEEPS_PER_IDLE_TIME, self._sweep)
