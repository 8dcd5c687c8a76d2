"""A proxy that opens tunnels for CONNECT and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.scripted import Peer, serving


class ConnectProxy:
    """`answer` is what it says to CONNECT; it opens a tunnel only if that begins with a 2xx."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.port = 0
        self.requests: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        request = await peer.reader.readuntil(b"\r\n\r\n")
        self.requests.append(request)
        if not self.answer.startswith(b"HTTP/1.1 2"):
            await peer.send(self.answer)
            peer.close()
            return
        host, _, port = request.split()[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            await peer.send(self.answer)
            await asyncio.gather(_pump(peer.reader, writer), _pump(reader, peer.writer))
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxying(answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(answer)
    async with serving(proxy) as server:
        proxy.port = server.origin.port
        yield proxy
