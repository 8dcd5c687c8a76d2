"""A server that follows a script byte by byte, and a receiver that writes down what the transport tells it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trustme

from gateway.errors import TransportError
from gateway.http.client import Exchange, Origin, Transport, request_head

OK = b"HTTP/1.1 200 OK\r\n"


class Peer:
    """The server's end of one connection; `number` counts connections from 0. `left` is set by `gone`."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.left = asyncio.Event()

    async def request(self) -> bytes:
        """A whole request: head, blank line and as much body as its content-length says."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + await self.reader.readexactly(int(length or 0))

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, body: bytes = b"ok", *headers: bytes) -> None:
        """Takes one request and answers it with 200 and a content-length."""
        await self.request()
        await self.send(sized(body, *headers))

    def close(self) -> None:
        """FIN."""
        self.writer.close()

    def reset(self) -> None:
        """RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Waits until the other end has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.left.set()


def sized(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return OK + lines + b"content-length: %d\r\n\r\n" % len(body) + body


def tls_contexts(wanted: bool = True) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For a server on 127.0.0.1, and for a client that trusts it."""
    if not wanted:
        return None, None
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


Script = Callable[[Peer], Awaitable[None]]


async def answers(peer: Peer) -> None:
    """Answers every request, saying which connection it came by."""
    while True:
        await peer.answer(b"%d" % peer.number)


def sends(*pieces: bytes, then: Callable[[Peer], None] | None = None) -> Script:
    """Takes one request, sends the pieces, does `then`, and waits for the client to leave."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then is not None:
            await asyncio.sleep(0)  # uvloop before 0.22 lets go of what was written at the end of a turn
            then(peer)
        await peer.gone()

    return script


class Server:
    """`peers` in the order of their coming. Leaving `serving` closes all of them and raises what a script raised."""

    def __init__(self, script: Script) -> None:
        self.peers: list[Peer] = []
        self.came = asyncio.Event()
        self.origin = Origin("", "", 0)
        self.listener: asyncio.Server
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, tls: ssl.SSLContext | None) -> None:
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = self.listener.sockets[0].getsockname()[1]
        self.origin = Origin("https" if tls else "http", "127.0.0.1", port)

    async def close(self) -> None:
        self.listener.close()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            peer.writer.transport.abort()
        await asyncio.sleep(0)
        problems = [
            each for each in results if isinstance(each, Exception) and not isinstance(each, OSError | EOFError)
        ]
        assert problems == []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        self.came.set()
        task = asyncio.ensure_future(self._script(peer))
        self._tasks.add(task)
        with contextlib.suppress(Exception, asyncio.CancelledError):  # `close` looks at what the script raised
            await task
        if peer.left.is_set():
            writer.transport.abort()


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(script)
    await server.open(tls)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def closing(transport: Transport) -> AsyncIterator[Transport]:
    try:
        yield transport
    finally:
        await transport.close()


class Recorder:
    """A receiver that keeps everything; `over` is set by the last call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.error: TransportError | None = None
        self.began = asyncio.Event()  # the first body bytes
        self.over = asyncio.Event()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.calls.append("head")
        self.status, self.headers = status, headers

    def on_body(self, data: bytes) -> None:
        self.calls.append("body")
        self.body += data
        self.began.set()

    def on_end(self) -> None:
        self.calls.append("end")
        self.over.set()

    def on_failure(self, error: TransportError) -> None:
        self.calls.append("failure")
        self.error = error
        self.over.set()

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


async def begin(
    transport: Transport,
    origin: Origin,
    recorder: Recorder,
    body: bytes = b"{}",
    *,
    target: str = "/",
    headers: tuple[tuple[str, str], ...] = (),
    connect_timeout: float = 5,
) -> Exchange:
    fields = [("host", origin.authority), ("content-length", str(len(body))), *headers]
    head = request_head("POST", target, fields)
    return await transport.exchange(origin, head, body, recorder, connect_timeout=connect_timeout)


async def fetch(
    transport: Transport,
    origin: Origin,
    body: bytes = b"{}",
    *,
    target: str = "/",
    headers: tuple[tuple[str, str], ...] = (),
) -> Recorder:
    """A whole exchange, to its end or failure."""
    recorder = Recorder()
    await begin(transport, origin, recorder, body, target=target, headers=headers)
    await recorder.over.wait()
    return recorder
