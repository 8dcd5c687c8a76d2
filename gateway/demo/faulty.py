"""An upstream that plays the plans of `faults` on raw sockets.

The first segment of a request's path says what it meets:

    /any/v1/…      a fault picked by seed and number of the request
    /often/v1/…    such a fault each other time, else the good answer
    /good/v1/…     the good answer
    /NAME/v1/…     the fault of that name
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson

from gateway.demo.answers import Asked, sized
from gateway.demo.faults import BY_NAME, FAULTS, End, Endless, Fault, Plan, Stall, Step, dice_for, picked, whole

REFUSE = "refuse"  # the fault that no server can play: a port on which nobody listens
GOOD = Fault("good", "the good answer", whole)
_MAX_HEAD_BYTES = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Met = Callable[[Fault, Asked], None]


class FaultyUpstream:
    """The listener of the faulty upstream.

    `met` is called with each request before it is answered.
    """

    def __init__(self, seed: int, met: Met, faults: Sequence[Fault] = FAULTS) -> None:
        self.seed = seed
        self.port = 0
        self.met = met
        self._faults = faults
        self._requests = 0
        self._connections: set[_Connection] = set()
        self._refused_port = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, seed: int, met: Met, faults: Sequence[Fault] = FAULTS) -> AsyncIterator[FaultyUpstream]:
        """Listen on a free loopback port until the end of the block."""
        upstream = cls(seed, met, faults)
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(upstream), "127.0.0.1", 0)
        with socket.socket() as bound:  # and never listening: it refuses, and nobody else can take it
            bound.bind(("127.0.0.1", 0))
            upstream.port, upstream._refused_port = server.sockets[0].getsockname()[1], bound.getsockname()[1]
            try:
                yield upstream
            finally:
                server.close()
                await upstream.hang_up()

    def url(self, what: str) -> str:
        """Return the base URL of an endpoint that meets `what`.

        See the module, or `refuse`.
        """
        return f"http://127.0.0.1:{self._refused_port if what == REFUSE else self.port}/{what}/v1"

    async def hang_up(self) -> None:
        """Close every connection, whatever is under way on it."""
        leaving = list(self._connections)
        for connection in leaving:
            connection.hang_up()
        await asyncio.gather(*(connection.closed for connection in leaving))

    def taken(self, route: str, what: str, fields: dict[str, Any]) -> Plan:
        """The plan for a request, which counts from here on."""
        self._requests += 1
        asked = Asked(route, fields, self._requests)
        fault = self._fault(what, asked.number)
        if fault is None:
            return [sized(404, b'{"error":{"message":"There is no fault of this name."}}')]
        self.met(fault, asked)
        return fault.plan(asked, dice_for(self.seed, asked.number))

    def _fault(self, what: str, number: int) -> Fault | None:
        if what == "any" or (what == "often" and number % 2):
            return picked(self._faults, self.seed, number)
        return GOOD if what in ("good", "often") else BY_NAME.get(what)

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """Read requests one after another, and answer each.

    The answer to each is a task that ends with the connection.
    """

    transport: asyncio.Transport

    def __init__(self, upstream: FaultyUpstream) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._upstream = upstream
        self._buffer = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def hang_up(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._upstream.joined(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._next_request()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()
        self._upstream.left(self)
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _next_request(self) -> None:
        """Answer the next request that is here whole, if there is one."""
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                self.transport.abort()
            return
        head = bytes(self._buffer[:head_end])
        end = head_end + 4 + _length(head)
        if len(self._buffer) < end:
            return
        body = bytes(self._buffer[head_end + 4 : end])
        del self._buffer[:end]
        target = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
        what, _, route = target[1:].partition("/v1/")
        plan = self._upstream.taken(route, what, _fields(body))
        self._answering = asyncio.get_running_loop().create_task(self._play(plan))
        self._answering.add_done_callback(self._played)

    async def _play(self, plan: Plan) -> None:
        for step in plan:
            if self.transport.is_closing():
                return
            await self._take(step)

    async def _take(self, step: Step) -> None:
        match step:
            case bytes():
                self.transport.write(step)
                await self._writable.wait()
            case Stall():
                await (self._until_left() if step.seconds is None else asyncio.sleep(step.seconds))
            case Endless():
                while not self.transport.is_closing():
                    await self._take(step.data)
                    await asyncio.sleep(step.pause_seconds)
            case End.CLOSE:
                self.transport.close()
            case End.RESET:
                sock: socket.socket = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.transport.abort()

    async def _until_left(self) -> None:
        await asyncio.shield(self.closed)

    def _played(self, task: asyncio.Task[None]) -> None:
        self._answering = None
        if not task.cancelled():
            task.result()
            if not self.transport.is_closing():
                self._next_request()


def _length(head: bytes) -> int:
    """The request's content-length; gateways of ours send no chunks."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
