"""Find the client behind trusted proxies: `x-forwarded-for`, `forwarded`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from multidict import MultiMapping, istr

_FORWARDED_FOR, _FORWARDED_PROTO, _FORWARDED = istr("x-forwarded-for"), istr("x-forwarded-proto"), istr("forwarded")
_MOST_HOPS = 32
_PAIR = re.compile(r'(?:^|[;,])\s*(for|proto)\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)
_SCHEMES = ("http", "https")


class Forwarded(NamedTuple):
    """What proxies said of a request. `hops`: the nearest proxy's word last."""

    hops: tuple[str, ...] = ()
    scheme: str | None = None  # the nearest proxy's word

    @classmethod
    def of(cls, headers: MultiMapping[str]) -> Forwarded:
        """Read the headers; `x-forwarded-for` goes before `forwarded`."""
        if _FORWARDED_FOR not in headers and _FORWARDED not in headers and _FORWARDED_PROTO not in headers:
            return NOTHING
        standard = _PAIR.findall(",".join(headers.getall(_FORWARDED, ())))
        hops = [hop.strip() for hop in ",".join(headers.getall(_FORWARDED_FOR, ())).split(",") if hop.strip()]
        hops = hops or [value.strip('"') for name, value in standard if name.lower() == "for"]
        schemes = [each.strip() for each in ",".join(headers.getall(_FORWARDED_PROTO, ())).split(",") if each.strip()]
        schemes = schemes or [value.strip('"') for name, value in standard if name.lower() == "proto"]
        scheme = schemes[-1].lower() if schemes else None
        return cls(tuple(hops[-_MOST_HOPS:]), scheme if scheme in _SCHEMES else None)


NOTHING = Forwarded()


def client_address(peer: str, forwarded: Forwarded, trusted: Sequence[str]) -> str:
    """Return the client's address, by what trusted proxies say.

    From the nearest hop on, the first that is no trusted proxy; a word that is no address ends the search.
    """
    found = peer
    for hop in reversed(forwarded.hops):
        if not is_within(found, trusted):
            return found
        address = _address_in(hop)
        if address is None:
            return found
        found = address
    return found


def is_within(address: str, ranges: Iterable[str]) -> bool:
    """Whether an address is in one of the CIDR ranges."""
    parsed = _parsed(address)
    if parsed is None:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return any(_contains(text, parsed) or (mapped is not None and _contains(text, mapped)) for text in ranges)


def _contains(text: str, address: IPv4Address | IPv6Address) -> bool:
    network = _network(text)
    # Compared by hand: typing knows no common ancestor of the two kinds.
    return network.version == address.version and int(address) & int(network.netmask) == int(network.network_address)


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _address_in(hop: str) -> str | None:
    """Return a hop's address: bare, bracketed or with a port."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    return hop if _parsed(hop) is not None else None
