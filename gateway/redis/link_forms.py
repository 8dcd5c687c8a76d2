"""Links by the form of a URL: one server, Sentinel, a Cluster."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from gateway.config.sources.redis_urls import RedisUrl
from gateway.redis.address import Address, SingleServer, read_url
from gateway.redis.cluster.cluster_link import ClusterLink
from gateway.redis.cluster.topology import Topology
from gateway.redis.link import Link, RedisLink
from gateway.redis.sentinel import SentinelAddress
from gateway.types import Secret


def link_to(url: Secret, log: FilteringBoundLogger, *, prefix: str = "gw:", ca_file: str | None = None) -> Link:
    """Return a link that is not started yet. Raises ConfigError.

    `prefix`: what keys begin with.
    """
    read = read_url(url)
    if read.form == "cluster":
        return ClusterLink(Topology(read, ca_file), log, prefix)
    return RedisLink(_address_of(read, ca_file), log)


def address_of(url: Secret) -> Address:
    """Return where one server is, which may move. Raises ConfigError."""
    return _address_of(read_url(url), None)


def _address_of(read: RedisUrl, ca_file: str | None) -> Address:
    return SentinelAddress(read, ca_file) if read.form == "sentinel" else SingleServer(read, ca_file)
