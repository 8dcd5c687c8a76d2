"""Refuse private addresses to endpoints made at run time (contract §6).

Such an endpoint is somebody's input. It may lead out into the internet, and not to what stands beside the gateway:
other services, the host itself, a cloud's metadata. IPv6 offers many ways of writing an IPv4 address; what counts is
the address that would be reached in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

# A table of our own: what `ipaddress` calls private differs between the versions of Python.
_NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared, behind carriers; Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's wire server, a public address with private answers
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")  # all of today's global unicast; what is outside of it is something special
_NOT_PUBLIC_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: how IPv6-only networks reach the IPv4 internet
_SIX_TO_FOUR = IPv6Network("2002::/16")
_LAST_32_BITS = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))


def may_be_reached(address: str, private_networks: Iterable[str]) -> bool:
    """Whether a run-time endpoint may have this IP address.

    `private_networks` are CIDRs that are let in.

    Text that is no IP address may not. A range that lets in an IPv4 address lets it in however it is written.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return not is_private(parsed) or _is_covered(parsed, private_networks)


def is_private(address: Address) -> bool:
    """Whether the address is anything but public.

    Loopback, private, link-local, shared, mapped, unspecified and the like.
    """
    if isinstance(address, IPv4Address):
        return any(address in network for network in _NOT_PUBLIC_V4)
    inner = _embedded(address)
    if address in _TRANSLATED or address in _SIX_TO_FOUR:
        return inner is None or is_private(inner)
    return address not in _PUBLIC_V6 or any(address in network for network in _NOT_PUBLIC_V6)


def _is_covered(address: Address, networks: Iterable[str]) -> bool:
    parsed = [ip_network(network) for network in networks]
    return any(form in network for form in _forms(address) for network in parsed)


def _forms(address: Address) -> Iterator[Address]:
    yield address
    inner = _embedded(address) if isinstance(address, IPv6Address) else None
    if inner is not None:
        yield inner


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside: mapped, compatible, translated (both ways), or 6to4's."""
    if any(address in network for network in _LAST_32_BITS):
        return IPv4Address(address.packed[12:])
    return IPv4Address(address.packed[2:6]) if address in _SIX_TO_FOUR else None
