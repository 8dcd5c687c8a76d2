"""One WebSocket to an endpoint, by aiohttp's public API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Mapping
from ipaddress import ip_address
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.errors import ConnectFailed, ConnectTimedOut, FirstByteTimedOut, TransportError
from gateway.http.client import Authorities, Origin, Proxy
from gateway.http.client.addresses import may_be_reached

# A closing handshake is for upstreams that answer at once: those that do not are cut, well within P3's 100 ms.
CLOSE_SECONDS = 0.04
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what has not been taken is not waited for


class HandshakeRefused(TransportError):
    """The upstream answered the handshake with a status of its own."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status} in answer to the WebSocket's handshake")
        self.status = status
        self.headers = headers


class Network(NamedTuple):
    """How upstreams are reached: the proxy, addresses that are let in, authorities."""

    proxy: Proxy | None
    private_endpoints: tuple[str, ...]
    authorities: Authorities


class Dialling(NamedTuple):
    """Where a socket leads, its handshake's fields and its bounds."""

    origin: Origin
    url: URL
    fields: Mapping[str, str]
    connect_seconds: float
    first_byte_seconds: float
    most_bytes: int


class UpstreamSocket:
    """A WebSocket to an endpoint, closed by its holder."""

    def __init__(self, session: aiohttp.ClientSession, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._session = session
        self._socket = connection

    @classmethod
    async def connect(cls, network: Network, to: Dialling) -> UpstreamSocket:
        """Open a socket. Raises ConnectFailed, ConnectTimedOut, FirstByteTimedOut or HandshakeRefused."""
        session = _session(network, to, await _tls(network, to.origin))
        try:
            async with asyncio.timeout(to.first_byte_seconds):
                connection = await session.ws_connect(
                    to.url,
                    headers=to.fields,
                    compress=0,
                    max_msg_size=to.most_bytes + 1,
                    autoclose=True,
                    autoping=True,
                    proxy=_proxy_url(network.proxy, to.origin),
                    proxy_headers=_proxy_fields(network.proxy, to.origin),
                )
        except BaseException as error:
            await session.close()
            fault = _as_fault(error, to.origin)
            if fault is None:
                raise
            raise fault from None
        return cls(session, connection)

    async def send(self, content: bytes, *, is_text: bool = True) -> None:
        """Send a message, and wait while the upstream takes none. Raises ConnectionError."""
        if is_text:
            await self._socket.send_str(content.decode("utf-8", "surrogatepass"))
        else:
            await self._socket.send_bytes(content)

    async def receive(self) -> aiohttp.WSMessage:
        """Wait for a message, or for the socket's end."""
        return await self._socket.receive()

    async def ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._socket.ping()

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    async def close(self) -> None:
        """Say goodbye and close, within a moment."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        except TimeoutError:
            self._cut()
        finally:
            await self._session.close()

    def _cut(self) -> None:
        """Reset the connection, though the upstream may take nothing."""
        transport_socket = self._socket.get_extra_info("socket")
        number = transport_socket.fileno() if transport_socket is not None else -1
        if number < 0:
            return
        with contextlib.suppress(OSError), socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            twin.shutdown(socket.SHUT_RDWR)

    def __repr__(self) -> str:
        return f"<UpstreamSocket{', closed' * self._socket.closed}>"


async def _tls(network: Network, origin: Origin) -> ssl.SSLContext | bool:
    """Raise ConnectFailed."""
    if origin.scheme != "https":
        return False
    try:
        return await network.authorities.context(origin.ca_file)
    except OSError as error:
        raise ConnectFailed(f"{origin.authority}: {error}") from None


def _session(network: Network, to: Dialling, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    origin = to.origin
    if origin.guarded:
        _check_literal(origin, network.private_endpoints)
    connector = aiohttp.TCPConnector(
        ssl=tls,
        resolver=_GuardedResolver(network.private_endpoints) if origin.guarded else aiohttp.ThreadedResolver(),
        use_dns_cache=False,
        limit=1,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=to.connect_seconds),
        trace_configs=[tracing],
        trust_env=False,
    )


class _GuardedResolver(AbstractResolver):
    """Leave out addresses that run-time endpoints may not have."""

    def __init__(self, private_endpoints: tuple[str, ...]) -> None:
        self._private_endpoints = private_endpoints
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [one for one in found if may_be_reached(one["host"], self._private_endpoints)]
        if found and not allowed:
            raise OSError("the address is not allowed")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _check_literal(origin: Origin, private_endpoints: tuple[str, ...]) -> None:
    """Judge an address in the URL, which no resolver sees."""
    try:
        ip_address(origin.host)
    except ValueError:
        return
    if not may_be_reached(origin.host, private_endpoints):
        raise ConnectFailed(f"{origin.authority}: address {origin.host} is not allowed")


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    """Following it could lead anywhere, with the endpoint's credential."""
    raise HandshakeRefused(params.response.status, {})


def _proxy_url(proxy: Proxy | None, origin: Origin) -> URL | None:
    if proxy is None or origin.scheme != "https" or proxy.bypasses(origin.host, origin.port):
        return None
    if proxy.refusal:
        raise ConnectFailed(f"{origin.authority}: {proxy.refusal}")
    return URL.build(scheme="http", host=proxy.host, port=proxy.port)


def _proxy_fields(proxy: Proxy | None, origin: Origin) -> Mapping[str, str] | None:
    if _proxy_url(proxy, origin) is None or proxy is None or proxy.authorization is None:
        return None
    return {"proxy-authorization": proxy.authorization}


def _as_fault(error: BaseException, origin: Origin) -> TransportError | None:
    """Translate a handshake's failure; None for what is no fault upstream."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, aiohttp.WSServerHandshakeError):
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        return HandshakeRefused(error.status, headers)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return ConnectTimedOut(f"{origin.authority}: no connection in time")
    if isinstance(error, TimeoutError):
        return FirstByteTimedOut("no answer to the WebSocket's handshake in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{origin.authority}: {error.strerror or 'cannot be reached'}")
    if isinstance(error, aiohttp.ClientError | OSError | ValueError):
        return ConnectFailed(f"{origin.authority}: {type(error).__name__}")
    return None
