"""From a name to an open line: addresses, happy eyeballs, TLS, CONNECT, time-outs and cancellation; on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from servers.connect_proxy import proxying
from servers.loops import on_both_loops, until
from servers.scripted import Peer, Recorder, begin, closing, fetch, serving

from gateway.errors import ConnectFailed, ConnectTimedOut
from gateway.http.client import Origin, Proxy, Transport

AUTHORITY = trustme.CA()


def server_context(*names: str, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def answers(peer: Peer) -> None:
    while True:
        await peer.answer()


def resolve_to(*addresses: tuple[str, int]) -> None:
    """Makes the running loop resolve `upstream.test` to these."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **hints: Any) -> list[Any]:
        if host != "upstream.test":
            return await real(host, port, **hints)
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, number))
            for ip, number in addresses
        ]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]


@contextmanager
def unanswering_port() -> Iterator[int]:
    """A port that lets connections hang: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def refusing_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- addresses


@on_both_loops
async def test_a_refused_connection_says_where_and_why() -> None:
    port = refusing_port()
    async with closing(Transport()) as transport:
        with pytest.raises(ConnectFailed) as failure:
            await begin(transport, Origin("http", "127.0.0.1", port), Recorder())
        assert str(failure.value) == f"127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "a..b"])
@on_both_loops
async def test_a_name_that_does_not_resolve_is_a_failed_connect(host: str) -> None:
    async with closing(Transport()) as transport:
        with pytest.raises(ConnectFailed, match=r"no such host|not a valid host name"):
            await begin(transport, Origin("http", host, 80), Recorder())


@on_both_loops
async def test_a_dead_address_first_does_not_eat_the_time_out() -> None:
    """A broken IPv6 route is the usual case; here a port that never answers stands for it."""
    async with serving(answers) as server, closing(Transport()) as transport:
        with unanswering_port() as dead:
            resolve_to(("127.0.0.1", dead), ("127.0.0.1", server.origin.port))
            recorder = Recorder()
            await begin(transport, Origin("http", "upstream.test", 80), recorder, connect_timeout=4)
            await recorder.over.wait()
            assert recorder.body == b"ok"


@on_both_loops
async def test_a_refusing_address_first_is_passed_over() -> None:
    async with serving(answers) as server, closing(Transport()) as transport:
        resolve_to(("127.0.0.1", refusing_port()), ("127.0.0.1", server.origin.port))
        assert (await fetch(transport, Origin("http", "upstream.test", 80))).body == b"ok"


@on_both_loops
async def test_only_allowed_addresses_are_connected_to() -> None:
    asked: list[tuple[str, str]] = []

    def allow(origin: Origin, ip: str) -> bool:
        asked.append((origin.host, ip))
        return ip != "127.0.0.2"

    async with serving(answers) as server, closing(Transport(allow_address=allow)) as transport:
        resolve_to(("127.0.0.2", server.origin.port), ("127.0.0.1", server.origin.port))
        assert (await fetch(transport, Origin("http", "upstream.test", 80))).body == b"ok"
        assert asked == [("upstream.test", "127.0.0.2"), ("upstream.test", "127.0.0.1")]
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.2 is not allowed"):
            await begin(transport, Origin("http", "127.0.0.2", server.origin.port), Recorder())
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.2 is not allowed"):
            await begin(transport, Origin("http", "0x7f000002", server.origin.port), Recorder())
        assert len(server.peers) == 1


# -- TLS


@on_both_loops
async def test_tls_checks_the_certificate_sends_the_name_and_speaks_http_1_1_only() -> None:
    context = server_context("upstream.test")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    protocols: list[str | None] = []

    async def script(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answers(peer)

    async with serving(script, context) as server, closing(Transport(ssl_context=trusting())) as transport:
        resolve_to(("127.0.0.1", server.origin.port))
        origin = Origin("https", "upstream.test", 443)
        assert [(await fetch(transport, origin)).body for _ in range(2)] == [b"ok", b"ok"]
        assert names == ["upstream.test"]
        assert protocols == ["http/1.1"]


UNTRUSTED = {
    "wrong host": (server_context("other.test"), "Hostname mismatch"),
    "unknown authority": (server_context("upstream.test", authority=trustme.CA()), "unable to get local issuer"),
}


@pytest.mark.parametrize("case", UNTRUSTED)
@on_both_loops
async def test_a_certificate_that_does_not_fit_is_a_failed_connect(case: str) -> None:
    context, reason = UNTRUSTED[case]
    async with serving(answers, context) as server, closing(Transport(ssl_context=trusting())) as transport:
        resolve_to(("127.0.0.1", server.origin.port))
        with pytest.raises(ConnectFailed, match=f"TLS: certificate refused: .*{reason}"):
            await begin(transport, Origin("https", "upstream.test", 443), Recorder())
        assert transport.snapshot() == {}


@on_both_loops
async def test_without_a_context_the_systems_authorities_decide() -> None:
    async with serving(answers, server_context("127.0.0.1")) as server, closing(Transport()) as transport:
        with pytest.raises(ConnectFailed, match="TLS: certificate refused"):
            await begin(transport, server.origin, Recorder())


@pytest.mark.parametrize("sent", [b"SSH-2.0-OpenSSH\r\n", b""], ids=["another protocol", "closed"])
@on_both_loops
async def test_a_server_without_tls_is_a_failed_connect(sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(sent)
        peer.close()

    async with serving(script) as server, closing(Transport(ssl_context=trusting())) as transport:
        with pytest.raises(ConnectFailed, match=f"{server.origin.authority}: TLS: "):
            await begin(transport, server.origin._replace(scheme="https"), Recorder())


# -- through a proxy


@on_both_loops
async def test_https_goes_through_the_proxy_with_its_credentials_and_keeps_its_tunnel() -> None:
    async with (
        proxying() as proxy,
        serving(answers, server_context("127.0.0.1")) as server,
        closing(
            Transport(proxy=Proxy.from_url(f"http://me:secret@127.0.0.1:{proxy.port}", ""), ssl_context=trusting())
        ) as transport,
    ):
        assert [(await fetch(transport, server.origin)).body for _ in range(2)] == [b"ok", b"ok"]
        authority = server.origin.authority.encode()
        assert proxy.requests == [
            b"CONNECT %s HTTP/1.1\r\nhost: %s\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
            % (authority, authority)
        ]


@on_both_loops
async def test_http_and_hosts_of_no_proxy_go_direct() -> None:
    async with (
        proxying() as proxy,
        serving(answers) as plain,
        serving(answers, server_context("127.0.0.1")) as secure,
        closing(
            Transport(proxy=Proxy("127.0.0.1", proxy.port, None, "127.0.0.0/8"), ssl_context=trusting())
        ) as transport,
    ):
        assert (await fetch(transport, plain.origin)).body == b"ok"
        assert (await fetch(transport, secure.origin)).body == b"ok"
        assert proxy.requests == []


REFUSALS = {
    "407": (
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        "refused the tunnel with status 407",
    ),
    "closed": (b"", "closed the connection"),
    "not HTTP": (b"hello\r\n\r\n", "gave no valid answer to CONNECT"),
    "half a head": (b"HTTP/1.1 404 Not", "gave no valid answer to CONNECT"),
    "endless": (b"HTTP/1.1 404 No\r\n" + b"a: b\r\n" * 4000, "gave no valid answer to CONNECT"),
    "bytes behind": (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "sent bytes before TLS began"),
}


@pytest.mark.parametrize("case", REFUSALS)
@on_both_loops
async def test_a_proxy_that_opens_no_tunnel_is_a_failed_connect(case: str) -> None:
    answer, reason = REFUSALS[case]
    async with (
        proxying(answer) as proxy,
        serving(answers) as server,
        closing(Transport(proxy=Proxy("127.0.0.1", proxy.port, "Basic c2VjcmV0", ""))) as transport,
    ):
        with pytest.raises(ConnectFailed, match=reason) as failure:
            await begin(transport, server.origin._replace(scheme="https"), Recorder())
        assert f"proxy 127.0.0.1:{proxy.port}" in str(failure.value)
        assert "c2VjcmV0" not in str(failure.value)
        assert transport.snapshot() == {}


@on_both_loops
async def test_a_proxy_that_is_not_there_is_named() -> None:
    port = refusing_port()
    async with closing(Transport(proxy=Proxy("127.0.0.1", port, None, ""))) as transport:
        with pytest.raises(ConnectFailed, match=f"upstream.test:443: proxy 127.0.0.1:{port}: Connection refused"):
            await begin(transport, Origin("https", "upstream.test", 443), Recorder())


@on_both_loops
async def test_a_forbidden_address_is_not_asked_of_the_proxy_either() -> None:
    async with proxying() as proxy:
        tunnels = Proxy("127.0.0.1", proxy.port, None, "")
        async with closing(Transport(proxy=tunnels, allow_address=lambda _, ip: ip != "10.0.0.1")) as transport:
            with pytest.raises(ConnectFailed, match="not allowed"):
                await begin(transport, Origin("https", "10.0.0.1", 443), Recorder())
            assert proxy.requests == []


# -- time-outs and cancellation


async def _silent(peer: Peer) -> None:
    await peer.gone()


async def _hanging_name(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


STAGES = ["name", "TCP", "CONNECT", "TLS"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ending", ["time-out", "cancellation"])
@on_both_loops
async def test_an_end_while_connecting_leaves_nothing_open(stage: str, ending: str) -> None:
    with unanswering_port() as dead:
        async with serving(_silent) as server:
            origin = server.origin._replace(scheme="https")
            proxy = None
            if stage == "name":
                origin = Origin("https", "upstream.test", 443)
                asyncio.get_running_loop().getaddrinfo = _hanging_name  # type: ignore[method-assign]
            elif stage == "TCP":
                origin = Origin("https", "127.0.0.1", dead)
            elif stage == "CONNECT":
                proxy = Proxy("127.0.0.1", server.origin.port, None, "")
            before = _open_files()
            async with closing(Transport(proxy=proxy)) as transport:
                await (_time_out if ending == "time-out" else _cancel)(transport, origin, server.came, stage)
                assert transport.snapshot() == {}
                for peer in server.peers:
                    await peer.left.wait()
                await until(lambda: _open_files() <= before + len(server.peers))


async def _time_out(transport: Transport, origin: Origin, came: asyncio.Event, stage: str) -> None:
    with pytest.raises(ConnectTimedOut, match=r"no connection within 0\.2 s"):
        await begin(transport, origin, Recorder(), connect_timeout=0.2)


async def _cancel(transport: Transport, origin: Origin, came: asyncio.Event, stage: str) -> None:
    task = asyncio.ensure_future(begin(transport, origin, Recorder()))
    if stage in ("CONNECT", "TLS"):
        await came.wait()
    else:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(12))
@on_both_loops
async def test_a_cancellation_at_any_turn_of_the_loop_leaves_nothing_open(turns: int) -> None:
    async with serving(answers, server_context("127.0.0.1")) as server:
        before = _open_files()
        async with closing(Transport(ssl_context=trusting())) as transport:
            task = asyncio.ensure_future(begin(transport, server.origin, Recorder()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(lambda: all(peer.writer.is_closing() or peer.reader.at_eof() for peer in server.peers))
        for peer in server.peers:
            peer.writer.transport.abort()
        await until(lambda: _open_files() <= before)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform.startswith("linux") else 0
