"""A malicious upstream's headers: none of them steers the client, a proxy before us, or the gateway itself."""

from __future__ import annotations

import asyncio

import pytest
from attacks_kit import assert_serves
from kit import DONE, Reply, Stage, assert_error, events
from kit.answers import answer, delta, full, head, raw

# Each would do something, to a browser or to an nginx in front of us, if it were passed on.
DANGEROUS = {
    "x-accel-redirect": "/internal/secrets",
    "x-accel-expires": "31536000",
    "x-accel-buffering": "yes",
    "x-accel-limit-rate": "1",
    "x-sendfile": "/etc/passwd",
    "x-lighttpd-send-file": "/etc/passwd",
    "x-reproxy-url": "http://127.0.0.1/",
    "set-cookie": "session=evil; Domain=example.com",
    "alt-svc": 'h3="evil.test:443"; ma=2592000',
    "refresh": "0; url=http://evil.test/",
    "location": "http://169.254.169.254/latest/meta-data/",
    "link": "<http://evil.test/>; rel=preload",
    "strict-transport-security": "max-age=31536000",
    "clear-site-data": '"*"',
    "content-security-policy": "default-src *",
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "service-worker-allowed": "/",
    "www-authenticate": 'Basic realm="evil"',
    "proxy-authenticate": "Basic",
    "server": "evil/1.0",
    "via": "1.1 evil",
    "x-gateway-model": "another",
    "x-gateway-attempts": "99",
    "x-ratelimit-remaining-requests": "0",
    "retry-after": "3600",
    "x-should-retry": "true",
    "server-timing": "evil;dur=1",
    "cache-control": "public, max-age=31536000",
    "etag": '"evil"',
    "vary": "*",
    "trailer": "x-evil",
    "upgrade": "websocket",
    "keep-alive": "timeout=100000",
    "proxy-connection": "keep-alive",
    "te": "trailers",
    "x-foo": "1",
    "connection": "x-foo, keep-alive",
}
OURS = {"x-gateway-model", "x-gateway-attempts", "server-timing", "cache-control", "x-accel-buffering"}


def assert_harmless(reply: Reply) -> None:
    """Only names that the contract lists, each once, and none with the upstream's value."""
    names = [name for name, _ in reply.headers]
    assert len(names) == len(set(names))
    assert set(names).intersection(DANGEROUS) <= OURS
    assert not [name for name, value in reply.headers if DANGEROUS.get(name) == value]


@pytest.mark.parametrize("status", [200, 400, 418, 422])
async def test_no_header_of_an_upstreams_steers_anybody(stage: Stage, status: int) -> None:
    """Of answers and of refusals alike; a set of names that pass, not one of names that do not."""
    model = stage.model()
    model.a.replies(answer(status, b'{"fine":1}', DANGEROUS.items()))
    reply = await stage.post(model.chat())
    assert (reply.status, reply.body) == (status, b'{"fine":1}')
    assert reply.header("x-gateway-model") == model.name
    assert_harmless(reply)


async def test_nor_does_any_of_a_streams(stage: Stage) -> None:
    model = stage.model()
    model.a.replies(events(delta("fine"), DONE, headers=DANGEROUS.items()))
    reply = await stage.post(model.chat(stream=True))
    assert reply.body == delta("fine") + DONE
    assert (reply.header("cache-control"), reply.header("x-accel-buffering")) == ("no-cache", "no")
    assert_harmless(reply)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_redirect_is_neither_followed_nor_relayed(stage: Stage, status: int, stream: bool) -> None:
    """Wherever it points: to a private address, to another endpoint of ours. The client hears of no address."""
    model, elsewhere = stage.model(), stage.model()
    accepted = stage.upstream.accepted
    model.a.always(answer(status, b'{"moved":1}', [("location", elsewhere.a.url + "/chat/completions")]))
    reply = await stage.post(model.chat(stream=stream))
    assert_error(reply, 502, "upstream_error")
    assert elsewhere.a.url.encode() not in reply.body
    assert_harmless(reply)
    assert (model.asked(), elsewhere.asked()) == ([1], [0])
    assert stage.upstream.accepted <= accepted + 1
    await stage.gateway.log(lambda line: "redirects" in line["event"] and line.get("model") == model.name)


SPLITTING = {
    "a bare CR": b"content-type: application/json\rx-evil: 1",
    "a bare LF": b"content-type: application/json\nx-evil: 1",
    "a NUL": b"content-type: application/json\0",
    "a folded line": b"content-type: application/json\r\n x-evil: 1",
    "an escape": b"content-type: \x1b[2Japplication/json",
}


@pytest.mark.parametrize("line", SPLITTING.values(), ids=SPLITTING)
async def test_no_header_value_splits_the_clients_answer(stage: Stage, line: bytes) -> None:
    """What could be read as another header, or as another answer, is a failed attempt or one harmless value."""
    model = stage.model()
    model.a.always(raw(b"HTTP/1.1 200 OK\r\n" + line + b'\r\ncontent-length: 10\r\n\r\n{"fine":1}'))
    reply = await stage.post(model.chat())
    assert reply.status in (200, 502)
    assert reply.header("x-evil") is None
    assert all(value.isprintable() or value.replace("\x1b", "").isprintable() for _, value in reply.headers)
    await assert_serves(stage)


async def test_a_request_id_of_an_upstreams_keeps_its_own_name(stage: Stage) -> None:
    """It cannot pass for ours, and there is one, however many it sends."""
    model = stage.model()
    model.a.replies(answer(200, b"{}", [("x-request-id", "evil-1"), ("x-request-id", "evil-2")]))
    reply = await stage.post(model.chat())
    assert reply.all("x-upstream-request-id") == ["evil-1"]
    assert reply.all("x-request-id") != ["evil-1"]


async def test_a_change_of_protocol_that_nobody_asked_for_is_a_failed_attempt(stage: Stage) -> None:
    """101 would leave a tunnel to the upstream behind."""
    model = stage.model()
    switching = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    model.a.always(raw(switching, asyncio.Event()))
    assert_error(await stage.post(model.chat()), 502, "upstream_error")


@pytest.mark.parametrize("count", [100, 5_000])
async def test_a_head_full_of_headers_is_dropped_or_refused_but_never_relayed(stage: Stage, count: int) -> None:
    """Each line costs something; beyond the head's bound it is a failed attempt."""
    model = stage.model()
    lines = [(f"x-many-{number}", "y" * 20) for number in range(count)]
    model.a.always(raw(full(200, b"{}", lines)))
    reply = await stage.post(model.chat())
    assert reply.status == (200 if count == 100 else 502)
    assert len(reply.headers) < 20


async def test_a_head_that_never_ends_is_cut_off(stage: Stage) -> None:
    """Well before it fills the memory: the upstream is hung up on after 64 KB or a little more."""
    model = stage.model()
    model.a.always(raw(head(200, [])[:-2], *[b"x-more: " + b"m" * 8_000 + b"\r\n"] * 4_000))
    assert_error(await stage.post(model.chat()), 502, "upstream_error")
    request = model.a.requests[0]
    await request.until_closed()
    assert request.sent_bytes < 16_000_000
