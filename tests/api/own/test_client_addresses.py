"""Whence a key may be used, and whom trusted proxies name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import KEYS, Stage, ask
from multidict import CIMultiDict

from gateway.access.client_address import Forwarded, client_address, is_within

KEYED = [{"id": "user", "user": 42, "key": KEYS["user"], "ips": ["203.0.113.0/24", "2001:db8::/32"]}]


@pytest.mark.parametrize(
    ("trusted", "headers", "status"),
    [
        ([], [], 403),
        ([], [("x-forwarded-for", "203.0.113.9")], 403),
        (["127.0.0.1/32"], [("x-forwarded-for", "203.0.113.9")], 200),
        (["127.0.0.1/32"], [("x-forwarded-for", "203.0.113.9, 198.51.100.1")], 403),
        (["127.0.0.0/8", "198.51.100.0/24"], [("x-forwarded-for", "203.0.113.9, 198.51.100.1")], 200),
        (["127.0.0.1/32"], [("forwarded", 'for="[2001:db8::7]:4711";proto=https')], 200),
        (["127.0.0.1/32"], [("x-forwarded-for", "nonsense")], 403),
    ],
)
async def test_a_key_is_for_some_addresses(
    tmp_path: Path, trusted: list[str], headers: list[tuple[str, str]], status: int
) -> None:
    server: dict[str, Any] = {"trusted_proxies": trusted}
    async with Stage.open(tmp_path, server=server, keys=KEYED) as stage:
        reply = await stage.post(ask(stage.model().name), headers=headers)
        assert reply.status == status
        if status == 403:
            assert reply.error()["code"] == "ip_not_allowed"
        line = await stage.gateway.log(lambda line: line.get("path") == "/v1/chat/completions")
        if status == 200:
            assert line["client"].startswith(("203.0.113.", "2001:db8:"))


@given(st.lists(st.ip_addresses().map(str), max_size=5))
def test_only_what_trusted_proxies_say_is_believed(hops: list[str]) -> None:
    """Without trusted proxies it is the peer; with all of them trusted, the farthest hop."""
    forwarded = Forwarded.of(CIMultiDict([("x-forwarded-for", ", ".join(hops))]))
    assert client_address("192.0.2.1", forwarded, ()) == "192.0.2.1"
    everybody = ("0.0.0.0/0", "::/0")
    assert client_address("192.0.2.1", forwarded, everybody) == (hops[0].partition("%")[0] if hops else "192.0.2.1")


@given(st.text(max_size=200))
def test_no_word_of_a_proxy_breaks_anything(text: str) -> None:
    header = text.replace("\r", "").replace("\n", "")
    for name in ("x-forwarded-for", "forwarded", "x-forwarded-proto"):
        client_address("192.0.2.1", Forwarded.of(CIMultiDict([(name, header)])), ("0.0.0.0/0", "::/0"))


def test_mapped_addresses_are_those_that_they_map() -> None:
    assert is_within("::ffff:10.0.0.7", ["10.0.0.0/8"])
    assert not is_within("10.0.0.7", ["::/0"])
    assert not is_within("nobody", ["0.0.0.0/0"])
