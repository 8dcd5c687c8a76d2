"""Exchanges over real sockets, against a server that follows a script byte by byte; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from time import monotonic

import pytest
from servers.loops import on_both_loops, until
from servers.scripted import (
    OK,
    Peer,
    Recorder,
    answers,
    begin,
    closing,
    fetch,
    sends,
    serving,
    sized,
    tls_contexts,
)

from gateway.errors import ConnectFailed, ConnectionCut, InvalidResponse
from gateway.http.client import Counts, Transport

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
BIG = 32 * 1024 * 1024


# -- the pool


@on_both_loops
async def test_a_connection_is_used_again_and_in_the_pool_before_the_end_is_told() -> None:
    class Looker(Recorder):
        idle_at_end = -1

        def on_end(self) -> None:
            self.idle_at_end = transport.snapshot()[server.origin].idle
            super().on_end()

    async with serving(answers) as server, closing(Transport()) as transport:
        first = Looker()
        assert not (await begin(transport, server.origin, first)).reused
        await first.over.wait()
        second = Looker()
        assert (await begin(transport, server.origin, second)).reused
        await second.over.wait()
        assert (first.body, second.body) == (b"0", b"0")
        assert first.calls == ["head", "body", "end"]
        assert (first.idle_at_end, second.idle_at_end) == (1, 1)


@on_both_loops
async def test_the_connection_used_last_is_taken_first() -> None:
    release = [asyncio.Event(), asyncio.Event()]

    async def script(peer: Peer) -> None:
        await release[peer.number].wait()
        await answers(peer)

    async with serving(script) as server, closing(Transport()) as transport:
        waiting = [Recorder(), Recorder()]
        for number, recorder in enumerate(waiting):
            await begin(transport, server.origin, recorder)
            await until(lambda number=number: len(server.peers) == number + 1)
        for number in (1, 0):
            release[number].set()
            await waiting[number].over.wait()
        assert transport.snapshot() == {server.origin: Counts(idle=2, busy=0)}
        assert [(await fetch(transport, server.origin)).body for _ in range(3)] == [b"0"] * 3


@on_both_loops
async def test_a_connection_idle_for_too_long_is_closed_without_a_request() -> None:
    async with serving(sends(sized(b"ok"))) as server, closing(Transport(max_idle_seconds=0.05)) as transport:
        await fetch(transport, server.origin)
        await server.peers[0].left.wait()
        await until(lambda: transport.snapshot() == {})


@on_both_loops
async def test_a_connection_idle_for_too_long_is_not_used_even_before_it_is_swept_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answers) as server, closing(Transport(max_idle_seconds=1)) as transport:
        await fetch(transport, server.origin)
        later = monotonic() + 2  # and no turn of the loop in between
        monkeypatch.setattr("gateway.http.client.transport.monotonic", lambda: later)
        assert (await fetch(transport, server.origin)).body == b"1"


@on_both_loops
async def test_snapshot_and_repr_tell_idle_and_busy_by_origin() -> None:
    async with serving(answers) as one, serving(sends(b"")) as two, closing(Transport()) as transport:
        await fetch(transport, one.origin)
        await begin(transport, two.origin, Recorder())
        assert transport.snapshot() == {one.origin: Counts(1, 0), two.origin: Counts(0, 1)}
        assert f"{one.origin} idle=1 busy=0" in repr(transport)
        assert f"{two.origin} idle=0 busy=1" in repr(transport)
        assert "\n" not in repr(transport)


@on_both_loops
async def test_closing_tells_those_who_wait_closes_all_and_refuses_more() -> None:
    asked = asyncio.Event()
    async with serving(sends(then=lambda peer: asked.set())) as server:
        transport = Transport()
        waiting = Recorder()
        await begin(transport, server.origin, waiting)
        await asked.wait()
        await transport.close()
        assert isinstance(waiting.error, ConnectionCut)
        assert transport.snapshot() == {}
        with pytest.raises(ConnectFailed, match="closed by the gateway"):
            await begin(transport, server.origin, Recorder())
        await server.peers[0].left.wait()


# -- nothing is read past an answer's end


@pytest.mark.parametrize(
    "surplus",
    [b"X", b"\r\n", sized(b"poison"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"],
    ids=["X", "CRLF", "answer", "408"],
)
@pytest.mark.parametrize("together", [True, False])
@on_both_loops
async def test_bytes_after_an_answer_close_the_connection_and_nobody_reads_them(together: bool, surplus: bytes) -> None:
    spoke, proceed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number:
            await answers(peer)
        await peer.request()
        if together:
            await peer.send(sized(b"good") + surplus)
        else:
            await peer.send(sized(b"good"))
            await proceed.wait()
            await peer.send(surplus)
        spoke.set()
        await peer.gone()

    async with serving(script) as server, closing(Transport()) as transport:
        assert (await fetch(transport, server.origin)).body == b"good"
        proceed.set()
        await spoke.wait()
        again = await fetch(transport, server.origin)
        assert (again.status, again.body, again.error) == (200, b"1", None)


@on_both_loops
async def test_an_idle_connection_is_looked_into_before_it_is_used() -> None:
    """The loop has not read the stray answer yet when the next request begins."""

    async with serving(answers) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        sock = server.peers[0].writer.get_extra_info("socket")
        os.write(sock.fileno(), sized(b"poison"))  # straight into the kernel, with no turn of the loop before…
        recorder = Recorder()
        exchange = await begin(transport, server.origin, recorder)  # …this
        await recorder.over.wait()
        assert recorder.body == b"1"
        assert not exchange.reused


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_an_early_answer_to_an_unfinished_upload_is_delivered_and_closes_the_connection(tls: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge")

    server_tls, client_tls = tls_contexts(tls)
    async with serving(script, server_tls) as server, closing(Transport(ssl_context=client_tls)) as transport:
        recorder = await fetch(transport, server.origin, bytes(BIG))
        assert (recorder.status, recorder.body) == (413, b"large")
        assert recorder.calls[-1] == "end"
        await until(lambda: transport.snapshot() == {})


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_a_large_upload_arrives_whole_and_its_connection_is_used_again(tls: bool) -> None:
    received: list[int] = []

    async def script(peer: Peer) -> None:
        while True:
            received.append(len(await peer.request()))
            await peer.send(sized(b"ok"))

    server_tls, client_tls = tls_contexts(tls)
    async with serving(script, server_tls) as server, closing(Transport(ssl_context=client_tls)) as transport:
        await fetch(transport, server.origin, bytes(BIG))
        assert (await begin(transport, server.origin, Recorder())).reused
        assert received[0] > BIG


# -- how answers end


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_a_body_may_end_with_the_connection(tls: bool) -> None:
    server_tls, client_tls = tls_contexts(tls)
    async with (
        serving(sends(OK + b"\r\nabc", b"def", then=Peer.close), server_tls) as server,
        closing(Transport(ssl_context=client_tls)) as transport,
    ):
        recorder = await fetch(transport, server.origin)
        assert (recorder.body, recorder.calls[-1]) == (b"abcdef", "end")
        await until(lambda: transport.snapshot() == {})


CUT = {
    "before the answer": b"",
    "within the head": OK + b"content-le",
    "in a body with a length": OK + b"content-length: 10\r\n\r\nabc",
    "in a chunked body": CHUNKED + b"3\r\nabc\r\n",
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("sent", CUT.values(), ids=CUT)
@pytest.mark.parametrize("how", [Peer.close, Peer.reset], ids=["FIN", "RST"])
@on_both_loops
async def test_an_answer_cut_off_is_a_cut_connection(how: Callable[[Peer], None], sent: bytes) -> None:
    async with serving(sends(sent, then=how)) as server, closing(Transport()) as transport:
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, ConnectionCut)
        assert str(recorder.error).startswith(server.origin.authority)
        assert recorder.calls.count("failure") == 1
        assert "end" not in recorder.calls


@on_both_loops
async def test_a_reset_does_not_end_a_close_delimited_body() -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\nabc")
        await seen.wait()
        peer.reset()

    async with serving(script) as server, closing(Transport()) as transport:
        recorder = Recorder()
        await begin(transport, server.origin, recorder)
        await recorder.began.wait()
        seen.set()
        await recorder.over.wait()
        assert isinstance(recorder.error, ConnectionCut)


@pytest.mark.parametrize("framing", [b"", b"content-length: 9\r\n"], ids=["until close", "length"])
@on_both_loops
async def test_a_tls_connection_cut_off_in_the_body_is_no_end(framing: bytes) -> None:
    """Whoever sits on the way can forge a FIN, but not TLS's own end of data."""

    def forge_fin(peer: Peer) -> None:
        with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)

    server_tls, client_tls = tls_contexts()
    async with (
        serving(sends(OK + framing + b"\r\nabc", then=forge_fin), server_tls) as server,
        closing(Transport(ssl_context=client_tls)) as transport,
    ):
        recorder = await fetch(transport, server.origin)
        assert recorder.body == b"abc"
        assert isinstance(recorder.error, ConnectionCut)


INVALID = {
    "garbage": b"SSH-2.0-OpenSSH\r\n",
    "64 KB header": OK + b"x-a: " + b"a" * 65536 + b"\r\ncontent-length: 0\r\n\r\n",
    "endless head": OK + b"x-a: b\r\n" * 20000,
    "both lengths": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "1xx flood": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "bad chunk": CHUNKED + b"3\r\nabc\r\nnope\r\n",
}


@pytest.mark.parametrize("sent", INVALID.values(), ids=INVALID)
@on_both_loops
async def test_an_unacceptable_answer_is_invalid_and_closes_the_connection(sent: bytes) -> None:
    async with serving(sends(sent)) as server, closing(Transport()) as transport:
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, InvalidResponse)
        assert recorder.calls[-1] == "failure"
        await until(lambda: transport.snapshot() == {})


SLOW = {
    "length": sized(b"abc"),
    "chunks": CHUNKED + b"3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n",
    "interim first": b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"abc"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
@on_both_loops
async def test_an_answer_may_come_byte_by_byte(sent: bytes) -> None:
    pieces = [sent[i : i + 1] for i in range(len(sent))]
    async with serving(sends(*pieces)) as server, closing(Transport()) as transport:
        recorder = await fetch(transport, server.origin)
        assert (recorder.status, recorder.body, recorder.calls[-1]) == (200, b"abc", "end")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@on_both_loops
async def test_204_and_304_have_no_body_and_keep_the_connection(status: bytes) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 " + status + b"\r\n\r\n")

    async with serving(script) as server, closing(Transport()) as transport:
        recorder = await fetch(transport, server.origin)
        assert recorder.calls == ["head", "end"]
        assert (await begin(transport, server.origin, Recorder())).reused
