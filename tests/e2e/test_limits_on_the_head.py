"""Large bodies: `rpm` and `concurrency` of a key hold before a byte of the body is read, and count once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, FakeUpstream, GatewayProcess, Reply, Wire, assert_error, config, request_bytes
from kit.answers import as_openai
from kit.stage import endpoint, model

CHAT = "/v1/chat/completions"
KEY = "sk-own-limits-0123456789abcdef"
AWAITING = [("expect", "100-continue")]
LARGE = 1 << 16
TEXT = "a" * (2 * LARGE)


@asynccontextmanager
async def served(directory: Path, **limits: Any) -> AsyncIterator[GatewayProcess]:
    """A gateway where `KEY` has these limits."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        own = {"id": "own", "user": 42, "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest(), "limits": limits}
        models = [
            model("m", [endpoint(upstream, "m")]),
            model("narrow", [endpoint(upstream, "narrow")], limits={"tpm": 1}),
        ]
        async with GatewayProcess.start(config(models, keys=[*config([])["keys"], own]), directory) as running:
            yield running
    finally:
        await upstream.close()
    assert upstream.faults == []


def body(name: str = "m", text: str = TEXT) -> bytes:
    return json.dumps({"model": name, "messages": [{"role": "user", "content": text}]}).encode()


async def post(at: GatewayProcess, content: bytes, *, key: str = KEY, path: str = CHAT) -> Reply:
    async with Wire.open(at.port) as wire:
        await wire.send(request_bytes("POST", path, content, key=key))
        return await wire.reply()


@pytest.mark.parametrize("path", [CHAT, "/api/ai/proxy/m/chat/completions", "/api/ai/chat"])
async def test_a_stalled_upload_holds_its_place(path: str, tmp_path: Path) -> None:
    """The next is refused before it has sent anything of its body, and may come when the first has gone."""
    whole = request_bytes("POST", path, body(), key=KEY)
    head = request_bytes("POST", path, body(), key=KEY, headers=AWAITING).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    async with served(tmp_path, concurrency=1) as at:
        async with Wire.open(at.port) as first, Wire.open(at.port) as second:
            await first.send(head)
            assert (await first.any_head()).status == 100
            await second.send(head)
            reply = await second.reply()
            assert (reply.status, reply.header("retry-after")) == (429, "1")
        await at.log(lambda line: line.get("path") == path and line["status"] != 429)
        async with Wire.open(at.port) as wire:
            await wire.send(whole)
            assert (await wire.reply()).status != 429


async def test_chunks_are_held_to_it_once_they_are_many(tmp_path: Path) -> None:
    """Of a body without a declared length what has arrived tells that it is large."""
    async with served(tmp_path, concurrency=1) as at:
        head = request_bytes("POST", CHAT, key=KEY, headers=[("transfer-encoding", "chunked")])
        chunk = b"%x\r\n%b\r\n" % (2 * LARGE, body()[: 2 * LARGE])
        async with Wire.open(at.port) as first, Wire.open(at.port) as second, Wire.open(at.port) as third:
            await first.send(
                request_bytes("POST", CHAT, body(), key=KEY, headers=AWAITING).partition(TEXT[:9].encode())[0]
            )
            assert (await first.any_head()).status == 100
            await second.send(head + chunk)
            assert_error(await second.reply(), 429, "rate_limit_exceeded", "rate_limit_error")
            small = body(text="hello")
            await third.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(small), small))
            assert_error(await third.reply(), 429, "rate_limit_exceeded", "rate_limit_error")


async def test_an_admitted_one_counts_once(tmp_path: Path) -> None:
    """Two a minute are two, large or small; the headers count as they do for small ones."""
    async with served(tmp_path, rpm=2, concurrency=1, tpm=10_000_000) as at:
        first = await post(at, body())
        assert (first.status, first.header("x-ratelimit-remaining-requests")) == (200, "1")
        second = await post(at, body(text="hello"))
        assert (second.status, second.header("x-ratelimit-remaining-requests")) == (200, "0")
        assert_error(await post(at, body()), 429, "rate_limit_exceeded", "rate_limit_error")


async def test_a_bad_one_counts_in_its_minute_and_gives_its_place_back(tmp_path: Path) -> None:
    """No JSON, an unknown model, another limit that is full: 400, 404 and 429, and then the minute is full."""
    async with served(tmp_path, rpm=3, concurrency=1) as at:
        assert_error(await post(at, b"[" * 2 * LARGE), 400, "invalid_json")
        unknown = json.dumps({"model": "nothing", "input": TEXT}).encode()
        assert_error(await post(at, unknown, path="/v1/embeddings"), 404, "model_not_found", param="model")
        assert (await post(at, body("narrow"))).status == 200
        refused = await post(at, b"[" * 2 * LARGE)
        assert_error(refused, 429, "rate_limit_exceeded", "rate_limit_error")
        assert 1 <= int(refused.header("retry-after") or 0) <= 60


async def test_without_such_limits_nothing_is_asked_before(tmp_path: Path) -> None:
    """A key whose limits are totals is asked for these alone, when its body is there."""
    async with served(tmp_path, tokens=10_000_000) as at:
        assert (await post(at, body())).status == 200
        assert_error(await post(at, b"[" * 2 * LARGE), 400, "invalid_json")
        assert (await post(at, body(), key=KEYS["user"])).status == 200
