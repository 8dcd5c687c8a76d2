"""Decide which hosts are reached through the operator's proxy.

`HTTPS_PROXY`, `NO_PROXY`; and how to use it.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Proxy(NamedTuple):
    """An HTTP proxy that opens tunnels with CONNECT.

    `authorization` is the whole value of `proxy-authorization`; `no_proxy` a comma list, see `bypasses`; `refusal` says
    why it cannot be used, where that is so: what would go through it is not sent past it.
    """

    host: str
    port: int
    authorization: str | None
    no_proxy: str
    refusal: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port}{' with credentials' if self.authorization else ''})"

    @classmethod
    def from_url(cls, url: str, no_proxy: str = "") -> Proxy:
        """Parse `http://[user:password@]host[:port]`.

        The scheme may be missing, the port is 80 by default.

        Raises ValueError for another scheme, a missing host or a bad port; the message never holds the credentials.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http":
            raise ValueError(f"the proxy's URL begins with {parts.scheme}://; only http:// proxies can be used")
        if not parts.hostname:
            raise ValueError("the proxy's URL names no host")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the proxy's URL has a port that is not a number from 0 to 65535") from None
        return cls(parts.hostname, 80 if port is None else port, _basic(parts.username, parts.password), no_proxy)

    def bypasses(self, host: str, port: int) -> bool:
        """Whether `no_proxy` names this host.

        Its entries: `*`; a host or domain, which also stands for everything below it, with or without a leading dot or
        `*.`; an IP address; a network as `10.0.0.0/8`. Each but `*` and networks may end in `:port`.
        """
        host = host.rstrip(".").lower()
        entries = (entry.strip().lower() for entry in self.no_proxy.split(","))
        return any(_matches(entry, host, port) for entry in entries if entry)


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(host, entry)
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != str(port):
        return False
    if (address := _address(host)) is not None:
        return address == _address(name)
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _split_port(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest[1:] if rest.startswith(":") else None
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_network(host: str, entry: str) -> bool:
    address = _address(host)
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address is not None and address in network
