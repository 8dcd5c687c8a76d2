"""Connections that go stale, back-pressure, aborting, and receivers that raise: over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from servers.loops import on_both_loops, until, until_still
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

from gateway.errors import ConnectFailed, ConnectionCut
from gateway.http.client import Counts, Exchange, Origin, Transport

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
BIG = 32 * 1024 * 1024


# -- connections that went stale in the pool


async def _answer_once_then(peer: Peer, end: Callable[[Peer], None], requests: list[bytes]) -> None:
    """The first connection answers once and ends without a word on the second request."""
    requests.append(await peer.request())
    await peer.send(sized(b"%d" % peer.number))
    requests.append(await peer.request())
    end(peer)


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("size", [2, 200_000])
@on_both_loops
async def test_a_stale_connection_is_replaced_and_the_same_request_sent_again(
    end: Callable[[Peer], None], size: int
) -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await _answer_once_then(peer, end, requests)
        else:
            requests.append(await peer.request())
            await peer.send(sized(b"replaced"))

    async with serving(script) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        recorder = Recorder()
        exchange = await begin(transport, server.origin, recorder, b"x" * size)
        await recorder.over.wait()
        assert exchange.reused
        assert (recorder.calls, recorder.body) == (["head", "body", "end"], b"replaced")
        assert requests[1] == requests[2]


@on_both_loops
async def test_a_server_that_closes_after_each_answer_fails_no_request() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"%d" % peer.number)
        peer.close()

    async with serving(script) as server, closing(Transport()) as transport:
        bodies = [(await fetch(transport, server.origin)).body for _ in range(20)]
        assert bodies == [b"%d" % number for number in range(20)]


@on_both_loops
async def test_an_idle_connection_holds_nothing_of_its_last_answer() -> None:
    """What it held would be in nobody's count of memory, one read for each connection of the pool."""
    pieces: list[bytes] = []

    class Keeping(Recorder):
        def on_body(self, data: bytes) -> None:
            pieces.append(data)
            super().on_body(data)

    async def script(peer: Peer) -> None:
        await peer.answer(b"x" * 50_000)
        await peer.gone()

    async with serving(script) as server, closing(Transport()) as transport:
        recorder = Keeping()
        await begin(transport, server.origin, recorder)
        await recorder.over.wait()
        assert len(recorder.body) == 50_000
        sample = [bytes(50_000)]
        assert {sys.getrefcount(pieces[each]) for each in range(len(pieces))} == {sys.getrefcount(sample[0])}


@on_both_loops
async def test_a_connection_is_replaced_only_once() -> None:
    async def script(peer: Peer) -> None:
        await _answer_once_then(peer, Peer.close, [])

    async def only_the_first_answers(peer: Peer) -> None:
        if peer.number == 0:
            await script(peer)
        else:
            await peer.request()
            peer.close()

    async with serving(only_the_first_answers) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, ConnectionCut)
        assert recorder.calls == ["failure"]
        assert len(server.peers) == 2


@on_both_loops
async def test_an_upstream_that_hangs_up_after_it_had_the_request_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ends later than the news of a stale connection could take is a failed attempt, and told as one."""
    monkeypatch.setattr("gateway.http.client.connection.STALE_WITHIN_SECONDS", 0.0)

    async def script(peer: Peer) -> None:
        await _answer_once_then(peer, Peer.close, [])

    async with serving(script) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, ConnectionCut)
        assert len(server.peers) == 1


@on_both_loops
async def test_a_reused_connection_that_ends_within_the_answer_is_not_replaced() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.request()
        await peer.send(b"HTTP/1.1 2")
        peer.close()

    async with serving(script) as server, closing(Transport()) as transport:
        await fetch(transport, server.origin)
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, ConnectionCut)
        assert len(server.peers) == 1


@on_both_loops
async def test_a_replacement_that_cannot_connect_is_told_as_such() -> None:
    async with (
        serving(lambda peer: _answer_once_then(peer, Peer.close, [])) as server,
        closing(Transport()) as transport,
    ):
        await fetch(transport, server.origin)
        server.listener.close()
        recorder = await fetch(transport, server.origin)
        assert isinstance(recorder.error, ConnectFailed)
        assert recorder.calls == ["failure"]


class _HeldName:
    """Makes the loop's name resolution of `upstream.test` wait, from the second time on."""

    def __init__(self, port: int) -> None:
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self._times = 0
        self._port = port
        self._real = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(self, host: str, port: int, **hints: Any) -> list[Any]:
        if host != "upstream.test":  # uvloop asks about the address once more when it connects
            return await self._real(host, port, **hints)
        self._times += 1
        if self._times > 1:
            self.asked.set()
            await self.release.wait()
        return [(2, 1, 6, "", ("127.0.0.1", self._port))]


async def _being_replaced(transport: Transport, port: int, recorder: Recorder) -> tuple[Exchange, _HeldName]:
    """An exchange whose stale connection has ended and whose replacement is still being resolved."""
    held = _HeldName(port)
    asyncio.get_running_loop().getaddrinfo = held.getaddrinfo  # type: ignore[method-assign]
    origin = Origin("http", "upstream.test", port)
    await fetch(transport, origin)
    exchange = await begin(transport, origin, recorder)
    await held.asked.wait()
    return exchange, held


@on_both_loops
async def test_abort_during_a_replacement_leaves_nothing_and_tells_nothing() -> None:
    async with (
        serving(lambda peer: _answer_once_then(peer, Peer.close, [])) as server,
        closing(Transport()) as transport,
    ):
        recorder = Recorder()
        exchange, held = await _being_replaced(transport, server.origin.port, recorder)
        exchange.abort()
        held.release.set()
        await until_still(lambda: len(server.peers))
        assert recorder.calls == []
        assert len(server.peers) == 1
        assert transport.snapshot() == {}


@on_both_loops
async def test_closing_during_a_replacement_tells_the_receiver() -> None:
    async with serving(lambda peer: _answer_once_then(peer, Peer.close, [])) as server:
        transport = Transport()
        recorder = Recorder()
        await _being_replaced(transport, server.origin.port, recorder)
        await transport.close()
        assert recorder.calls == ["failure"]
        assert isinstance(recorder.error, ConnectionCut)


@on_both_loops
async def test_a_pause_holds_over_a_replacement() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await _answer_once_then(peer, Peer.close, [])
        await peer.answer(b"late")

    async with serving(script) as server, closing(Transport()) as transport:
        recorder = Recorder()
        exchange, held = await _being_replaced(transport, server.origin.port, recorder)
        exchange.pause()
        held.release.set()
        await until(lambda: len(server.peers) == 2)
        await until_still(lambda: len(recorder.calls))
        assert recorder.calls == []
        exchange.resume()
        await recorder.over.wait()
        assert recorder.body == b"late"


# -- back-pressure


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_a_paused_upstream_can_send_only_a_bounded_amount(tls: bool) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n" % BIG)
        for _ in range(BIG // 65536):
            await peer.send(bytes(65536))
            sent += 65536
        await peer.gone()

    server_tls, client_tls = tls_contexts(tls)
    async with serving(script, server_tls) as server, closing(Transport(ssl_context=client_tls)) as transport:
        recorder = Recorder()
        exchange = await begin(transport, server.origin, recorder)
        await recorder.began.wait()
        exchange.pause()
        exchange.pause()
        await until_still(lambda: sent)
        held = len(recorder.body)
        assert sent < BIG, "the server must be blocked"
        await until_still(lambda: len(recorder.body))
        assert len(recorder.body) == held < 4 * 1024 * 1024
        exchange.resume()
        exchange.resume()
        await recorder.over.wait()
        assert len(recorder.body) == BIG
        assert (await begin(transport, server.origin, Recorder())).reused


@on_both_loops
async def test_a_pause_at_the_very_end_does_not_stick_to_the_connection() -> None:
    class Pauser(Recorder):
        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            exchange.pause()

    async with serving(answers) as server, closing(Transport()) as transport:
        pauser = Pauser()
        exchange = await begin(transport, server.origin, pauser)
        await pauser.over.wait()
        again = await fetch(transport, server.origin)
        assert again.body == b"0"
        exchange.resume()
        exchange.pause()
        assert (await fetch(transport, server.origin)).body == b"0"


# -- abort


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("sent", [b"", OK + b"content-length: 9\r\n\r\nabc"], ids=["before", "after"])
@on_both_loops
async def test_abort_closes_the_upstream_within_100_ms_and_tells_nothing_more(sent: bytes, tls: bool) -> None:
    asked = asyncio.Event()
    left_at = 0.0

    async def script(peer: Peer) -> None:
        nonlocal left_at
        await peer.request()
        await peer.send(sent)
        asked.set()
        await peer.gone()
        left_at = asyncio.get_running_loop().time()

    server_tls, client_tls = tls_contexts(tls)
    async with serving(script, server_tls) as server, closing(Transport(ssl_context=client_tls)) as transport:
        recorder = Recorder()
        exchange = await begin(transport, server.origin, recorder)
        await (recorder.began.wait() if sent else asked.wait())
        calls = list(recorder.calls)
        aborted_at = asyncio.get_running_loop().time()
        exchange.abort()
        exchange.abort()
        await until(lambda: left_at > 0)
        assert left_at - aborted_at < 0.1, "the contract's promise"
        assert recorder.calls == calls
        assert transport.snapshot() == {}


@pytest.mark.parametrize("where", ["on_head", "on_body"])
@on_both_loops
async def test_abort_from_within_a_call_is_the_last_call(where: str) -> None:
    class Aborter(Recorder):
        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            if where == "on_head":
                exchange.abort()

        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            exchange.abort()

    async with serving(sends(sized(b"ok"))) as server, closing(Transport()) as transport:
        recorder = Aborter()
        exchange = await begin(transport, server.origin, recorder)
        await until(lambda: len(server.peers) == 1)
        await server.peers[0].left.wait()
        assert recorder.calls == (["head"] if where == "on_head" else ["head", "body"])


@on_both_loops
async def test_abort_after_the_end_leaves_the_pooled_connection_alone() -> None:
    async with serving(answers) as server, closing(Transport()) as transport:
        recorder = Recorder()
        exchange = await begin(transport, server.origin, recorder)
        await recorder.over.wait()
        exchange.abort()
        assert (await fetch(transport, server.origin)).body == b"0"


# -- a receiver's own exceptions


@pytest.mark.parametrize("where", ["on_head", "on_body", "on_end", "on_failure"])
@on_both_loops
async def test_a_receivers_exception_is_reported_and_never_a_transport_error(where: str) -> None:
    class Broken(Recorder):
        def __getattribute__(self, name: str) -> Any:
            if name == where:
                raise ZeroDivisionError(where)
            return super().__getattribute__(name)

    reported: list[Any] = []
    told = asyncio.Event()

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reported.append(context["exception"])
        told.set()

    asyncio.get_running_loop().set_exception_handler(handler)
    sent = b"garbage\r\n" if where == "on_failure" else sized(b"abc")
    async with serving(sends(sent)) as server, closing(Transport()) as transport:
        recorder = Broken()
        await begin(transport, server.origin, recorder)
        await told.wait()
        assert [type(each) for each in reported] == [ZeroDivisionError]
        assert recorder.error is None
        counts = transport.snapshot().get(server.origin, Counts(0, 0))
        assert counts.busy == 0 or where != "on_end"
        if where != "on_end":  # by then the connection was healthy and back in the pool
            await until(lambda: transport.snapshot() == {})


# -- what stays open


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc/self/fd, which is Linux's")
@on_both_loops
async def test_no_file_descriptor_is_left_behind() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        while b"POST / " in request:
            await peer.send(sized(b"ok"))
            request = await peer.request()
        if b"/cut" in request:
            peer.reset()
        elif b"/garbage" in request:
            await peer.send(b"garbage\r\n\r\n")
        await peer.gone()

    async with serving(script) as server:
        before = _open_files()
        transport = Transport()
        for _ in range(5):
            for target in ("/", "/cut", "/garbage"):
                await fetch(transport, server.origin, target=target)
            (await begin(transport, server.origin, Recorder(), target="/wait")).abort()
            await begin(transport, server.origin, Recorder(), target="/wait")
        with pytest.raises(ConnectFailed):
            await begin(transport, Origin("http", "127.0.0.1", 1), Recorder())
        assert _open_files() > before
        await transport.close()
        await until(lambda: _open_files() <= before)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
