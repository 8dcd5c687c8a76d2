"""Clients that never read: what they hold up is bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hostile_kit import CHAT, KILOBYTE, MEGABYTE, MODEL, assert_serves, impatient, memory_kb, one_model
from kit import KEYS, Stage, Wire, events, request_bytes
from kit.answers import answer, delta
from kit.books import until

from gateway.errors import GatewayError
from gateway.http.bounds import ClientBounds
from gateway.http.connection_limit import ConnectionLimit
from gateway.http.fast_lane import LaneConnection
from gateway.http.memory_budget import Memory
from gateway.http.message import Request
from gateway.http.reply import Answer, Reply
from gateway.http.server import Server

CLIENTS = 10
ASK = request_bytes("POST", CHAT, {"model": MODEL, "messages": []}, key=KEYS["user"])
ASK_STREAM = request_bytes("POST", CHAT, {"model": MODEL, "stream": True}, key=KEYS["user"])


@contextlib.asynccontextmanager
async def not_reading(stage: Stage, count: int, request: bytes) -> AsyncIterator[list[Wire]]:
    """So many clients that have asked and take nothing."""
    async with contextlib.AsyncExitStack() as stack:
        wires = []
        for _ in range(count):
            wire = await stack.enter_async_context(Wire.open(stage.port, receive_buffer=4 * KILOBYTE))
            wire.stop_reading()
            await wire.send(request)
            wires.append(wire)
        yield wires


async def assert_cut_off(wire: Wire) -> None:
    """The gateway has ended the connection: what the kernel had taken is all there is."""
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await wire.ended()


async def test_whole_answers_that_nobody_reads(tmp_path: Path) -> None:
    """Ten of 12 MB: each is held once, for `write` seconds; then the connections end and others are served."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage:
        endpoint = stage.upstream.endpoint(MODEL)
        endpoint.always(answer(200, b'{"a":"' + b"x" * (12 * MEGABYTE) + b'"}'))
        before = memory_kb(stage.gateway)
        async with not_reading(stage, CLIENTS, ASK) as wires:
            await endpoint.request(CLIENTS)
            await assert_cut_off(wires[0])
            assert (memory_kb(stage.gateway) - before) / KILOBYTE < CLIENTS * 12 * 2 + 50
            for wire in wires[1:]:
                await assert_cut_off(wire)
        endpoint.always(answer())
        await assert_serves(stage)


async def test_streams_that_nobody_reads(tmp_path: Path) -> None:
    """Ten without end: the upstream is held back, so that each costs less than a megabyte, until `write` ends them."""
    async with Stage.open(tmp_path, one_model, server=impatient()) as stage:
        endpoint = stage.upstream.endpoint(MODEL)
        endpoint.always(events(*[delta("x" * 16_000)] * 4_000))
        before = memory_kb(stage.gateway)
        async with not_reading(stage, CLIENTS, ASK_STREAM) as wires:
            await endpoint.request(CLIENTS)
            for request in endpoint.requests:
                await request.until_closed()
                assert request.sent_bytes < 40 * MEGABYTE, "the upstream was not held back"
            assert (memory_kb(stage.gateway) - before) / KILOBYTE < CLIENTS + 50
            for wire in wires:
                await assert_cut_off(wire)
        endpoint.always(answer())
        await assert_serves(stage)


@pytest.mark.parametrize("ending", ["connection: close", "no more requests"])
async def test_last_bytes_that_nobody_takes(ending: str) -> None:
    """Less than makes the transport wait, and the connection is to end: it ends after `write` seconds all the same."""
    server = small_server(closes=ending == "connection: close")
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        async with Wire.open(listener.sockets[0].getsockname()[1], receive_buffer=4 * KILOBYTE) as wire:
            wire.stop_reading()
            await wire.send(request_bytes("POST", "/", b"{}"))
            await until(lambda: has(server, 1))
            await until(lambda: has(server, 0))
    finally:
        listener.close()
        await server.finish(0.1)


async def has(server: Server, connections: int) -> bool:
    return len(server.connections) == connections


def small_server(*, closes: bool) -> Server:
    """Answers with more than the kernel takes at once, into a transport that lets nobody wait for it."""

    async def handler(request: Request) -> Reply:
        connection = request.connection
        assert isinstance(connection, LaneConnection)
        transport = connection.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KILOBYTE)
        transport.set_write_buffer_limits(high=16 * MEGABYTE)
        result = Answer(200, (), b"x" * (8 * MEGABYTE))
        if closes:
            result.force_close()
        return result

    def refused(fault: GatewayError, path: str) -> Answer:
        return Answer(fault.status, (), b"")

    log = structlog.get_logger()
    return Server(
        handler,
        render_error=refused,
        limit=ConnectionLimit(b"", log),
        memory=Memory(lambda: 2**30),
        relayed=frozenset({"/"}),
        fast_lane=True,
        bounds=lambda: ClientBounds(10, 5, 0.2, 0.2, 2**30),
        log=log,
    )
