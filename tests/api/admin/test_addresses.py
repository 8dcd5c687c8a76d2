"""Where endpoints made at run time may lead: by every way of writing an address, when set and when connected to."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import orjson
import pytest
import trustme
from admin_kit import Admin, fresh
from hypothesis import given
from hypothesis import strategies as st
from kit import FakeUpstream, GatewayProcess, Wire, as_openai, ask, config, request_bytes
from kit.gateway import KEYS
from kit.stage import model, upstream_key
from servers.connect_proxy import proxying
from servers.loops import on_both_loops
from servers.scripted import Peer, Recorder, begin, closing, fetch, serving

from gateway.errors import ConnectFailed
from gateway.http.client import Origin, Proxy, Transport
from gateway.http.client.addresses import is_private, may_be_reached
from gateway.observability.logging import make_logger
from gateway.store.embedded import EmbeddedStore

PRIVATE_V4 = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip
PRIVATE_V6 = (
    "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "2001::1",
    "64:ff9b:1::1", "100::1", "3fff::1", "5f00::1", "4000::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808")


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PRIVATE_V6])
def test_what_is_not_public(address: str) -> None:
    """Loopback, private, link-local, shared, unspecified, multicast, reserved, metadata."""
    assert is_private(ipaddress.ip_address(address))
    assert not may_be_reached(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public(address: str) -> None:
    """Public addresses are let be, a public IPv4 one behind NAT64 among them."""
    assert may_be_reached(address, ())


@given(st.ip_addresses(v=4, network="0.0.0.0/0"), st.sampled_from(["64:ff9b::", "2002"]))
def test_what_is_inside_decides(inner: ipaddress.IPv4Address, way: str) -> None:
    """NAT64 and 6to4 lead to the IPv4 address inside, so they are as private as that is."""
    high, low = int(inner) >> 16, int(inner) & 0xFFFF
    text = f"64:ff9b::{high:x}:{low:x}" if way == "64:ff9b::" else f"2002:{high:x}:{low:x}::1"
    assert is_private(ipaddress.ip_address(text)) == is_private(inner)


@given(st.ip_addresses(v=4))
def test_mapped_addresses_are_never_public(inner: ipaddress.IPv4Address) -> None:
    """An IPv4 address in the guise of IPv6 is refused whatever it is, unless its range is let in."""
    for guise in (f"::ffff:{inner}", f"::{inner}", f"::ffff:0:{inner}"):
        assert not may_be_reached(guise, ())
        assert may_be_reached(guise, (f"{inner}/32",))


def test_ranges_that_are_let_in() -> None:
    """Exactly those, of both families."""
    assert may_be_reached("10.0.0.5", ("10.0.0.0/24",))
    assert not may_be_reached("10.0.1.5", ("10.0.0.0/24", "fd00::/8"))
    assert may_be_reached("fd00::1", ("10.0.0.0/24", "fd00::/8"))
    assert not may_be_reached("not an address", ("0.0.0.0/0",))


DISGUISES = (
    "127.0.0.1", "127.0.0.1.", "localhost.", "localhost", "LOCALHOST", "0x7f.1", "0x7f000001", "2130706433",
    "017700000001", "127.1",
    "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "169.254.169.254", "10.0.0.1", "100.64.1.1", "[fd00:ec2::254]", "[fe80::1]",
)  # fmt: skip


@pytest.mark.parametrize("host", DISGUISES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_private_addresses_are_refused_when_set(walled: Admin, host: str, scheme: str) -> None:
    """However it is written, by number or by name; the message names the field."""
    name = fresh("walled")
    body = {"name": name, "endpoints": [{"id": "a", "url": f"{scheme}://{host}:8000/v1"}]}
    message = await walled.refused("POST", "ai/models", body, status=400, code="endpoint_not_allowed")
    assert "endpoints[0].url" in message
    assert "private_endpoints" in message
    assert name not in str(await walled.get("ai/models"))


async def test_a_public_endpoint_does_not_become_a_private_one(walled: Admin) -> None:
    """PUT is held to the same rule as POST, for each endpoint; what cannot be resolved now is held to it later."""
    public = {"id": "a", "url": "https://1.1.1.1"}
    made = await walled.post("ai/models", {"name": fresh("public"), "endpoints": [public]})
    unknown = {"id": "b", "url": "https://no-such-host.invalid"}
    await walled.put(f"ai/models/{made['id']}", {"name": made["name"], "endpoints": [public, unknown]})
    both = {"name": made["name"], "endpoints": [public, {"id": "b", "url": "http://localhost:1"}]}
    message = await walled.refused("PUT", f"ai/models/{made['id']}", both, status=400, code="endpoint_not_allowed")
    assert "endpoints[1].url" in message


async def test_the_files_endpoints_go_where_operators_say(walled: Admin) -> None:
    """The rule is for records made at run time: gateway.yaml's models lead to this machine all the same."""
    assert (await walled.chat("listed")).status == 200


async def test_the_address_connected_to_is_what_counts(tmp_path: Path) -> None:
    """A record that came into the store past the routes, by number or by name, reaches nothing private."""
    upstream = await FakeUpstream.start(as_openai())
    inside = upstream.endpoint("inside")
    try:
        await _store_models(tmp_path / "data", inside.url)
        settings = config([model("listed", [{"id": "x", "url": inside.url, "api_key": upstream_key("x")}])])
        async with GatewayProcess.start(settings, tmp_path) as gateway:
            assert await _status(gateway, "listed") == 200
            for name in ("numeric", "named"):
                assert await _status(gateway, name) == 502
                told = await gateway.log(lambda line: line.get("model") == name and "why" in line)  # noqa: B023 - used within the turn
                assert "not allowed" in told["why"]
        assert len(inside.requests) == 1
    finally:
        await upstream.close()


async def _store_models(directory: Path, url: str) -> None:
    store = EmbeddedStore(directory, make_logger("json"))
    named = url.replace("127.0.0.1", "localhost")
    for name, leads_to in (("numeric", url), ("named", named)):
        record = {"name": name, "global": True, "endpoints": [{"id": "a", "url": leads_to}]}
        await store.put("model", name, orjson.dumps(record))
    await store.close()


async def _status(gateway: GatewayProcess, name: str) -> int:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name), key=KEYS["user"]))
        return (await wire.reply()).status


# -- the same at the transport, where a proxy may stand between

AUTHORITY = trustme.CA()


async def answers(peer: Peer) -> None:
    while True:
        await peer.answer()


def tls(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def public_only(origin: Origin, address: str) -> bool:
    return not origin.guarded or may_be_reached(address, ())


@on_both_loops
async def test_guarded_connections_are_their_own() -> None:
    """A guarded request never rides on a connection that was opened for an endpoint of gateway.yaml."""
    async with serving(answers) as server, closing(Transport(allow_address=public_only)) as transport:
        assert (await fetch(transport, server.origin)).body == b"ok"
        with pytest.raises(ConnectFailed, match="not allowed"):
            await begin(transport, server.origin._replace(guarded=True), Recorder())
        assert (await fetch(transport, server.origin)).body == b"ok"
        assert len(server.peers) == 1


@on_both_loops
async def test_behind_a_proxy_a_guarded_name_is_resolved_here() -> None:
    """A name that leads to a private address is not asked of the proxy either; and where it may be reached, the proxy
    is asked for the very address that was looked at, so that it cannot resolve the name to another one.
    """
    async with proxying() as proxy, serving(answers, tls("localhost")) as server:
        through = Proxy("127.0.0.1", proxy.port, None, "")
        named = Origin("https", "localhost", server.origin.port, guarded=True)
        async with closing(Transport(proxy=through, allow_address=public_only)) as transport:
            with pytest.raises(ConnectFailed, match="not allowed"):
                await begin(transport, named, Recorder())
            assert proxy.requests == []
        async with closing(
            Transport(proxy=through, ssl_context=trusting(), allow_address=lambda _, ip: ip == "127.0.0.1")
        ) as transport:
            assert (await fetch(transport, named)).body == b"ok"
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{server.origin.port} ".encode())
