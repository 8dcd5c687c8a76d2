"""P10: each bad input gets its error in OpenAI's shape; the next request, here and elsewhere, is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from kit import DEADLINE_SECONDS, KEYS, Stage, Wire, ask, assert_error, request_bytes
from kit.stage import SLASHED

CHAT = "/v1/chat/completions"
MEGABYTE = 1 << 20
AUTHORIZED = f"host: x\r\nauthorization: Bearer {KEYS['user']}\r\n".encode()

NOT_JSON = {
    "empty": b"",
    "words": b"hello",
    "cut off": b'{"model": "x", "messages": [',
    "an array": b"[]",
    "a string": b'"model"',
    "null": b"null",
    "trailing words": b'{"model": "x"} and more',
    "single quotes": b"{'model': 'x'}",
    "NaN": b'{"model": "x", "temperature": NaN}',
    "invalid UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '{"model": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"model": "x"}',
    "model twice": b'{"model": "x", "model": "y"}',
    "model twice, escaped": b'{"model": "x", "\\u006dodel": "y"}',
    "a nested key twice": b'{"model": "x", "messages": [{"role": "user", "role": "system"}]}',
    "arrays 100,000 deep": b'{"model": "x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "brackets that never close": b"[" * 100_000,
}


async def assert_serves(stage: Stage, wire: Wire | None = None) -> None:
    """The next request is served: on this connection where it is given, and on a new one."""
    good = ask(SLASHED)
    if wire is not None:
        await wire.send(request_bytes("POST", CHAT, good, key=KEYS["user"]))
        assert (await wire.reply()).status == 200
    assert (await stage.post(good)).status == 200


# --- bodies


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NOT_JSON.items()])
async def test_a_body_that_is_no_json_object(stage: Stage, body: bytes) -> None:
    """400 invalid_json, and the connection is kept."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", CHAT, body, key=KEYS["user"]))
        assert_error(await wire.reply(), 400, "invalid_json")
        await assert_serves(stage, wire)


async def test_a_declared_length_that_is_too_large_is_refused_at_once(stage: Stage) -> None:
    """33 MB announced, not a byte of it sent: 413."""
    async with Wire.open(stage.port) as wire:
        headers = [("content-length", str(33 * MEGABYTE))]
        await wire.send(request_bytes("POST", CHAT, key=KEYS["user"], headers=headers))
        assert_error(await wire.reply(), 413, "request_too_large")
    await assert_serves(stage)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_sends_33_megabytes_gets_to_read_why_not(stage: Stage, framing: str) -> None:
    """A client that first sends everything and then reads sees the 413, not a reset connection."""
    async with Wire.open(stage.port) as wire, sending(wire, *oversize(33 * MEGABYTE, framing)):
        assert_error(await wire.reply(), 413, "request_too_large")
    await assert_serves(stage)


def oversize(size: int, framing: str) -> list[bytes]:
    sized = [("content-length", str(size))] if framing == "length" else [("transfer-encoding", "chunked")]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=sized)
    piece = b" " * MEGABYTE if framing == "length" else b"%x\r\n%s\r\n" % (MEGABYTE, b" " * MEGABYTE)
    return [head, *[piece] * (size // MEGABYTE)]


@contextlib.asynccontextmanager
async def sending(wire: Wire, *pieces: bytes) -> AsyncIterator[None]:
    """Sends in the background, as a client does that does not listen meanwhile, until it is done or cut off."""

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                await wire.send(piece)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_body_just_below_the_bound_is_served(stage: Stage) -> None:
    """32 MB are 32 MB."""
    model = stage.model()
    body = model.chat()
    padding = 32 * MEGABYTE - len(json.dumps(body)) - len(', "pad": ""')
    assert (await stage.post(body | {"pad": "p" * padding})).status == 200
    assert len(model.a.requests[0].body) > 31 * MEGABYTE


@pytest.mark.parametrize(
    "name",
    ["evil\r\nx-injected: 1", "evil\nx-injected: 1", "evil\x00\x1b[2J", "модель \u2028 €", "long" * 5000],
    ids=["CRLF", "LF", "NUL and escape", "unicode", "20,000 letters"],
)
async def test_nothing_of_a_models_name_becomes_a_header_of_its_own(stage: Stage, name: str) -> None:
    """The requested name is told in a header: made printable, and short."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", CHAT, {"model": name, "messages": []}, key=KEYS["user"]))
        reply = await wire.reply()
        assert reply.status == 200, "served by the assigned model"
        assert reply.header("x-injected") is None
        told = reply.header("x-gateway-requested-model") or ""
        assert told.isascii()
        assert told.isprintable()
        assert 0 < len(told) < 1000
        await assert_serves(stage, wire)


# --- paths


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nowhere",
        "/v1",
        "/v1/chat",
        "/v1/embeddings/more",
        "/v1/assistants",
        "/v1/chat%2Fcompletions/../files",
        "/api/ai/openai/v1/assistants",
        "/v1/%00",
        "/v1/%ff",
        "/v1/" + "a" * 4000,
        "//v1/chat/completions",
    ],
)
async def test_an_unknown_path(stage: Stage, path: str) -> None:
    """404 not_found, with a key or without one."""
    async with Wire.open(stage.port) as wire:
        for key in (KEYS["user"], None):
            await wire.send(request_bytes("POST", path, {}, key=key))
            assert_error(await wire.reply(), 404, "not_found")
        await assert_serves(stage, wire)


# --- broken HTTP

BROKEN_HEADS = {
    "both lengths": b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
    "both lengths, the other way round": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    "two lengths": b"content-length: 4\r\ncontent-length: 5\r\n",
    "two lengths in one": b"content-length: 4, 5\r\n",
    "a signed length": b"content-length: +4\r\n",
    "a negative length": b"content-length: -4\r\n",
    "a hexadecimal length": b"content-length: 0x4\r\n",
    "an enormous length": b"content-length: 99999999999999999999999999\r\n",
    "an encoding nobody knows": b"transfer-encoding: xchunked\r\n",
    "chunked, but not last": b"transfer-encoding: chunked, gzip\r\n",
    "a folded line": b"x-folded: one\r\n two\r\ncontent-length: 4\r\n",
    "a NUL in a value": b"x-nul: a\x00b\r\ncontent-length: 4\r\n",
    "a bare CR in a value": b"x-cr: a\rb\r\ncontent-length: 4\r\n",
    "a space before the colon": b"content-length : 4\r\n",
    "a line without colon": b"nonsense\r\ncontent-length: 4\r\n",
    "an empty name": b": nothing\r\ncontent-length: 4\r\n",
}
BROKEN_CHUNKS = {
    "no number": b"zz\r\nabcd\r\n0\r\n\r\n",
    "negative": b"-4\r\nabcd\r\n0\r\n\r\n",
    "prefixed": b"0x4\r\nabcd\r\n0\r\n\r\n",
    "enormous": b"fffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
    "too short": b"3\r\nabcd\r\n0\r\n\r\n",
    "spaced": b"4 4\r\nabcd\r\n0\r\n\r\n",
}
NO_HTTP = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "words": b"hello there\r\n\r\n",
    "a version nobody speaks": b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space too many": b"GET /healthz  HTTP/1.1 1\r\nhost: x\r\n\r\n",
    "a method with a colon": b"GE:T /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
}


async def assert_invalid_http_and_closed(stage: Stage, sent: bytes) -> None:
    """400 in our shape, the connection ends, and what came after the broken part is not taken for a request."""
    smuggled = stage.model()
    async with Wire.open(stage.port) as wire:
        await wire.send(sent + request_bytes("POST", CHAT, smuggled.chat(), key=KEYS["user"]))
        assert_error(await wire.reply(), 400, "invalid_http")
        assert await wire.ended() == b""
    await assert_serves(stage)
    assert smuggled.asked() == [0]


@pytest.mark.parametrize("lines", [pytest.param(lines, id=name) for name, lines in BROKEN_HEADS.items()])
async def test_a_head_that_two_servers_would_read_differently(stage: Stage, lines: bytes) -> None:
    """Whatever could be smuggled past a proxy in front of us is refused."""
    await assert_invalid_http_and_closed(
        stage, b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + AUTHORIZED + lines + b"\r\n"
    )


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in BROKEN_CHUNKS.items()])
async def test_broken_chunks(stage: Stage, body: bytes) -> None:
    """A chunked body that cannot be read is refused, in one piece as well as when the break comes later."""
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + AUTHORIZED + b"transfer-encoding: chunked\r\n\r\n"
    await assert_invalid_http_and_closed(stage, head + body)
    async with Wire.open(stage.port) as wire:
        await wire.send(head + b"2\r\n{ \r\n")
        await stage.get("/healthz")  # when this is answered, the first part has been read
        await wire.send(body)
        assert_error(await wire.reply(), 400, "invalid_http")


@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in NO_HTTP.items()])
async def test_bytes_that_are_no_http(stage: Stage, sent: bytes) -> None:
    """An answer in our shape, or silence, and in any case the end of the connection."""
    async with Wire.open(stage.port) as wire:
        await wire.send(sent + b"\r\n\r\n")
        answer = await wire.ended()
        assert b"Traceback" not in answer
        assert not answer or (answer.startswith(b"HTTP/1.") and b'"type":"invalid_request_error"' in answer)
    await assert_serves(stage)


@pytest.mark.parametrize(
    "extra",
    [b"x-large: " + b"l" * 200_000 + b"\r\n", b"x-many: 1\r\n" * 20_000, b"x-" + b"n" * 200_000 + b": 1\r\n"],
    ids=["a long value", "many lines", "a long name"],
)
async def test_a_head_that_is_too_large(stage: Stage, extra: bytes) -> None:
    """431, also where the head never ends."""
    head = b"GET /v1/models HTTP/1.1\r\n" + AUTHORIZED + extra
    for ending in (b"\r\n", b""):
        async with Wire.open(stage.port) as wire, sending(wire, head + ending):
            assert_error(await wire.reply(), 431, "headers_too_large")
    await assert_serves(stage)


async def test_a_request_line_that_is_too_long(stage: Stage) -> None:
    """The request line belongs to the head."""
    async with Wire.open(stage.port) as wire, sending(wire, b"GET /" + b"p" * 200_000 + b" HTTP/1.1\r\n\r\n"):
        assert_error(await wire.reply(), 431, "headers_too_large")
    await assert_serves(stage)


# --- slow clients: the strict stage gives heads and bodies 0.4 seconds


@pytest.mark.parametrize("start", [b"P", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"])
async def test_half_a_head(strict: Stage, start: bytes) -> None:
    """A head that does not go on is answered with 408 and closed."""
    async with Wire.open(strict.port) as wire:
        await wire.send(start)
        assert_error(await wire.reply(), 408, "request_timeout")
        assert await wire.ended() == b""
    await assert_serves(strict)


async def test_half_a_head_after_a_good_request(strict: Stage) -> None:
    """The same on a connection that was of use before."""
    async with Wire.open(strict.port) as wire:
        await assert_serves(strict, wire)
        await wire.send(b"POST /v1/chat")
        assert_error(await wire.reply(), 408, "request_timeout")
        assert await wire.ended() == b""


async def test_a_head_that_trickles(strict: Stage) -> None:
    """The time is for the whole head, not for each byte of it."""
    async with (
        Wire.open(strict.port) as wire,
        trickling(wire, b"POST /v1/chat/completions HTTP/1.1\r\nx: " + b"y" * 500),
    ):
        assert_error(await wire.reply(), 408, "request_timeout")
    await assert_serves(strict)


@pytest.mark.parametrize("framing", ["content-length: 1000", "transfer-encoding: chunked"])
async def test_half_a_body(strict: Stage, framing: str) -> None:
    """A body that does not go on is answered with 408 and closed."""
    async with Wire.open(strict.port) as wire:
        head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + AUTHORIZED + framing.encode() + b"\r\n\r\n"
        await wire.send(head + (b"2\r\n{ \r\n" if "chunked" in framing else b"{ "))
        assert_error(await wire.reply(), 408, "request_timeout")
        assert await wire.ended() == b""
    await assert_serves(strict)


async def test_a_body_that_trickles(strict: Stage) -> None:
    """A byte now and then does not keep a request alive for ever."""
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + AUTHORIZED + b"content-length: 100000\r\n\r\n"
    async with Wire.open(strict.port) as wire:
        await wire.send(head)
        async with trickling(wire, b"{" + b" " * 500):
            assert_error(await wire.reply(), 408, "request_timeout")
    await assert_serves(strict)


async def test_a_client_that_says_nothing_holds_nobody_up(strict: Stage) -> None:
    """Two hundred silent connections, and the next client is served."""
    async with contextlib.AsyncExitStack() as crowd:
        for _ in range(200):
            await crowd.enter_async_context(Wire.open(strict.port))
        await assert_serves(strict)


@contextlib.asynccontextmanager
async def trickling(wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Sends a byte each twentieth of a second in the background."""

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            for at in range(len(data)):
                await wire.send(data[at : at + 1])
                await asyncio.sleep(0.05)  # the pace is the attack

    task = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_rest_of_a_refused_body_is_no_head_that_is_late(strict: Stage) -> None:
    """What still comes of a body after its refusal is drained without a second answer, beyond the time for heads."""
    async with Wire.open(strict.port) as wire:
        await wire.send(request_bytes("POST", CHAT, key=KEYS["user"], headers=[("content-length", str(33 * MEGABYTE))]))
        assert_error(await wire.reply(), 413, "request_too_large")
        async with trickling(wire, b" " * 20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.reader.read(1), 0.8)
