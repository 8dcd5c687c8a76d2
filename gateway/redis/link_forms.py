"""Links by the form of a URL: one server, Sentinel, a Cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from structlog.typing import FilteringBoundLogger

from gateway.config.sources.redis_urls import RedisUrl
from gateway.errors import ConfigError
from gateway.redis.address import Address, Latest, SingleServer, read_url
from gateway.redis.cluster.cluster_link import ClusterLink
from gateway.redis.cluster.topology import Topology
from gateway.redis.link import Link, RedisLink
from gateway.redis.sentinel import SentinelAddress
from gateway.types import Secret


def link_to(
    url: Secret,
    log: FilteringBoundLogger,
    *,
    prefix: str = "gw:",
    ca_file: str | None = None,
    latest: Callable[[], Secret] | None = None,
) -> Link:
    """Return a link that is not started yet. Raises ConfigError.

    `prefix`: what keys begin with. `latest`: the URL as it is configured now, whose login new connections take.
    """
    read = read_url(url)
    again = None if latest is None else partial(_read_again, latest, read)
    if read.form == "cluster":
        return ClusterLink(Topology(read, ca_file, again), log, prefix)
    return RedisLink(_address_of(read, ca_file, again), log)


def _read_again(latest: Callable[[], Secret], before: RedisUrl) -> RedisUrl:
    try:
        read = read_url(latest())
    except ConfigError:
        return before
    return read if read._replace(single="", sentinel="") == before._replace(single="", sentinel="") else before


def address_of(url: Secret) -> Address:
    """Return where one server is, which may move. Raises ConfigError."""
    return _address_of(read_url(url), None, None)


def _address_of(read: RedisUrl, ca_file: str | None, latest: Latest | None) -> Address:
    form = SentinelAddress if read.form == "sentinel" else SingleServer
    return form(read, ca_file, latest)
