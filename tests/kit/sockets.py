"""An upstream that speaks WebSocket: a real aiohttp server whose every frame a test writes."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from kit.wire import DEADLINE_SECONDS

Json = dict[str, Any]
Script = Callable[["Peer"], Awaitable[None]]
USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "total_tokens": 15,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 1},
}


class Peer:
    """The gateway's end of one socket, as the upstream sees it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.received: list[Json] = []
        self.texts: list[str] = []
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()

    async def next(self) -> Json:
        """The next event of the gateway's; ConnectionError where the socket is over."""
        message = await self.socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise ConnectionError(f"{message.type}")
        self.texts.append(message.data)
        self.received.append(json.loads(message.data))
        self._news.set()
        return self.received[-1]

    async def event(self, number: int = 1) -> Json:
        """Waits for the nth event (from 1), which the script takes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.received) < number:
                self._news.clear()
                await self._news.wait()
        return self.received[number - 1]

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def until_closed(self) -> float:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.shield(self.closed)


class SocketUpstream:
    """A server with one script for each path; `peers` are the sockets that it had, in order."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.handshakes: list[web.Request] = []
        self.script: Script = answering()
        self.refuses: int | None = None  # a status for handshakes
        self.redirects: str | None = None
        self._news = asyncio.Event()
        application = web.Application()
        application.router.add_get("/v1/{route:.*}", self._serve)
        self._server = TestServer(application)

    @classmethod
    @asynccontextmanager
    async def start(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator[SocketUpstream]:
        upstream = cls()
        await upstream._server.start_server(ssl=tls)
        try:
            yield upstream
        finally:
            await upstream._server.close()

    @property
    def url(self) -> str:
        return f"{self._server.scheme}://127.0.0.1:{self._server.port}/v1"

    def endpoint(self, **more: Any) -> Json:
        """A record of `endpoints:` that leads here."""
        return {"id": "ws", "url": self.url, "api_key": "sk-upstream-secret-ws", "websocket": True} | more

    async def peer(self, number: int = 1) -> Peer:
        """Waits for the nth socket (from 1)."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.peers) < number:
                self._news.clear()
                await self._news.wait()
        return self.peers[number - 1]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append(request)
        if self.redirects is not None:
            raise web.HTTPTemporaryRedirect(self.redirects)
        if self.refuses is not None:
            return web.json_response({"error": {"message": "no sk-upstream-secret-ws"}}, status=self.refuses)
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        peer = Peer(request, socket)
        self.peers.append(peer)
        self._news.set()
        try:
            await self.script(peer)
        except ConnectionError:
            pass
        finally:
            if not peer.closed.done():
                peer.closed.set_result(asyncio.get_running_loop().time())
        return socket


def created(number: int, **fields: Any) -> Json:
    return {
        "type": "response.created",
        "sequence_number": 0,
        "response": {"id": f"resp_{number}", "output": []},
    } | fields


def completed(number: int, *, kind: str = "response.completed", **fields: Any) -> Json:
    item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": []}
    response = {"id": f"resp_{number}", "object": "response", "status": kind.removeprefix("response."), "usage": USAGE}
    return {"type": kind, "sequence_number": 3, "response": response | {"output": [item]}} | fields


def answering(*, text: str = "Hello there") -> Script:
    """Each `response.create` gets a short answer, on its lane."""

    async def script(peer: Peer) -> None:
        number = 0
        while True:
            asked = await peer.next()
            number += 1
            lane = {"stream_id": asked["stream_id"]} if "stream_id" in asked else {}
            delta = {"type": "response.output_text.delta", "sequence_number": 1, "delta": text, **lane}
            for event in (created(number, **lane), delta, completed(number, **lane)):
                await peer.socket.send_str(json.dumps(event))

    return script
