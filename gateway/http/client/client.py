"""Send requests over a pool of connections."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, defaultdict
from time import monotonic
from typing import NamedTuple

from gateway.errors import ConnectFailed, ConnectionCut, TransportError
from gateway.http.client.authorities import Authorities
from gateway.http.client.connection import Connection, Exchange
from gateway.http.client.dial import AllowAddress, Dialer, Origin
from gateway.http.client.proxy import Proxy
from gateway.http.client.receiver import Receiver
from gateway.http.client.sending import Upload

_SWEEPS_PER_IDLE_TIME = 4
_CLOSED = "closed by the gateway"


class Counts(NamedTuple):
    """Connections to one origin."""

    idle: int
    busy: int


class Transport:
    """Send requests over pooled connections.

    Belongs to the event loop it is first used on.

    An idle connection is used last in, first out, and not after `max_idle_seconds`. `max_head_bytes` bounds an answer's
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
        self._connections: set[Connection] = set()  # all that are open, or closing
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)  # by origin, the longest idle first
        self._replacements: dict[asyncio.Task[None], Exchange] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained = asyncio.Event()  # set by a lost connection that leaves none

    async def exchange(
        self, origin: Origin, head: bytes, body: bytes | Upload, receiver: Receiver, *, connect_timeout: float
    ) -> Exchange:
        """Send a request and return without waiting for the answer.

        `head` whole, with its blank line; an `Upload` goes out piece by piece, as the upstream takes it.

        Raises ConnectFailed or ConnectTimedOut (`connect_timeout` in seconds) when no connection can be had; the
        receiver hears nothing then. Cancelled while connecting, it leaves nothing open.
        """
        if self._closed:
            raise ConnectFailed(f"{origin.authority}: {_CLOSED}")
        if origin.ca_file:
            origin = origin._replace(ca_version=self.authorities.version(origin.ca_file))
        exchange = Exchange(origin, receiver, connect_timeout)
        idle = self._idle.get(origin)
        connection = self._taken(idle) if idle else None
        if connection is None:
            connection = await self._open(origin, connect_timeout)
        else:
            exchange.reused = True
            exchange.request = (head, body)
        connection.send(exchange, head, body)
        return exchange

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
                exchange.fail(ConnectionCut(f"{exchange.origin.authority}: {_CLOSED}"))
        await asyncio.gather(*self._replacements, return_exceptions=True)
        for connection in list(self._connections):
            connection.cut(_CLOSED)
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
        return f"<Transport {', '.join(origins) or 'without connections'}{', closed' * self._closed}>"

    # What a connection calls.

    def released(self, connection: Connection) -> None:
        """Back into the pool."""
        connection.idle_since = monotonic()
        self._idle[connection.origin].append(connection)
        if self._sweeper is None:
            self._sweep_later()

    def lost(self, connection: Connection) -> None:
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

    def _taken(self, idle: list[Connection]) -> Connection | None:
        """Take the last of these that can still be used."""
        too_old = monotonic() - self._max_idle_seconds
        while idle:
            connection = idle.pop()
            idle_since, connection.idle_since = connection.idle_since, 0.0
            if idle_since > too_old and connection.is_usable():
                return connection
            connection.close()
        return None

    async def _open(self, origin: Origin, timeout_seconds: float) -> Connection:
        connection = Connection(origin, self, self._max_head_bytes)
        line = await self._dialer.dial(origin, connection, timeout_seconds)
        if not connection.attach(line):
            raise ConnectFailed(f"{origin.authority}: closed or answered before anything was asked")
        self._connections.add(connection)
        if self._closed:
            connection.close()
            raise ConnectFailed(f"{origin.authority}: {_CLOSED}")
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
