"""Serve by aiohttp what the fast lane does not.

Routes are found by our own router.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from gateway.errors import GatewayError, InvalidHttp
from gateway.http.app_server.exchange import UNTYPED, Exchange
from gateway.http.app_server.leaving_http import Upgrade
from gateway.http.fast_lane import LaneConnection
from gateway.http.message import Request
from gateway.http.reply import Answer, Reply

Handler = Callable[[Request], Awaitable[Reply]]
# Idle connections are closed by those who hold them: LaneConnection.
_KEEPALIVE_SECONDS = 10.0**8


class ApplicationServer:
    """Make aiohttp's side of a connection when first needed."""

    def __init__(
        self, handler: Handler, render_error: Callable[[GatewayError, str], Answer], made_a_mistake: Callable[[], None]
    ) -> None:
        self.retiring = False
        self._handler = handler
        self._render_error = render_error
        self._made_a_mistake = made_a_mistake
        self._running: set[asyncio.Task[object]] = set()
        self._connections: dict[asyncio.BaseTransport, LaneConnection] = {}
        application = web.Application()
        application.on_response_prepare.append(_without_additions)
        application.router.add_route("*", "/", self._serve)  # `fast_lane/passage.py` asks for nothing else
        # Without handler_cancellation a client that leaves would go unnoticed until the answer's end.
        self._runner = web.AppRunner(
            application,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=1.0,
            access_log=None,
        )

    async def start(self) -> None:
        """Prepare; connections come from the acceptor."""
        await self._runner.setup()

    def protocol(self, connection: LaneConnection) -> asyncio.Protocol:
        """Make aiohttp's protocol for a connection that has a transport."""
        if self._runner.server is None or connection.transport is None:
            raise RuntimeError("the application server has not been started, or the client has gone")
        self._connections[connection.transport] = connection
        return self._runner.server()

    def left(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that has ended."""
        self._connections.pop(transport, None)

    async def close(self, seconds: float) -> None:
        """End what still runs; it has `seconds` for its last bytes."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        await self._runner.cleanup()

    async def _serve(self, asked: web.Request) -> web.StreamResponse:
        connection = self._connections.get(asked.transport) if asked.transport is not None else None
        if connection is None:
            raise ConnectionResetError("the client has gone")
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        exchange = Exchange(asked, connection)
        try:
            return await self._answer(exchange)
        except ConnectionError:
            exchange.abort()
        except Exception:
            self._made_a_mistake()
            exchange.abort()
        finally:
            exchange.close()
        return web.Response()

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        if self.retiring:
            request.keep_alive = False
        try:
            reply = await self._handler(request)
            if isinstance(reply, Upgrade):
                if exchange.can_upgrade:
                    return await exchange.upgraded(reply)
                reply.abandon()
                reply = self._render_error(
                    InvalidHttp("This is not the opening handshake of a WebSocket."), request.path
                )
            if not request.keep_alive or exchange.ends_here:
                reply.force_close()
            if isinstance(reply, Answer):
                exchange.send_answer(reply)
            response = await exchange.finished(close=not reply.keep_alive)
        finally:
            if request.held is not None:
                request.held.release()
        await exchange.over(keep_alive=reply.keep_alive)
        return response


async def _without_additions(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Take out what aiohttp adds of its own accord."""
    response.headers.popall(hdrs.SERVER, None)
    if response.headers.get(hdrs.CONTENT_TYPE) == UNTYPED:
        response.headers.popall(hdrs.CONTENT_TYPE, None)
