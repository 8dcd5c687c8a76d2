"""A fake upstream: a real asyncio server whose every byte is chosen by a test.

One listener plays any number of endpoints, told apart by the first segment of the path, so that each test can have
endpoints that no other test has used:

    upstream = await FakeUpstream.start(as_openai())
    a = upstream.endpoint("a")            # a.url is http://127.0.0.1:PORT/a/v1
    a.replies(answer(500), as_openai())   # the first request gets a 500, those after it a good answer
    request = await a.request()           # waits for the first; then request.json(), request.header("accept")…
    await request.until_closed()          # when the peer left
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kit.wire import DEADLINE_SECONDS

Behaviour = Callable[["Received"], Awaitable[None]]


class Received:
    """A request as it arrived; header names lower-cased, in order. Behaviours answer through it."""

    def __init__(self, connection: _Connection, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.connection = connection
        self.head = head
        self.method, self.target, self.version = first.split(" ")
        pairs = [line.split(":", 1) for line in lines]
        self.headers = [(name.lower(), value.strip()) for name, value in pairs]
        self.body = body
        self.sent_bytes = 0

    @property
    def endpoint(self) -> str:
        return self.target.split("/")[1]

    @property
    def route(self) -> str:
        """What was asked for below the base URL: `chat/completions`."""
        return self.target.split("?")[0].split("/v1/", 1)[1]

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, data: bytes) -> None:
        """Writes, and waits while the peer does not take it. Raises ConnectionResetError when the peer has left."""
        await self.connection.send(data)
        self.sent_bytes += len(data)

    def close(self) -> None:
        """FIN, after what was sent."""
        self.connection.transport.close()

    def reset(self) -> None:
        """RST, at once."""
        sock = self.connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.transport.abort()

    @property
    def is_open(self) -> bool:
        return not self.connection.closed.done()

    async def until_closed(self) -> float:
        """Waits until the peer has closed this request's connection; the loop's time at which it was seen."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.shield(self.connection.closed)

    def __repr__(self) -> str:
        return f"<{self.method} {self.target} with {len(self.body)} bytes, {self.sent_bytes} sent>"


class FakeEndpoint:
    """One endpoint's script and memory."""

    def __init__(self, name: str, url: str, default: Behaviour) -> None:
        self.name = name
        self.url = url
        self.requests: list[Received] = []
        self._queue: list[Behaviour] = []
        self._default = default
        self._arrived = asyncio.Event()

    def replies(self, *behaviours: Behaviour) -> FakeEndpoint:
        """The next requests get these, one each; those after them what `always` said (a good answer)."""
        self._queue.extend(behaviours)
        return self

    def always(self, behaviour: Behaviour) -> FakeEndpoint:
        self._default = behaviour
        return self

    async def request(self, number: int = 1) -> Received:
        """Waits for the nth request (from 1) and gives it."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.requests) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[number - 1]

    def received(self, request: Received) -> Behaviour:
        self.requests.append(request)
        self._arrived.set()
        return self._queue.pop(0) if self._queue else self._default


class FakeUpstream:
    """The listener. `faults` holds mistakes of tests and of requests it could not read: it must stay empty."""

    def __init__(self, default: Behaviour) -> None:
        self.faults: list[str] = []
        self.connections: set[_Connection] = set()
        self.accepted = 0
        self._default = default
        self._endpoints: dict[str, FakeEndpoint] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    @classmethod
    async def start(cls, default: Behaviour) -> FakeUpstream:
        """`default` answers whatever no script says anything about."""
        upstream = cls(default)
        loop = asyncio.get_running_loop()
        upstream._server = await loop.create_server(lambda: _Connection(upstream), "127.0.0.1", 0)
        upstream.port = upstream._server.sockets[0].getsockname()[1]
        return upstream

    def endpoint(self, name: str) -> FakeEndpoint:
        if name not in self._endpoints:
            url = f"http://127.0.0.1:{self.port}/{name}/v1"
            self._endpoints[name] = FakeEndpoint(name, url, self._default)
        return self._endpoints[name]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.gather(*(asyncio.shield(each.closed) for each in self.connections))
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    """Reads requests one after another; the answer to each is a task that ends with the connection."""

    transport: asyncio.Transport

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._arriving: Received | None = None
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=1 << 16)
        self._upstream.connections.add(self)
        self._upstream.accepted += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._next_request()

    def eof_received(self) -> bool:
        self._left()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._left()
        self._writable.set()
        self._upstream.connections.discard(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, data: bytes) -> None:
        if self.closed.done() or self.transport.is_closing():
            raise ConnectionResetError("the peer has left")
        self.transport.write(data)
        await self._writable.wait()

    def _left(self) -> None:
        if not self.closed.done():
            self.closed.set_result(asyncio.get_running_loop().time())
        if self._answering is not None:
            self._answering.cancel()

    def _next_request(self) -> None:
        """Starts the answer to the next request that is here whole, if there is one."""
        self._arriving = self._arriving or self._next_head()
        if self._arriving is None:
            return
        request = self._arriving
        length = int(request.header("content-length") or 0)
        if len(self._buffer) < length:
            return
        request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._arriving = None
        self._answering = asyncio.get_running_loop().create_task(self._answer(request))
        self._answering.add_done_callback(self._answered)

    def _next_head(self) -> Received | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        request = Received(self, bytes(self._buffer[:end]), b"")
        del self._buffer[: end + 4]
        if request.header("transfer-encoding") is not None:
            self._upstream.faults.append(f"a chunked request, which is not expected here: {request}")
        return request

    async def _answer(self, request: Received) -> None:
        await self._upstream.endpoint(request.endpoint).received(request)(request)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self._upstream.faults.append(f"a behaviour failed: {error!r}")
            self.transport.abort()
        if not self.transport.is_closing():
            self._next_request()


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections and stays ours: bound, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def unanswering_port() -> Iterator[int]:
    """A port that lets connections hang: a listener whose queue is full, so that the kernel drops what comes."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        try:
            for each in crowd:
                each.setblocking(False)
                each.connect_ex(sock.getsockname())
            yield sock.getsockname()[1]
        finally:
            for each in crowd:
                each.close()
