"""The corners of HTTP where real clients stand: 1.0, nginx, HEAD, 100-continue, pipelining, keep-alive."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kit import DONE, KEYS, Stage, Wire, ask, assert_error, events, request_bytes
from kit.answers import delta, upstream_error
from kit.nginx import nginx
from kit.stage import FreshModel

CHAT = "/v1/chat/completions"


def chat_request(model: FreshModel, *, version: str = "1.1", **fields: object) -> bytes:
    return request_bytes("POST", CHAT, model.chat(**fields), key=KEYS["user"], version=version)


async def assert_event_by_event(port: int, model: FreshModel, version: str = "1.1") -> None:
    """The upstream sends each event only after the client has the one before: a proxy that buffers never gets on."""
    gates = [asyncio.Event() for _ in range(5)]
    steps = [step for number, gate in enumerate(gates) for step in (delta(str(number)), gate)]
    model.a.replies(events(*steps, DONE))
    async with Wire.open(port) as wire:
        await wire.send(chat_request(model, stream=True, version=version))
        head = await wire.head()
        assert head.status == 200
        if version == "1.0":
            assert head.header("transfer-encoding") is None
            assert head.header("content-length") is None
        for number, gate in enumerate(gates):
            assert await wire.event() == delta(str(number))
            gate.set()
        assert await wire.event() == DONE
        assert await wire.event() == b""


async def test_an_http_1_0_client_gets_its_stream_event_by_event(stage: Stage) -> None:
    """The body ends with the connection, and nothing of HTTP/1.1's framing is in it."""
    await assert_event_by_event(stage.port, stage.model(), version="1.0")


async def test_an_http_1_0_client_gets_a_plain_answer(stage: Stage) -> None:
    """With its length, and the connection ends where the client did not ask to keep it."""
    async with Wire.open(stage.port) as wire:
        await wire.send(chat_request(stage.model(), version="1.0"))
        reply = await wire.reply()
        assert reply.status == 200
        assert reply.header("content-length") == str(len(reply.body))
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    "settings",
    ["", "proxy_buffering on;", "proxy_http_version 1.1; proxy_set_header Connection '';", "gzip on; gzip_types *;"],
    ids=["defaults", "buffering on", "1.1", "gzip"],
)
async def test_behind_nginx_streams_arrive_event_by_event(stage: Stage, tmp_path: Path, settings: str) -> None:
    """With nginx's default proxy settings, and with those that operators like to set."""
    async with nginx(stage.port, tmp_path, settings) as port:
        await assert_event_by_event(port, stage.model())


async def test_behind_nginx_a_client_that_leaves_is_noticed(stage: Stage, tmp_path: Path) -> None:
    """nginx closes its connection to us when its client has gone, and so do we to the upstream."""
    model = stage.model()
    model.a.replies(events(delta("one"), asyncio.Event()))
    async with nginx(stage.port, tmp_path) as port, Wire.open(port) as wire:
        await wire.send(chat_request(model, stream=True))
        await wire.head()
        await wire.event()
        wire.reset()
        await model.a.requests[0].until_closed()


# --- methods


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", "/v1/embeddings", {"POST"}),
        ("PUT", CHAT, {"GET", "POST"}),
        ("DELETE", "/api/ai/openai/v1/embeddings", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("PATCH", "/v1/models/some/name", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(stage: Stage, method: str, target: str, allowed: set[str]) -> None:
    """405 with `allow`; and the connection is good for the next request."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, key=KEYS["user"]))
        reply = await wire.reply()
        assert (reply.status, reply.error()["code"]) == (405, "method_not_allowed")
        assert {each.strip() for each in (reply.header("allow") or "").split(",")} - {"HEAD"} == allowed - {"HEAD"}
        await wire.send(chat_request(stage.model()))
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize(
    ("target", "base"),
    [("/chat/completions", "/v1"), ("/v1/v1/chat/completions", "/v1"), ("/api/ai/openai/models", "/api/ai/openai/v1")],
)
async def test_a_base_url_that_is_nearly_right_is_corrected(stage: Stage, target: str, base: str) -> None:
    """Most mistakes of a first day are a `/v1` too many or too few: 404, with what to set instead."""
    for proto, scheme in (((), "http"), ([("x-forwarded-proto", "https")], "https")):
        async with Wire.open(stage.port) as wire:
            await wire.send(request_bytes("POST", target, ask(), key=KEYS["user"], headers=proto))
            reply = await wire.reply()
        assert_error(reply, 404, "not_found")
        assert f"{scheme}://gateway.test{base}" in reply.error()["message"]


@pytest.mark.parametrize("target", ["/api/ai/usage", "/api/ai/usage/export.csv", "/api/soc/usage/user/42/export.csv"])
async def test_head_of_a_report_is_a_head_alone(stage: Stage, target: str) -> None:
    """And leaves nothing on the connection: no body, no chunk."""
    async with Wire.open(stage.port) as wire:
        for _ in range(2):
            await wire.send(request_bytes("HEAD", target, key=KEYS["user"]))
            head = await wire.reply(bodiless=True)
            assert (head.status, head.header("content-length")) == (200, None)
        await wire.send(request_bytes("HEAD", f"{target}?from=never", key=KEYS["user"]))
        assert (await wire.reply(bodiless=True)).status == 400
        await wire.send(request_bytes("GET", target, key=KEYS["user"]))
        assert (await wire.reply()).header("content-type") == head.header("content-type")


async def test_head_has_a_head_and_no_body(stage: Stage) -> None:
    """HEAD of a route that answers POST alone is refused without a body; of a page with GET it has GET's length."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("HEAD", "/v1/embeddings", key=KEYS["user"]))
        assert (await wire.reply(bodiless=True)).status == 405
        await wire.send(request_bytes("GET", "/healthz") + request_bytes("HEAD", "/healthz"))
        full, bare = await wire.reply(), await wire.reply(bodiless=True)
        assert (bare.status, bare.header("content-length")) == (200, full.header("content-length"))
        await wire.send(chat_request(stage.model()))
        assert (await wire.reply()).status == 200, "no byte of a body was left on the connection"


# --- 100-continue


async def test_a_body_is_asked_for_after_the_key_is_good(stage: Stage) -> None:
    """`expect: 100-continue` gets its 100 when the caller is known, then the answer."""
    body = chat_request(stage.model()).partition(b"\r\n\r\n")[2]
    async with Wire.open(stage.port) as wire:
        await wire.send(_expecting(KEYS["user"], len(body)))
        assert (await wire.any_head()).status == 100
        await wire.send(body)
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize(
    ("key", "length", "status"),
    [("sk-nobody-knows-this-key", 100, 401), (KEYS["reader"], 100, 403), (KEYS["user"], 33 << 20, 413)],
)
async def test_strangers_are_not_asked_for_their_body(stage: Stage, key: str, length: int, status: int) -> None:
    """Whoever will be refused may keep the body: the refusal comes instead of the 100."""
    async with Wire.open(stage.port) as wire:
        await wire.send(_expecting(key, length))
        assert (await wire.any_head()).status == status


def _expecting(key: str, length: int) -> bytes:
    headers = [("expect", "100-continue"), ("content-length", str(length))]
    return request_bytes("POST", CHAT, key=key, headers=headers)


# --- connections


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    """Three requests in one write: three answers, in their order, a stream among them."""
    first, second, third = (stage.model() for _ in range(3))
    second.a.replies(events(delta("one"), DONE))
    async with Wire.open(stage.port) as wire:
        await wire.send(chat_request(first) + chat_request(second, stream=True) + chat_request(third))
        assert (await wire.reply()).json()["model"] == first.provider_name
        assert (await wire.reply()).body == delta("one") + DONE
        assert (await wire.reply()).json()["model"] == third.provider_name


async def test_a_connection_survives_errors(stage: Stage) -> None:
    """Errors of every kind on one connection, each read whole, and a good answer after them."""
    broken = stage.model()
    broken.a.always(upstream_error(500))
    requests = [
        (request_bytes("POST", CHAT, b"{", key=KEYS["user"]), 400),
        (request_bytes("POST", CHAT, {}), 401),
        (request_bytes("POST", CHAT, {}, key=KEYS["reader"]), 403),
        (request_bytes("GET", "/nowhere", key=KEYS["user"]), 404),
        (chat_request(broken), 502),
        (chat_request(broken, stream=True), 502),
        (chat_request(stage.model()), 200),
    ]
    async with Wire.open(stage.port) as wire:
        for request, status in requests:
            await wire.send(request)
            assert (await wire.reply()).status == status


async def test_the_gateway_keeps_its_upstream_connections(stage: Stage) -> None:
    """Requests one after another share a connection; an upstream that closes it costs nobody an error."""
    model = stage.model()
    for _ in range(3):
        assert (await stage.post(model.chat())).status == 200
    first, *others = model.a.requests
    assert all(other.connection is first.connection for other in others)
    for connection in list(stage.upstream.connections):
        connection.transport.close()
    reply = await stage.post(model.chat())
    assert (reply.status, reply.header("x-gateway-attempts")) == (200, "1")


async def test_a_chunked_request_is_read(stage: Stage) -> None:
    """Clients may send their body in chunks; the upstream gets it with its length."""
    model = stage.model()
    body = chat_request(model).partition(b"\r\n\r\n")[2]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")])
    async with Wire.open(stage.port) as wire:
        await wire.send(
            head + b"5\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\ntrailer: 1\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
        )
        assert (await wire.reply()).status == 200
    assert model.a.requests[0].header("content-length") is not None
    assert model.a.requests[0].header("trailer") is None


@pytest.mark.parametrize("wanted", ["h2c", "websocket"])
async def test_an_upgrade_that_nobody_grants_is_no_more_than_a_header(stage: Stage, wanted: str) -> None:
    """Some clients (Java's, curl --http2) offer HTTP/2 with their first request: it is answered, and so is the next."""
    headers = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", wanted), ("http2-settings", "AAMAAABk")]
    first = request_bytes("POST", CHAT, stage.model().chat(), key=KEYS["user"], headers=headers)
    async with Wire.open(stage.port) as wire:
        await wire.send(first)
        assert (await wire.reply()).status == 200
        await wire.send(chat_request(stage.model()))
        assert (await wire.reply()).status == 200


async def test_a_query_of_the_clients_stays_here(stage: Stage) -> None:
    """Clients made for other providers add one (`api-version`): it disturbs nobody and does not go upstream."""
    model = stage.model()
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", CHAT + "?api-version=7", model.chat(), key=KEYS["user"]))
        assert (await wire.reply()).status == 200
    assert model.a.requests[0].target.endswith("/v1/chat/completions")


async def test_a_body_that_nobody_needed_is_not_taken_for_a_request(stage: Stage) -> None:
    """After a GET with a body and a refusal with 5 MB of it, the next request on the connection is the next request."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", "/v1/models", chat_request(stage.model()), key=KEYS["user"]))
        await wire.send(request_bytes("POST", CHAT, b"{" + b" " * (5 << 20)))
        await wire.send(chat_request(stage.model()))
        assert [(await wire.reply()).status for _ in range(3)] == [200, 401, 200]


# --- what could come from somebody else behind a shared proxy


@pytest.mark.parametrize("together", [True, False], ids=["one write", "two writes"])
async def test_a_trailer_never_becomes_a_field_of_the_next_request(stage: Stage, together: bool) -> None:
    """aiohttp's parser would put it there: with `authorization`, one client could ask in the name of another."""
    body = chat_request(stage.model()).partition(b"\r\n\r\n")[2]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")])
    first = head + b"%x\r\n%s\r\n0\r\nx-request-id: planted\r\n\r\n" % (len(body), body)
    second = request_bytes("GET", "/v1/models", key=KEYS["user"])
    async with Wire.open(stage.port) as wire:
        await wire.send(first + second if together else first)
        reply = await wire.reply()
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert await wire.ended() == b""
    assert not [line for line in stage.gateway.logs if line.get("client_request_id") == "planted"]


async def test_a_chunked_request_without_trailers_keeps_its_connection(stage: Stage) -> None:
    """Several of them, one after the other, in two reads each."""
    body = chat_request(stage.model()).partition(b"\r\n\r\n")[2]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")])
    async with Wire.open(stage.port) as wire:
        for _ in range(3):
            await wire.send(head + b"%x\r\n%s\r\n0\r" % (len(body), body))
            await stage.get("/healthz")  # when this is answered, the first part has been read
            await wire.send(b"\n\r\n")
            assert (await wire.reply()).status == 200


async def test_a_body_that_ends_early_is_told_at_once(stage: Stage) -> None:
    """A FIN in the middle of it: nobody waits for `body` seconds until the rest comes, which never will."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", CHAT, key=KEYS["user"], headers=[("content-length", "100")]) + b"{")
        wire.half_close()
        reply = await wire.reply()
        assert (reply.status, reply.error()["code"]) == (400, "invalid_http")
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    "lines",
    [
        b"host: x\r\ntransfer-encoding: gzip, chunked\r\n",
        b"host: x\r\ntransfer-encoding:\r\ncontent-length: 4\r\n",
        b"host: a b/c@d\r\ncontent-length: 4\r\n",
    ],
    ids=["a coding nobody undoes", "an empty coding", "no host"],
)
async def test_a_head_with_two_meanings_is_refused(stage: Stage, lines: bytes) -> None:
    """As RFC 9112 and nginx have it; the connection ends."""
    async with Wire.open(stage.port) as wire:
        key = f"authorization: Bearer {KEYS['user']}\r\n".encode()
        await wire.send(b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + key + lines + b"\r\n4\r\nabcd\r\n0\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.error()["code"]) == (400, "invalid_http")
        assert await wire.ended() == b""
