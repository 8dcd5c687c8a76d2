"""Locate Redis: a single server, Sentinel or Cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.errors import ConfigError
from gateway.redis.refusals import Reply, is_refusal, read_reply
from gateway.types import Secret

CONNECT_SECONDS = 2.0


class Connection(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> object: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    async def send_packed_command(self, command: bytes | Iterable[bytes], check_health: bool = ...) -> None: ...
    async def send_command(self, *command: str | bytes) -> None: ...
    async def read_response(self, *, timeout: float | None = ..., disconnect_on_error: bool = ...) -> Reply: ...


class Address(Protocol):
    """Find the server that takes commands at the moment.

    Its text is for logs and holds no credential.
    """

    async def connect(self) -> Connection:
        """Open a connection. Raises RedisError, OSError or TimeoutError."""
        ...


def address_of(url: Secret) -> Address:
    """Read a URL `redis://`, `rediss://` or `unix://` with redis-py's options. Raises ConfigError."""
    _refuse_several_nodes(url.reveal())
    return SingleServer(url)


class SingleServer:
    """One server, neither a node of a Cluster nor a Sentinel."""

    def __init__(self, url: Secret) -> None:
        """Raise ConfigError for what redis-py does not know."""
        try:
            # Read by the pool, which is then left aside.
            pool = ConnectionPool.from_url(url.reveal())
            options: dict[str, Any] = dict(pool.connection_kwargs)
            self._class = pool.connection_class
            self._options = options | {
                "socket_timeout": None,  # time-outs are the pipeline's, a whole batch at a time
                "socket_connect_timeout": CONNECT_SECONDS,
                "health_check_interval": 0,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "decode_responses": False,
            }
            self._made()
        except (TypeError, ValueError, RedisError):
            raise ConfigError(["store.url: not a Redis URL, or with an option that is not known"]) from None
        self._shown = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    async def connect(self) -> Connection:
        connection = self._made()
        try:
            await connection.connect()
            await _refuse_cluster(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _made(self) -> Connection:
        connection: Connection = self._class(**self._options)
        return connection

    def __str__(self) -> str:
        return self._shown


def _refuse_several_nodes(url: str) -> None:
    scheme = url.partition("://")[0].lower()
    is_listed = scheme != "unix" and "," in urlsplit(url).netloc.rpartition("@")[2]
    if scheme not in ("redis", "rediss", "unix") or is_listed:
        reason = "Redis Cluster and Sentinel are not supported; give one server as redis://, rediss:// or unix://"
        raise ConfigError([f"store.url: {reason}"])


async def _refuse_cluster(connection: Connection) -> None:
    """Raise RedisError for a server of a Cluster; silence is believed."""
    await connection.send_command("INFO", "server")
    info = await read_reply(connection)
    if not is_refusal(info) and (b"redis_mode:cluster" in info or b"redis_mode:sentinel" in info):
        raise RedisError("this is a Redis Cluster or Sentinel node, which is not supported")
