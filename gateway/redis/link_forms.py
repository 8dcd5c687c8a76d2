"""Links by the form of a URL: one server, Sentinel, a Cluster."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from gateway.errors import ConfigError
from gateway.redis.address import Address, SingleServer, read_url
from gateway.redis.link import Link, RedisLink
from gateway.redis.sentinel import SentinelAddress
from gateway.types import Secret


def link_to(url: Secret, log: FilteringBoundLogger, *, ca_file: str | None = None) -> Link:
    """Return a link that is not started yet. Raises ConfigError."""
    return RedisLink(address_of(url, ca_file), log)


def address_of(url: Secret, ca_file: str | None = None) -> Address:
    """Return where one server is, which may move. Raises ConfigError."""
    read = read_url(url)
    if read.form == "cluster":
        raise ConfigError(["store.url: Redis Cluster is not supported yet"])
    return SentinelAddress(read, ca_file) if read.form == "sentinel" else SingleServer(read, ca_file)
