"""Time-outs of an attempt in a process that was itself held up: over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kit.answers import DONE, LAST_CHUNK, STREAM_HEAD, chunk, delta
from servers.loops import on_both_loops
from servers.scripted import Peer, closing, serving

from gateway.dialects.openai.spliced import SplicedBody
from gateway.errors import FirstByteTimedOut, IdleTimedOut
from gateway.http.client import Origin, Transport, request_head
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import Shape
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Timeouts

TIME_OUT_SECONDS = 0.2
REST = chunk(delta("two")) + chunk(DONE) + LAST_CHUNK


class Taken:
    """Keeps everything."""

    def __init__(self) -> None:
        self.body = b""

    def send(self, data: bytes) -> None:
        self.body += data


class LongWork(asyncio.Protocol):
    """What is due in the loop's turn as bytes arrive: it takes longer than any time-out lasts."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile

    def data_received(self, data: bytes) -> None:
        self.meanwhile()
        time.sleep(2 * TIME_OUT_SECONDS)


async def hold_up(meanwhile: Callable[[], None]) -> None:
    """The loop stands still from its next turn on, in which `meanwhile` happens first, until the time-outs are over."""
    ours, others = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: LongWork(meanwhile), sock=ours)
    others.send(b"!")
    others.close()
    await asyncio.sleep(0.01)
    transport.close()


@asynccontextmanager
async def asked(
    first: bytes, *, idle: float = TIME_OUT_SECONDS, total: float = 9
) -> AsyncIterator[tuple[Attempt, Peer, asyncio.Task[Exception | None]]]:
    """An attempt at an upstream that has sent its `first` bytes, and the wait for its opening."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        await peer.gone()

    loop = asyncio.get_running_loop()
    time_outs = Timeouts(connect=1, first_byte=TIME_OUT_SECONDS, idle=idle)
    attempt = Attempt(
        loop, time_outs, expects_stream=True, take_usage_out=False, give_up_at=loop.time() + total, meter=UsageMeter()
    )
    async with serving(script) as server, closing(Transport()) as transport:
        head = request_head("POST", "/", [("content-length", "0")])
        exchange = await transport.exchange(server.origin, head, b"", attempt, connect_timeout=1)
        opening = asyncio.ensure_future(attempt.opened(exchange))
        await server.came.wait()
        try:
            yield attempt, server.peers[0], opening
        finally:
            attempt.close()


def write_at_once(peer: Peer, data: bytes) -> None:
    """Past the loop, which stands still."""
    os.write(peer.writer.get_extra_info("socket").fileno(), data)


@on_both_loops
async def test_what_came_while_the_loop_stood_still_is_read_before_idle_is_judged() -> None:
    async with asked(STREAM_HEAD + chunk(delta("one"))) as (attempt, peer, opening):
        assert await opening is None
        await hold_up(lambda: write_at_once(peer, REST))
        taken = Taken()
        assert await attempt.pour(taken.send) is None
    assert taken.body == delta("one") + delta("two") + DONE


@on_both_loops
async def test_a_first_event_that_is_there_is_in_time() -> None:
    async with asked(b"") as (attempt, peer, opening):
        await hold_up(lambda: write_at_once(peer, STREAM_HEAD + REST))
        assert await opening is None
        assert (attempt.shape, attempt.body) == (Shape.EVENTS, delta("two") + DONE)


@on_both_loops
async def test_silence_is_found_out_all_the_same() -> None:
    async with asked(b"") as (_, _, opening):
        await hold_up(lambda: None)
        assert isinstance(await opening, FirstByteTimedOut)
    async with asked(STREAM_HEAD + chunk(delta("one"))) as (attempt, _, opening):
        assert await opening is None
        await hold_up(lambda: None)
        assert isinstance(await attempt.pour(Taken().send), IdleTimedOut)


@on_both_loops
async def test_total_never_cuts_a_live_stream() -> None:
    """It is for the time until the first event: a stream may go on for as long as something comes."""
    async with asked(STREAM_HEAD + chunk(delta("one")), idle=9, total=1) as (attempt, peer, opening):
        assert await opening is None
        taken, sent = Taken(), 0
        pouring = asyncio.ensure_future(attempt.pour(taken.send))
        while asyncio.get_running_loop().time() < attempt.give_up_at + 2 * TIME_OUT_SECONDS:
            await asyncio.sleep(TIME_OUT_SECONDS / 2)
            await peer.send(chunk(delta("more")))
            sent += 1
        await peer.send(REST)
        assert await pouring is None
    assert taken.body == delta("one") + delta("more") * sent + delta("two") + DONE


@on_both_loops
async def test_an_upstream_that_takes_nothing_of_a_large_body_falls_silent() -> None:
    """`first_byte` ends the wait, so that another endpoint has its turn: not `total`."""
    body, loop = SplicedBody([bytes(32 * 2**20)]), asyncio.get_running_loop()
    time_outs = Timeouts(connect=1, first_byte=TIME_OUT_SECONDS)
    attempt = Attempt(
        loop, time_outs, expects_stream=True, take_usage_out=False, give_up_at=loop.time() + 9, meter=UsageMeter()
    )
    deaf, began = socket.create_server(("127.0.0.1", 0)), loop.time()  # the kernel takes the connection, nobody reads
    with deaf:
        async with closing(Transport()) as transport:
            head = request_head("POST", "/", [("content-length", str(len(body)))])
            origin = Origin("http", "127.0.0.1", deaf.getsockname()[1])
            exchange = await transport.exchange(origin, head, body, attempt, connect_timeout=1)
            assert isinstance(await attempt.opened(exchange), FirstByteTimedOut)
            assert loop.time() - began < 4
            attempt.close()
