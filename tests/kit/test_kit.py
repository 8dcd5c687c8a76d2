"""The kit checked against itself: an instrument that lies would make every other test worthless."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from kit import (
    CLOSE,
    DONE,
    RESET,
    FakeUpstream,
    GatewayProcess,
    Received,
    Wire,
    answer,
    as_openai,
    config,
    events,
    raw,
    refusing_port,
    request_bytes,
    unanswering_port,
)
from kit.answers import End, delta, full, usage_only
from kit.forked import Forked, start_gateway
from kit.nginx import nginx


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    upstream = await FakeUpstream.start(as_openai())
    yield upstream
    await upstream.close()
    assert upstream.faults == []


def chat(**fields: object) -> bytes:
    return request_bytes("POST", "/a/v1/chat/completions", {"model": "m", "messages": []} | fields)


async def test_requests_are_remembered_byte_for_byte_and_answered_in_the_order_of_the_script(
    upstream: FakeUpstream,
) -> None:
    upstream.endpoint("a").replies(answer(503, b"first"), answer(200, b"second"))
    async with Wire.open(upstream.port) as wire:
        await wire.send(chat() + chat(n=2))
        assert [(reply.status, reply.body) for reply in [await wire.reply(), await wire.reply()]] == [
            (503, b"first"),
            (200, b"second"),
        ]
    first, second = upstream.endpoint("a").requests
    assert first.method == "POST"
    assert first.body == b'{"model": "m", "messages": []}'
    assert second.json()["n"] == 2
    assert second.header("host") == "gateway.test"


async def test_a_stall_holds_the_rest_back_until_the_test_releases_it(upstream: FakeUpstream) -> None:
    release = asyncio.Event()
    upstream.endpoint("a").replies(events(delta("one"), release, delta("two"), DONE))
    async with Wire.open(upstream.port) as wire:
        await wire.send(chat(stream=True))
        await wire.head()
        assert await wire.event() == delta("one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.event(), 0.1)
        release.set()
        assert await wire.event() == delta("two")
        assert await wire.event() == DONE
        assert await wire.event() == b""


async def test_a_stream_bears_usage_only_where_it_was_asked_for(upstream: FakeUpstream) -> None:
    async with Wire.open(upstream.port) as wire:
        await wire.send(chat(stream=True))
        await wire.head()
        assert usage_only() not in (await wire.body()).body
        await wire.send(chat(stream=True, stream_options={"include_usage": True}))
        await wire.head()
        assert usage_only() in (await wire.body()).body


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_body_cut_short_is_seen_as_cut_short(upstream: FakeUpstream, ending: End) -> None:
    whole = full(200, b"0123456789")
    upstream.endpoint("a").replies(raw(whole[:-4], ending))
    async with Wire.open(upstream.port) as wire:
        await wire.send(chat())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await wire.reply()


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_the_upstream_sees_its_peer_leave(upstream: FakeUpstream, how: str) -> None:
    upstream.endpoint("a").replies(raw(asyncio.Event()))
    async with Wire.open(upstream.port) as wire:
        await wire.send(chat())
        request = await upstream.endpoint("a").request()
        assert request.is_open
        wire.reset() if how == "RST" else wire.writer.close()
        await request.until_closed()


async def test_a_client_that_stops_reading_stops_the_sender(upstream: FakeUpstream) -> None:
    sent_all = asyncio.Event()
    flood = raw(*[b"x" * 65536] * 1000)

    async def behave(request: Received) -> None:
        await flood(request)
        sent_all.set()

    upstream.endpoint("a").replies(behave)
    async with Wire.open(upstream.port, receive_buffer=16384) as wire:
        await wire.send(chat())
        wire.stop_reading()
        await upstream.endpoint("a").request()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent_all.wait(), 0.3)


async def test_the_end_of_a_body_is_told_as_often_as_one_asks(upstream: FakeUpstream) -> None:
    """Who waits for more on a connection that is kept open would wait for ever."""
    upstream.endpoint("a").replies(events(DONE))
    async with Wire.open(upstream.port) as wire, asyncio.timeout(5):
        await wire.send(chat())
        await wire.head()
        assert [await wire.event() for _ in range(3)] == [DONE, b"", b""]
        await wire.send(chat())
        assert (await wire.reply()).status == 200


async def test_ports_that_refuse_and_ports_that_never_answer() -> None:
    with refusing_port() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    with unanswering_port() as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_wire_that_is_refused_leaves_no_socket_behind() -> None:
    """A socket that nobody closes is a warning in some other test, long afterwards."""
    with refusing_port() as port:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConnectionRefusedError):
            async with Wire.open(port):
                pass
        assert len(os.listdir("/proc/self/fd")) == before


async def test_nginx_relays(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with nginx(upstream.port, tmp_path) as port, Wire.open(port) as wire:
        await wire.send(chat())
        assert (await wire.reply()).status == 200


async def test_a_forked_gateway_is_as_one_that_was_started(tmp_path: Path) -> None:
    """Its output, its exit code, its directory and environment; and the signal that ends it."""
    file = tmp_path / "gateway.yaml"
    file.write_text("server: {port: 0}\nusage: {url: '${WHERE}'}\n")
    check = partial(start_gateway, "check", "-c", "gateway.yaml", directory=tmp_path)
    forked = await check(environ={"WHERE": "sqlite:///a.db"})
    started = await check(environ={"WHERE": "sqlite:///a.db", "PYTHONUTF8": "1"})
    assert isinstance(forked, Forked)
    assert not isinstance(started, Forked)
    assert await forked.communicate() == await started.communicate()
    assert (forked.returncode, started.returncode) == (0, 0)
    unset = await check(environ={})
    _, told = await unset.communicate()
    assert unset.returncode == 1
    assert b"WHERE is not set" in (told or b"")
    async with GatewayProcess.start(config([]), tmp_path) as gateway:
        assert isinstance(gateway.process, Forked)
        os.kill(gateway.process.pid, signal.SIGKILL)
        assert await gateway.wait() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            gateway.process.terminate()
