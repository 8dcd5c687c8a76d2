"""Both servers on one connection, in a process of one's own: what upgrades, who leaves, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog
from aiohttp import web
from kit import Wire, request_bytes

from gateway.http.app_server import Upgrade
from gateway.http.bounds import ClientBounds
from gateway.http.connection_limit import ConnectionLimit
from gateway.http.memory_budget import Memory
from gateway.http.message import Request
from gateway.http.reply import Answer, EventStream, Reply
from gateway.http.server import Server

Handler = Callable[[Request], Awaitable[Reply]]
LANE, PAGE, PROBE, SOCKET = "/lane", "/page", "/probe", "/socket"
HANDSHAKE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


class Mistakes(list[str]):
    """A log of which only exceptions are kept."""

    def exception(self, event: str) -> None:
        self.append(event)


@asynccontextmanager
async def served(handler: Handler, *, fast_lane: bool = True, mistakes: int = 0) -> AsyncIterator[tuple[Server, int]]:
    """A server on a port of its own; nothing may be left of its requests, and no mistake be made."""
    made = Mistakes()
    server = Server(
        handler,
        render_error=lambda fault, _path: Answer(fault.status, (), fault.code.encode()),
        limit=ConnectionLimit(b"", structlog.get_logger()),
        memory=Memory(lambda: 2**30),
        relayed=frozenset({LANE}),
        fast_lane=fast_lane,
        bounds=lambda: ClientBounds(10, 5, 5, 5, 2**30),
        log=made,  # type: ignore[arg-type]
        upgrades=frozenset({SOCKET}),
        probed=frozenset({PROBE}),
    )
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    before = asyncio.all_tasks()
    try:
        yield server, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.finish(1)
        await listener.wait_closed()
    async with asyncio.timeout(5):
        while server.connections or asyncio.all_tasks() - before:  # noqa: ASYNC110
            await asyncio.sleep(0)
    gc.collect()  # a task that nobody ended is complained of here
    assert len(made) == mistakes


async def echo(asked: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(asked)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def answer(request: Request) -> Reply:
    if request.path == SOCKET and "sec-websocket-protocol" not in request.headers:
        return Upgrade(echo)
    return Answer(200, (), request.path.encode())


async def turn(wire: Wire, method: str, target: str) -> bytes:
    await wire.send(request_bytes(method, target, b"{}" if method == "POST" else None))
    reply = await wire.reply()
    assert reply.status == 200
    return reply.body


def text_frame(text: bytes) -> bytes:
    """A client's frame: masked, by a mask of zeros."""
    return bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text


async def frame(wire: Wire) -> bytes:
    """The content of a server's frame."""
    async with asyncio.timeout(5):
        _, size = await wire.reader.readexactly(2)
        return await wire.reader.readexactly(size)


@pytest.mark.parametrize("early", [False, True], ids=["after the answer", "with the handshake"])
async def test_a_websocket_echoes_on_a_connection_that_had_other_requests_before(early: bool) -> None:
    """Of the lane and of the application; frames that come before the handshake is answered are not lost."""
    async with served(answer) as (_, port), Wire.open(port) as wire:
        for method, target in [("POST", LANE), ("GET", PAGE), ("POST", LANE)]:
            assert await turn(wire, method, target) == target.encode()
        handshake = request_bytes("GET", SOCKET, headers=HANDSHAKE)
        await wire.send(handshake + text_frame(b"early") if early else handshake)
        head = await wire.any_head()
        assert (head.status, head.header("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        if early:
            assert await frame(wire) == b"early"
        for text in (b"one", b"two"):
            await wire.send(text_frame(text))
            assert await frame(wire) == text


async def test_a_websocket_of_a_real_client_ends_cleanly() -> None:
    async with served(answer) as (server, port), aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}{SOCKET}") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
        assert socket.close_code == 1000
        async with asyncio.timeout(5):
            while server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.mark.parametrize("leave", [Wire.half_close, Wire.reset])
async def test_a_websocket_whose_client_leaves_is_cancelled(leave: Callable[[Wire], None]) -> None:
    cancelled = asyncio.Event()

    async def converse(asked: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return socket

    async def handler(request: Request) -> Reply:
        return Upgrade(converse)

    async with served(handler) as (_, port), Wire.open(port) as wire:
        await wire.send(request_bytes("GET", SOCKET, headers=HANDSHAKE))
        assert (await wire.any_head()).status == 101
        leave(wire)
        async with asyncio.timeout(5):
            await cancelled.wait()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([*HANDSHAKE, ("sec-websocket-protocol", "refused")], 200),
        ([each for each in HANDSHAKE if each[0] != "sec-websocket-key"], 400),
        ([("connection", "Upgrade"), ("upgrade", "h2c")], 400),
        ([], 400),
    ],
    ids=["not granted", "no key", "another protocol", "no upgrade"],
)
async def test_what_is_no_websocket_is_answered_as_http(headers: list[tuple[str, str]], status: int) -> None:
    async with served(answer) as (_, port), Wire.open(port) as wire:
        await wire.send(request_bytes("GET", SOCKET, headers=headers))
        assert (await wire.reply()).status == status
        await wire.send(request_bytes("GET", PAGE))
        rest = await wire.ended() if headers else (await wire.reply()).body
        assert rest == (b"" if headers else PAGE.encode())


async def test_a_path_that_does_not_upgrade_is_answered_and_the_next_as_well() -> None:
    async with served(answer) as (_, port), Wire.open(port) as wire:
        for target in (PAGE, LANE, PAGE):
            await wire.send(request_bytes("GET", target, headers=HANDSHAKE))
            assert (await wire.reply()).body == target.encode()


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("value", ["close", "Keep-Alive, Close", "x, close ,y"])
@pytest.mark.parametrize(("method", "target"), [("GET", PAGE), ("POST", PAGE), ("POST", LANE), ("GET", LANE)])
async def test_a_client_that_says_close_gets_its_answer_and_the_end(
    fast_lane: bool, value: str, method: str, target: str
) -> None:
    """With a body and without one, whoever serves."""
    body = b"{}" if method == "POST" else None
    async with served(answer, fast_lane=fast_lane) as (_, port), Wire.open(port) as wire:
        await wire.send(request_bytes(method, target, body, headers=[("connection", value)]))
        assert (await wire.reply()).header("connection") == "close"
        assert await wire.ended() == b""


# --- who leaves


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("leave", [Wire.half_close, Wire.reset])
async def test_a_stream_whose_client_leaves_is_cancelled(fast_lane: bool, leave: Callable[[Wire], None]) -> None:
    """Also where the client reads nothing and much is unsent: nobody waits until that has left."""
    cancelled = asyncio.Event()

    async def handler(request: Request) -> Reply:
        request.connection.watch(None)
        stream = EventStream()
        stream.start(request, 200, ())
        try:
            for _ in range(200):
                stream.send(b"x" * 64_000)
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return stream

    async with served(handler, fast_lane=fast_lane) as (_, port), Wire.open(port, receive_buffer=4096) as wire:
        await wire.send(request_bytes("POST", LANE, b"{}"))
        await wire.head()
        wire.stop_reading()
        leave(wire)
        async with asyncio.timeout(5):
            await cancelled.wait()


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_mistake_after_the_head_cuts_the_connection(fast_lane: bool) -> None:
    """And nothing of the request goes on."""

    async def handler(request: Request) -> Reply:
        stream = EventStream()
        stream.start(request, 200, ())
        stream.send(b"one")
        await stream.drained()
        raise ConnectionResetError("as when the client has gone while its answer was on its way")

    async with served(handler, fast_lane=fast_lane) as (_, port), Wire.open(port) as wire:
        await wire.send(request_bytes("POST", LANE, b"{}"))
        assert not (await wire.ended()).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_server_that_retires_ends_with_a_stream_that_began_before(fast_lane: bool) -> None:
    """The connection of a stream that began before `close` ends with that stream."""
    end = asyncio.Event()

    async def handler(request: Request) -> Reply:
        stream = EventStream()
        stream.start(request, 200, ())
        await end.wait()
        stream.finish()
        return stream

    async with served(handler, fast_lane=fast_lane) as (server, port), Wire.open(port) as wire:
        await wire.send(request_bytes("POST", LANE, b"{}"))
        await wire.head()
        (connection,) = server.connections
        connection.close()
        end.set()
        assert await wire.ended() == b"0\r\n\r\n"


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("value", ["caf\u00e9".encode().decode("latin-1"), "plain"])
async def test_a_field_goes_out_in_the_bytes_that_it_came_in(fast_lane: bool, value: str) -> None:
    async def handler(request: Request) -> Reply:
        return Answer(200, (("content-disposition", value),), b"")

    async with served(handler, fast_lane=fast_lane) as (_, port), Wire.open(port) as wire:
        await wire.send(request_bytes("POST", LANE, b"{}"))
        assert (await wire.head()).header("content-disposition") == value


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_connection_accepted_in_the_last_turn_is_closed(fast_lane: bool) -> None:
    """The listener's last turn may bring one after everything else has ended."""
    async with served(answer, fast_lane=fast_lane) as (server, port):
        await server.finish(1)
        async with Wire.open(port) as wire:
            with contextlib.suppress(ConnectionError):
                await wire.send(request_bytes("POST", LANE, b"{}"))
                assert await wire.ended() == b""


async def test_nothing_of_a_request_is_kept_while_its_connection_waits_for_the_next() -> None:
    """Whichever of its requests it was: thousands of connections may wait so, and no bound counts what they keep."""

    async with served(answer) as (server, port), Wire.open(port) as wire:
        for _ in range(3):
            assert await turn(wire, "POST", LANE) == LANE.encode()
            (connection,) = server.connections
            async with asyncio.timeout(5):
                while any(type(each) is Request and each.connection is connection for each in gc.get_objects()):  # noqa: ASYNC110
                    await asyncio.sleep(0)


async def test_requests_that_come_while_the_application_is_loaded_are_answered_in_turn() -> None:
    """Also those that come behind one of them on its connection, and who has left meanwhile is in nobody's way."""
    async with served(answer) as (_, port), Wire.open(port) as one, Wire.open(port) as other:
        async with Wire.open(port) as gone:
            await gone.send(request_bytes("GET", PAGE))
        await one.send(request_bytes("GET", PAGE) + request_bytes("POST", LANE, b"{}"))
        assert await turn(other, "POST", LANE) == LANE.encode()
        assert [(await one.reply()).body for _ in range(2)] == [PAGE.encode(), LANE.encode()]


async def test_probes_and_relays_alone_have_no_application_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(answer) as (_, port), Wire.open(port) as wire:
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "gateway.http.app_server.application", None)
            for method, target in [("GET", PROBE), ("POST", LANE), ("GET", PROBE)]:
                assert await turn(wire, method, target) == target.encode()
        assert await turn(wire, "GET", PAGE) == PAGE.encode()


async def test_an_application_that_cannot_be_loaded_costs_its_own_requests_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(answer, mistakes=1) as (_, port):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "gateway.http.app_server.application", None)
            async with Wire.open(port) as wire:
                await wire.send(request_bytes("GET", PAGE))
                with contextlib.suppress(ConnectionError):
                    assert await wire.ended() == b""
            async with Wire.open(port) as wire:
                assert await turn(wire, "POST", LANE) == LANE.encode()
        async with Wire.open(port) as wire:
            assert await turn(wire, "GET", PAGE) == PAGE.encode()
