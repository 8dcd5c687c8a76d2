"""aiohttp's low-level server, making connections of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.errors import GatewayError
from gateway.http.connection_limit import Crowd, TurnedAway
from gateway.http.memory_budget import Memory
from gateway.http.server_old.connection import Connection
from gateway.http.server_old.replies import Answer, Reply, Request

Handler = Callable[[Request], Awaitable[Reply]]
ErrorRenderer = Callable[[GatewayError], Answer]


class Server(web.Server):
    """aiohttp's low-level server, making our `Connection`s, as many as the `crowd` may have.

    `head`, `write` and `keepalive` are the client-side time-outs of the configuration, in seconds.
    `render_error` turns a fault found by the HTTP parser into an answer.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        render_error: ErrorRenderer,
        crowd: Crowd,
        memory: Memory,
        head: float,
        write: float,
        keepalive: float,
    ) -> None:
        # Without handler_cancellation a client that leaves would go unnoticed until the answer's end.
        # Request bodies are relayed as they came, so nothing is decompressed.
        super().__init__(
            handler,  # type: ignore[arg-type]  # called by our own loop, with our own request
            handler_cancellation=True,
            keepalive_timeout=keepalive,
            access_log=None,
            auto_decompress=False,
        )
        self.handler = handler
        self.render_error = render_error
        self.crowd = crowd
        self.memory = memory
        self.head_seconds = head
        self.write_seconds = write
        self.retiring = False  # from then on every answer that begins asks its client to go elsewhere

    def set_timeouts(self, *, head: float, write: float, keepalive: float) -> None:
        """New time-outs: `keepalive` for connections to come, the others at once."""
        self.head_seconds = head
        self.write_seconds = write
        self._kwargs["keepalive_timeout"] = keepalive

    def __call__(self) -> Connection | TurnedAway:  # type: ignore[override]  # aiohttp never calls it itself
        if len(self._connections) >= self.crowd.most:
            return self.crowd.turned_away()
        return Connection(self, loop=self._loop, **self._kwargs)

    async def finish(self, seconds: float) -> None:
        """Closes every connection; answers that are written but not yet sent have `seconds` to leave."""
        self.crowd.close()
        transports = [connection.transport for connection in self.connections if connection.transport is not None]
        self.pre_shutdown()  # idle connections end at once instead of being waited for
        await self.shutdown(seconds)
        deadline = self._loop.time() + seconds
        # A transport offers nothing to await for its last byte.
        while any(t.get_write_buffer_size() for t in transports) and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for transport in transports:
            transport.abort()
