"""Bodies that go out piece by piece.

As fast as the upstream takes them, again where it must be, and no longer than they are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from servers.loops import on_both_loops, until, until_still
from servers.scripted import Peer, Recorder, closing, fetch, serving, sized, tls_contexts

from gateway.errors import ConnectionCut
from gateway.http.client import Counts, Exchange, Origin, Transport, request_head

PIECE = 2**18
TOO_LARGE = b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno"


class Pieces:
    """An upload of equal pieces; `read` counts those that were asked for. It fails at the piece `broken_at`."""

    def __init__(self, count: int, broken_at: int = -1) -> None:
        self.count = count
        self.read = 0
        self._broken_at = broken_at

    def __len__(self) -> int:
        return self.count * PIECE

    async def pieces(self) -> AsyncIterator[bytes]:
        for number in range(self.count):
            if number == self._broken_at:
                raise OSError("the disk is gone")
            self.read += 1
            yield bytes([number % 256]) * PIECE

    @property
    def whole(self) -> bytes:
        return b"".join(bytes([number % 256]) * PIECE for number in range(self.count))


async def send(transport: Transport, origin: Origin, recorder: Recorder, body: Pieces) -> Exchange:
    head = request_head("POST", "/", [("host", "test"), ("content-length", str(len(body)))])
    return await transport.exchange(origin, head, body, recorder, connect_timeout=5)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_it_arrives_whole_and_its_connection_is_used_again(tls: bool) -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            bodies.append((await peer.request()).partition(b"\r\n\r\n")[2])
            await peer.send(sized(b"%d" % peer.number))

    server_tls, client_tls = tls_contexts(tls)
    async with serving(script, server_tls) as server, closing(Transport(ssl_context=client_tls)) as transport:
        for _ in range(2):
            recorder, body = Recorder(), Pieces(12)
            exchange = await send(transport, server.origin, recorder, body)
            await recorder.over.wait()
            assert (recorder.body, bodies.pop()) == (b"0", body.whole)
            assert not exchange.is_sending


@on_both_loops
async def test_an_upstream_that_does_not_read_is_waited_for() -> None:
    """No more is read from the disk than fits into the buffers on the way."""
    reads = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await reads.wait()
        await peer.reader.readexactly(200 * PIECE)
        await peer.send(sized(b"ok"))

    async with serving(script) as server, closing(Transport()) as transport:
        recorder, body = Recorder(), Pieces(200)
        exchange = await send(transport, server.origin, recorder, body)
        await until(lambda: body.read > 0)
        await until_still(lambda: body.read)
        assert body.read < 100
        assert exchange.is_sending
        reads.set()
        await recorder.over.wait()
        assert (recorder.body, body.read) == (b"ok", 200)


@pytest.mark.parametrize("early", [TOO_LARGE, sized(b"no")], ids=["413", "200"])
@on_both_loops
async def test_an_answer_to_half_of_it_is_heard_and_its_connection_closed(early: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(early)
        await peer.gone()

    async with serving(script) as server, closing(Transport()) as transport:
        recorder, body = Recorder(), Pieces(200)
        exchange = await send(transport, server.origin, recorder, body)
        await recorder.over.wait()
        assert (recorder.calls, recorder.body) == (["head", "body", "end"], b"no")
        await server.peers[0].left.wait()
        assert not exchange.is_sending
        assert transport.snapshot().get(server.origin, Counts(0, 0)).idle == 0


@on_both_loops
async def test_a_stale_connection_is_replaced_and_it_is_sent_from_its_beginning() -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.answer()
            await peer.reader.readuntil(b"\r\n\r\n")
            peer.reset()
        else:
            bodies.append((await peer.request()).partition(b"\r\n\r\n")[2])
            await peer.send(sized(b"again"))

    async with serving(script) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        recorder, body = Recorder(), Pieces(20)
        exchange = await send(transport, server.origin, recorder, body)
        await recorder.over.wait()
        assert exchange.reused
        assert (recorder.body, bodies) == (b"again", [body.whole])


@on_both_loops
async def test_nothing_more_is_read_once_it_is_aborted() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.gone()

    async with serving(script) as server, closing(Transport()) as transport:
        recorder, body = Recorder(), Pieces(10_000)
        exchange = await send(transport, server.origin, recorder, body)
        await until(lambda: body.read > 2)
        exchange.abort()
        read = body.read
        await server.peers[0].left.wait()
        assert body.read <= read + 1
        assert recorder.calls == []


@on_both_loops
async def test_what_cannot_be_read_is_a_failure() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as server, closing(Transport()) as transport:
        recorder = Recorder()
        await send(transport, server.origin, recorder, Pieces(9, broken_at=3))
        await recorder.over.wait()
        assert recorder.calls == ["failure"]
        assert isinstance(recorder.error, ConnectionCut)
