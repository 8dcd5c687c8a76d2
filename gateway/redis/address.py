"""Locate Redis: a single server, or who is primary by Sentinels' word."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, cast

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.config.problems import Refused
from gateway.config.sources.redis_urls import RedisUrl, read_redis_url
from gateway.errors import ConfigError
from gateway.redis.refusals import Refusal, Reply, is_refusal, read_reply
from gateway.types import Secret

CONNECT_SECONDS = 2.0
_LOGIN = ("username", "password")


class Connection(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> object: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    async def send_packed_command(self, command: bytes | Iterable[bytes], check_health: bool = ...) -> None: ...
    async def send_command(self, *command: str | bytes) -> None: ...
    async def read_response(
        self, *, timeout: float | None = ..., disconnect_on_error: bool = ..., push_request: bool | None = ...
    ) -> Reply: ...


class Address(Protocol):
    """Find the server that takes commands at the moment.

    Its text is for logs and holds no credential.
    """

    async def connect(self) -> Connection:
        """Open a connection. Raises RedisError, OSError or TimeoutError."""

    async def watch(self, connection: Connection) -> None:
        """Return once another server is to be asked, or never."""

    def is_misplaced(self, refusal: Refusal) -> bool:
        """Whether it means that another server is to be asked."""


class Dialer:
    """Open connections with the login and options of a URL."""

    def __init__(self, url: str, ca_file: str | None = None, latest: Callable[[], str] | None = None) -> None:
        """Raise ConfigError for what redis-py does not know.

        `latest`: the URL as it is configured now; a new login holds for new connections, anything else from the next
        start on.
        """
        self._latest = latest
        self._read = url
        try:
            pool = ConnectionPool.from_url(url)  # reads it, and is left aside
            options: dict[str, Any] = dict(pool.connection_kwargs)
            self._class = _telling_of_its_end(pool.connection_class)
            self._options = _tls_options(self._class, ca_file) | options
            self._options |= {
                "socket_timeout": None,  # time-outs are the pipeline's, a whole batch at a time
                "socket_connect_timeout": CONNECT_SECONDS,
                "health_check_interval": 0,
                "retry": Retry(NoBackoff(), 0),
                "protocol": int(options.get("protocol", 2)),
                "decode_responses": False,
            }
            self._made({})
        except (TypeError, ValueError, RedisError):
            raise ConfigError(["store.url: not a Redis URL, or with an option that is not known"]) from None

    @property
    def shown(self) -> str:
        """The server of the URL itself, for logs."""
        options = self._options
        return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    async def open(self, host: str = "", port: int = 0) -> Connection:
        """Connect to the URL's server, or to another one.

        Raises RedisError, OSError or TimeoutError.
        """
        self._take_login()
        connection = self._made({"host": host, "port": port} if host else {})
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _take_login(self) -> None:
        url = self._read if self._latest is None else self._latest()
        if url == self._read:
            return
        with contextlib.suppress(TypeError, ValueError, RedisError):  # what is wrong with it is said at the next start
            before, after = (dict[str, Any](parse_url(each)) for each in (self._read, url))
            if before | dict.fromkeys(_LOGIN) == after | dict.fromkeys(_LOGIN):
                self._read = url
                self._options |= {name: after.get(name) for name in _LOGIN}

    def _made(self, place: dict[str, Any]) -> Connection:
        return cast(Connection, self._class(**self._options | place))


def _telling_of_its_end(kind: Any) -> Any:
    """Return a class of connections whose end is a connection's error."""

    class Telling(kind):  # type: ignore[misc]  # its base is known at run time
        async def send_packed_command(self, command: bytes | Iterable[bytes], check_health: bool = True) -> None:
            try:
                await super().send_packed_command(command, check_health)
            except RuntimeError as error:  # uvloop's word for a connection that has ended since
                raise ConnectionResetError(str(error)) from error

    return Telling


Latest = Callable[[], RedisUrl]


def part_of(latest: Latest | None, name: Literal["single", "sentinel"]) -> Callable[[], str] | None:
    """Return what gives a Dialer its URL as it is now."""
    if latest is None:
        return None
    return lambda: latest().single if name == "single" else latest().sentinel


def place_of(connection: Connection) -> tuple[str, int]:
    """Where a connection over TCP leads to, as it was opened."""
    opened: Any = connection
    return opened.host, opened.port


def _tls_options(kind: type, ca_file: str | None) -> dict[str, Any]:
    """Defaults, the same under every version of redis-py."""
    if not issubclass(kind, SSLConnection):
        return {}
    options: dict[str, Any] = {"ssl_check_hostname": True}
    if ca_file is not None:
        options["ssl_ca_certs"] = ca_file
        if "ssl_include_verify_flags" in inspect.signature(kind.__init__).parameters:
            options["ssl_include_verify_flags"] = [ssl.VERIFY_X509_PARTIAL_CHAIN]  # as of endpoints' `ca_file`
    return options


def read_url(url: Secret) -> RedisUrl:
    """Take a URL apart. Raises ConfigError."""
    try:
        return read_redis_url(url.reveal())
    except Refused as refused:
        raise ConfigError([f"store.url: {refused}"]) from None


class SingleServer:
    """One server, neither a node of a Cluster nor a Sentinel."""

    def __init__(self, url: RedisUrl, ca_file: str | None = None, latest: Latest | None = None) -> None:
        """Raise ConfigError for what redis-py does not know."""
        self._dialer = Dialer(url.single, ca_file, part_of(latest, "single"))

    async def connect(self) -> Connection:
        connection = await self._dialer.open()
        try:
            await _refuse_cluster(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def watch(self, connection: Connection) -> None:
        """Wait for ever: there is no other."""
        await asyncio.Event().wait()

    def is_misplaced(self, refusal: Refusal) -> bool:
        return False

    def __str__(self) -> str:
        return self._dialer.shown


async def _refuse_cluster(connection: Connection) -> None:
    """Raise RedisError for a server of a Cluster; silence is believed."""
    await connection.send_command("INFO", "server")
    info = await read_reply(connection)
    if is_refusal(info):
        return
    for mode in ("cluster", "sentinel"):
        if f"_mode:{mode}" in str(info):  # redis_mode, and Valkey's server_mode
            raise RedisError(f"this is a node of a Cluster or a Sentinel: give it as redis+{mode}://")
