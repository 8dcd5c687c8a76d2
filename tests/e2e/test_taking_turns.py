"""Requests of every kind on one connection: the lane's and the application's in turn, told apart by nobody."""

from __future__ import annotations

import asyncio

import pytest
from kit import DONE, KEYS, Stage, Wire, events, request_bytes
from kit.answers import delta
from kit.stage import FreshModel

PAGE = request_bytes("GET", "/openapi.json")
MODELS = request_bytes("GET", "/v1/models", key=KEYS["user"])


def ask(model: FreshModel, **fields: object) -> bytes:
    return request_bytes("POST", "/v1/chat/completions", model.chat(**fields), key=KEYS["user"])


def in_chunks(request: bytes) -> bytes:
    """The same request with its body in chunks."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    return b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)])


@pytest.mark.parametrize("together", [False, True], ids=["one after another", "in one write"])
async def test_a_page_an_api_call_a_stream_and_a_page_on_one_connection(stage: Stage, together: bool) -> None:
    model = stage.model()
    model.a.replies(events(delta("one"), delta("two"), DONE))
    requests = [PAGE, MODELS, ask(model, stream=True), PAGE, ask(stage.model()), MODELS]
    async with Wire.open(stage.port) as wire:
        if together:
            await wire.send(b"".join(requests))
        replies = []
        for request in requests:
            if not together:
                await wire.send(request)
            replies.append(await wire.reply())
    page, models, stream, again, answer, last = replies
    assert [reply.status for reply in replies] == [200] * 6
    assert page.json()["openapi"]
    assert again.body == page.body
    assert stream.body == delta("one") + delta("two") + DONE
    assert answer.json()["object"] == "chat.completion"
    assert last.body == models.body
    assert not any(reply.header("connection") or reply.header("server") for reply in replies)


async def test_a_body_that_nobody_wants_is_passed_over(stage: Stage) -> None:
    """Of a page that takes none, with a length or in chunks: the next request is found behind it."""
    page = request_bytes("POST", "/healthz", b"x" * 300_000)
    async with Wire.open(stage.port) as wire:
        for request in (page, in_chunks(page), in_chunks(page)):
            sending = asyncio.create_task(wire.send(request + MODELS))
            assert (await wire.reply()).status == 405
            if not request.endswith(b"0\r\n\r\n"):
                assert (await wire.reply()).status == 200
            await sending
            if request is not page:
                break
        await wire.ended()  # where a chunked body ends cannot be told from what is behind it in the same read


async def test_chunked_bodies_keep_the_connection_whoever_reads_them(stage: Stage) -> None:
    async with Wire.open(stage.port) as wire:
        for request, status in [
            (in_chunks(ask(stage.model())), 200),
            (in_chunks(request_bytes("POST", "/healthz", b"{}")), 405),
            (in_chunks(ask(stage.model())), 200),
            (MODELS, 200),
        ]:
            await wire.send(request)
            assert (await wire.reply()).status == status


@pytest.mark.parametrize("target", ["http://[", "http://[::1", "example.com:443", "//", "*", "http://a:99999999/"])
@pytest.mark.parametrize("method", ["GET", "CONNECT", "OPTIONS", "PURGE"])
async def test_odd_targets_and_methods_are_refused_in_our_own_words(stage: Stage, method: str, target: str) -> None:
    """No server library's page is seen by anybody."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, key=KEYS["user"]))
        reply = await wire.reply()
        assert reply.status in (400, 404, 405), reply
        assert reply.error()


async def test_a_head_that_comes_a_byte_at_a_time_is_searched_once(stage: Stage) -> None:
    """Its end is looked for where it is new: the thousandth byte costs what the first did."""
    head = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n" % KEYS["user"].encode()
    async with Wire.open(stage.port) as wire:
        for place in range(len(head)):
            await wire.send(head[place : place + 1])
            if place % 50 == 0:
                await stage.get("/healthz")  # when this is answered, what was sent has been read
        await wire.send(b"\r\n")
        assert (await wire.reply()).status == 200
