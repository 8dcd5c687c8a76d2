"""A request's head holds one request only, whatever is put into it; and who is reached through the proxy."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.client import Proxy, request_head

TOKEN = st.from_regex(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}\Z")
TEXT = st.text(alphabet=st.characters(max_codepoint=0x17F), max_size=12)


def test_the_head_is_written_as_given() -> None:
    head = request_head(
        "POST", "/v1/x?a=%20", [("Host", "h:1"), ("x-tab", "a\tb"), ("x-latin", "\xe9"), ("x-empty", "")]
    )
    assert head == b"POST /v1/x?a=%20 HTTP/1.1\r\nHost: h:1\r\nx-tab: a\tb\r\nx-latin: \xe9\r\nx-empty: \r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("PO ST", "/", "a", "b"),
        ("", "/", "a", "b"),
        ("POST\n", "/", "a", "b"),
        ("POST", "", "a", "b"),
        ("POST", "/a b", "a", "b"),
        ("POST", "/\r\nx: y", "a", "b"),
        ("POST", "/é", "a", "b"),
        ("POST", "/", "", "b"),
        ("POST", "/", "a:b", "b"),
        ("POST", "/", "a\nb", "b"),
        ("POST", "/", "a ", "b"),
        ("POST", "/", "a", "b\r\nc: d"),
        ("POST", "/", "a", "b\n"),
        ("POST", "/", "a", "b\0"),
        ("POST", "/", "a", "b\x7f"),
        ("POST", "/", "a", "b\x85c"),
        ("POST", "/", "a", "€"),
    ],
)
def test_what_could_be_read_otherwise_is_refused(method: str, target: str, name: str, value: str) -> None:
    with pytest.raises(ValueError):
        request_head(method, target, [("host", "h"), (name, value)])


@pytest.mark.parametrize("secret", ["hunter2\n", "hunter2€"])
def test_a_refusal_names_no_value(secret: str) -> None:
    with pytest.raises(ValueError) as refusal:
        request_head("POST", "/", [("authorization", secret)])
    assert "hunter2" not in str(refusal.value)


@given(headers=st.lists(st.tuples(st.one_of(TOKEN, TEXT), TEXT), max_size=4), target=TEXT)
@settings(max_examples=300, deadline=None)
def test_whatever_is_accepted_is_one_request_with_just_these_headers(
    headers: list[tuple[str, str]], target: str
) -> None:
    try:
        head = request_head("GET", "/" + target, headers)
    except ValueError:
        return
    assert head.count(b"\n") == len(headers) + 2
    assert head.count(b"\r") == len(headers) + 2
    lines = head.split(b"\r\n")
    assert lines[0] == b"GET /" + target.encode() + b" HTTP/1.1"
    assert lines[1:-2] == [f"{name}: {value}".encode("latin-1") for name, value in headers]


def test_an_independent_parser_reads_the_same_headers() -> None:
    seen: list[tuple[bytes, bytes]] = []

    class Handler:
        def on_header(self, name: bytes, value: bytes) -> None:
            seen.append((name, value))

    httptools.HttpRequestParser(Handler()).feed_data(request_head("GET", "/", [("a", "b"), ("c-d", "e f")]))
    assert seen == [(b"a", b"b"), (b"c-d", b"e f")]


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "bypassed"),
    [
        ("", "a.test", 443, False),
        ("*", "a.test", 443, True),
        ("a.test", "a.test", 443, True),
        ("A.Test", "a.TEST.", 443, True),
        ("a.test", "b.a.test", 443, True),
        ("a.test", "ba.test", 443, False),
        (".a.test", "b.a.test", 443, True),
        (".a.test", "a.test", 443, True),
        ("*.a.test", "b.a.test", 443, True),
        (" x.test , a.test ", "a.test", 443, True),
        ("a.test:8443", "a.test", 443, False),
        ("a.test:8443", "a.test", 8443, True),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1", "10.0.0.10", 443, False),
        ("0.0.1", "10.0.0.1", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.test", 443, False),
        ("nonsense/8", "nonsense", 443, False),
        ("::1", "::1", 443, True),
        ("0:0::1", "::1", 443, True),
        ("[::1]", "::1", 443, True),
        ("[::1]:8443", "::1", 443, False),
        ("[::1]:443", "::1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        (",", "a.test", 443, False),
        (".", "a.test", 443, False),
    ],
)
def test_no_proxy_lists_hosts_domains_addresses_and_networks(
    no_proxy: str, host: str, port: int, bypassed: bool
) -> None:
    assert Proxy("p", 1, None, no_proxy).bypasses(host, port) is bypassed


def test_a_proxy_is_read_from_its_url_and_prints_no_credentials() -> None:
    proxy = Proxy.from_url("http://us%40er:pa%3Ass@proxy.test:3128/", "a.test")
    assert proxy[:2] == ("proxy.test", 3128)
    assert proxy.authorization == "Basic dXNAZXI6cGE6c3M="
    assert proxy.no_proxy == "a.test"
    assert "dXNA" not in f"{proxy!r} {proxy}"
    assert Proxy.from_url("proxy.test", "") == Proxy("proxy.test", 80, None, "")
    assert Proxy.from_url("http://[::1]:8080", "").host == "::1"


@pytest.mark.parametrize(
    "url", ["https://u:secret@p", "socks5://u:secret@p", "http://u:secret@", "http://u:secret@p:x"]
)
def test_a_proxys_url_that_cannot_be_used_is_refused_without_its_credentials(url: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Proxy.from_url(url, "")
    assert "secret" not in str(refusal.value)
