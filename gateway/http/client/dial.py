"""Open connections: addresses, happy eyeballs, CONNECT, TLS.

uvloop has no happy eyeballs of its own, so the socket is connected first and then handed to the loop. TLS is begun on
the open line rather than by `create_connection(ssl=…)`, because only the transport under TLS can tell whether an upload
has left for the network.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from gateway.config.yaml.fingerprints import Fingerprint
from gateway.errors import ConnectFailed, ConnectTimedOut
from gateway.http.client.authorities import Authorities
from gateway.http.client.proxy import Proxy

_HAPPY_EYEBALLS_DELAY_SECONDS = 0.25
_MAX_CONNECT_ANSWER_BYTES = 16384
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    # An upstream may think for minutes: a peer that vanished meanwhile is found after 60 + 5 × 10 seconds.
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 5),
)


class Origin(NamedTuple):
    """A connection's destination, and its key in the pool.

    `host` is without brackets.

    `guarded`: `allow_address` is to be strict with it; its connections are never shared with those that are not.

    `ca_file`: the file of the authorities that its certificate may come from; empty for the system's. `ca_version` is
    the file's as it is when the origin is used: a line that others have vouched for is another line.
    """

    scheme: str
    host: str
    port: int
    guarded: bool = False
    ca_file: str = ""
    ca_version: Fingerprint | None = None

    @property
    def authority(self) -> str:
        """`host:port`, as error texts have it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


AllowAddress = Callable[[Origin, str], bool]
"""Whether this origin may be reached at this IP address."""


class Line(NamedTuple):
    """An open connection.

    `raw` is the transport under TLS, or `transport` itself where there is no TLS.
    """

    transport: asyncio.Transport
    raw: asyncio.Transport
    socket: socket.socket

    def unsent_bytes(self) -> Callable[[], int]:
        """Return a function that counts the bytes not yet sent."""
        if self.raw is self.transport:
            return self.transport.get_write_buffer_size
        return lambda: self.transport.get_write_buffer_size() + self.raw.get_write_buffer_size()


class Dialer:
    """Open lines to origins."""

    def __init__(self, proxy: Proxy | None, authorities: Authorities, allow_address: AllowAddress | None) -> None:
        self._proxy = proxy
        self._authorities = authorities
        self._allow_address = allow_address

    async def dial(self, origin: Origin, protocol: asyncio.Protocol, timeout_seconds: float) -> Line:
        """Open a line to `origin` for `protocol`.

        The time-out spans names, TCP, CONNECT and TLS.

        Raises ConnectFailed or ConnectTimedOut. Whatever ends it, cancellation too, leaves nothing open.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._dial(origin, protocol)
        except TimeoutError:
            text = f"{origin.authority}: no connection within {timeout_seconds:g} s"
            raise ConnectTimedOut(text) from None

    async def _dial(self, origin: Origin, protocol: asyncio.Protocol) -> Line:
        try:
            if origin.scheme == "http":
                sock = await self._connect(origin)
                raw = await _hand_to_loop(sock, protocol)
                return Line(raw, raw, sock)
            return await self._dial_tls(origin, protocol)
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"{origin.authority}: {_reason(error)}") from error

    async def _dial_tls(self, origin: Origin, protocol: asyncio.Protocol) -> Line:
        context = await self._authorities.context(origin.ca_file)
        proxy = self._proxy
        if proxy is not None and proxy.bypasses(origin.host, origin.port):
            proxy = None
        target = origin.authority if proxy is None else await self._target(origin)
        sock = await (self._connect(origin) if proxy is None else self._connect_to_proxy(origin, proxy))
        tunnel = _Tunnel()
        raw = await _hand_to_loop(sock, tunnel)
        try:
            if proxy is not None:
                raw.write(_connect_request(target, proxy))
                await tunnel.answered.wait()
                _check_connect_answer(bytes(tunnel.received), origin, proxy)
            return Line(await _start_tls(origin, raw, protocol, context), raw, sock)
        except BaseException:
            raw.abort()
            raise

    async def _connect(self, origin: Origin) -> socket.socket:
        addresses = self._allowed(origin, await _resolve(origin.host, origin.port))
        return await _connect_first(addresses)

    def _allowed(self, origin: Origin, addresses: Sequence[AddrInfoType]) -> Sequence[AddrInfoType]:
        allow = self._allow_address
        if allow is None:
            return addresses
        allowed = [address for address in addresses if allow(origin, address[4][0])]
        if addresses and not allowed:
            ips = ", ".join(dict.fromkeys(address[4][0] for address in addresses))
            raise ConnectFailed(f"{origin.authority}: address {ips} is not allowed")
        return allowed

    async def _target(self, origin: Origin) -> str:
        """Return the proxy's target; a guarded one is resolved here.

        The proxy resolves others out of our sight.
        """
        literal = _numeric(origin.host, origin.port)
        if not origin.guarded:
            self._allowed(origin, literal or ())
            return origin.authority
        allowed = self._allowed(origin, literal or await _resolve(origin.host, origin.port))
        return origin._replace(host=allowed[0][4][0]).authority

    async def _connect_to_proxy(self, origin: Origin, proxy: Proxy) -> socket.socket:
        """The proxy's own address is the operator's choice."""
        if proxy.refusal:
            raise ConnectFailed(f"{origin.authority}: {proxy.refusal}")
        try:
            return await _connect_first(await _resolve(proxy.host, proxy.port))
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"{origin.authority}: proxy {proxy.host}:{proxy.port}: {_reason(error)}") from error


async def _start_tls(
    origin: Origin, raw: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    try:
        transport = await loop.start_tls(raw, protocol, context, server_hostname=origin.host.rstrip("."))
    except ConnectionError as error:  # the loops say no more than "aborted"
        raise ConnectFailed(f"{origin.authority}: TLS: closed by the peer during the handshake") from error
    if transport is None:  # typed as impossible by some, and seen when the peer leaves at that very moment
        raise ConnectFailed(f"{origin.authority}: TLS: closed by the peer during the handshake")
    return transport


async def _resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """Addresses in the resolver's order; a literal one costs no thread."""
    if (literal := _numeric(host, port)) is not None:
        return literal
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _numeric(host: str, port: int) -> Sequence[AddrInfoType] | None:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None


async def _connect_first(addresses: Sequence[AddrInfoType]) -> socket.socket:
    try:
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_SECONDS, loop=asyncio.get_running_loop()
        )
    except RuntimeError as error:  # uvloop's way of saying OSError, now and then
        raise OSError(str(error)) from error
    try:
        _set_options(sock)
    except OSError:  # some systems refuse options on a connection that was reset already
        sock.close()
        raise
    return sock


def _set_options(sock: socket.socket) -> None:
    for level, name, value in _SOCKET_OPTIONS:
        if (option := getattr(socket, name, None)) is not None:  # some platforms lack some of them
            sock.setsockopt(level, option, value)


async def _hand_to_loop(sock: socket.socket, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Make a transport of a connected socket.

    Shielded: in the middle of it a cancellation would leave two owners of one file descriptor (uvloop closes it
    twice). It takes one turn of the loop; if nobody waits any more, the new transport is closed at once.
    """
    loop = asyncio.get_running_loop()
    opening = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
    try:
        transport, _ = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_abandon)
        raise
    return transport


def _abandon(opening: asyncio.Task[tuple[asyncio.Transport, asyncio.Protocol]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


class _Tunnel(asyncio.Protocol):
    """Receive a proxy's answer to CONNECT, before TLS begins."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.answered = asyncio.Event()  # a whole head, too much, or the end

    def data_received(self, data: bytes) -> None:
        self.received += data
        if b"\r\n\r\n" in self.received or len(self.received) > _MAX_CONNECT_ANSWER_BYTES:
            self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.answered.set()


def _connect_request(target: str, proxy: Proxy) -> bytes:
    authorization = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{authorization}\r\n".encode("latin-1")


def _check_connect_answer(answer: bytes, origin: Origin, proxy: Proxy) -> None:
    """Check for a 2xx with nothing behind its head.

    In TLS the upstream sends second, so those bytes would not be its own.
    """
    at = f"{origin.authority}: proxy {proxy.host}:{proxy.port}"
    if not answer:
        raise ConnectFailed(f"{at} closed the connection")
    status = _STATUS_LINE.match(answer)
    head, blank, rest = answer.partition(b"\r\n\r\n")
    if status is None or not blank or len(head) > _MAX_CONNECT_ANSWER_BYTES:
        raise ConnectFailed(f"{at} gave no valid answer to CONNECT")
    if not status[1].startswith(b"2"):
        raise ConnectFailed(f"{at} refused the tunnel with status {status[1].decode()}")
    if rest:
        raise ConnectFailed(f"{at} sent bytes before TLS began")


def _reason(error: OSError | UnicodeError) -> str:
    """Return an error's reason without class and file names."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})"
    if isinstance(error, UnicodeError):
        return "not a valid host name"
    if error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
