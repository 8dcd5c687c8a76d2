"""Ids are learnt from answers that are too large to be held, or that come compressed unasked."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import brotli
import pytest
import pytest_asyncio
from kept_kit import KeepingGateway, started
from kit.answers import answer, event
from kit.upstream import Behaviour

HELD = 16 * 2**20  # beyond this an answer flows


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeepingGateway]:
    async with started(tmp_path_factory.mktemp("large")) as running:
        yield running


def response(made: str, size: int) -> dict[str, Any]:
    """A response whose picture is so large; an item comes behind it."""
    picture = {"id": f"ig_{made}", "type": "image_generation_call", "status": "completed", "result": "A" * size}
    last = {"id": f"msg_{made}", "type": "message", "role": "assistant", "content": [{"type": "output_text"}]}
    return {"id": made, "object": "response", "created_at": 5, "status": "completed", "output": [picture, last]}


def stream_of(made: str) -> bytes:
    whole = response(made, 100)
    begun = {"type": "response.created", "response": whole | {"output": []}}
    added = [{"type": "response.output_item.done", "item": each} for each in whole["output"]]
    return b"".join(map(event, [begun, *added, {"type": "response.completed", "response": whole}]))


def sent(body: bytes, encoding: str | None, kind: str) -> Behaviour:
    packed = {"gzip": gzip.compress, "br": brotli.compress, None: bytes}[encoding](body)
    headers = [("content-encoding", encoding)] if encoding else []
    return answer(200, packed, headers, content_type=kind)


async def is_known(one: KeepingGateway, made: str) -> None:
    """The response and its last item are the caller's, and nobody else's."""
    one.upstream.endpoint("c").always(answer(200, response(made, 1)))
    assert (await one.ask("GET", f"/responses/{made}")).status == 200
    assert (await one.ask("GET", f"/responses/{made}", key="stranger")).status == 404
    named = {"model": "far", "input": [{"type": "item_reference", "id": f"msg_{made}"}]}
    assert (await one.ask("POST", "/responses", named)).status == 200
    assert (await one.ask("POST", "/responses", named, key="stranger")).error()["code"] == "object_not_found"


@pytest.mark.parametrize("encoding", [None, "gzip", "br"])
@pytest.mark.parametrize("size", [10, 3 * 2**20, HELD + 2**20])
async def test_of_a_document(one: KeepingGateway, encoding: str | None, size: int) -> None:
    made = f"resp_{encoding}_{size}"
    body = json.dumps(response(made, size)).encode()
    one.upstream.endpoint("c").always(sent(body, encoding, "application/json"))
    reply = await one.ask("POST", "/responses", {"model": "far", "input": "Hi"})
    assert reply.status == 200
    assert reply.header("content-encoding") == encoding
    assert (reply.body if encoding is None else {"gzip": gzip, "br": brotli}[encoding].decompress(reply.body)) == body
    await is_known(one, made)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_of_a_stream(one: KeepingGateway, encoding: str) -> None:
    made = f"resp_stream_{encoding}"
    one.upstream.endpoint("c").always(sent(stream_of(made), encoding, "text/event-stream"))
    reply = await one.ask("POST", "/responses", {"model": "far", "input": "Hi", "stream": True})
    assert {"gzip": gzip, "br": brotli}[encoding].decompress(reply.body) == stream_of(made)
    await is_known(one, made)


async def test_what_unfolds_without_end_is_relayed_and_not_read(one: KeepingGateway) -> None:
    """64 MB of it are; an id behind them stays unknown."""
    made = "resp_bomb"
    packed = gzip.compress(b'{"x":"' + b"A" * (80 * 2**20) + b'","id":"resp_bomb","object":"response"}')
    one.upstream.endpoint("c").always(answer(200, packed, [("content-encoding", "gzip")]))
    assert (await one.ask("POST", "/responses", {"model": "far", "input": "Hi"})).body == packed
    assert (await one.ask("GET", f"/responses/{made}")).error()["code"] == "object_not_found"


async def test_what_is_deleted_is_forgotten_however_that_is_said(one: KeepingGateway) -> None:
    made = "resp_deleted"
    one.upstream.endpoint("c").always(answer(200, response(made, 1)))
    await one.ask("POST", "/responses", {"model": "far", "input": "Hi"})
    one.upstream.endpoint("c").always(answer(200, b"gone", content_type="application/octet-stream"))
    assert (await one.ask("DELETE", f"/responses/{made}")).status == 200
    assert (await one.ask("GET", f"/responses/{made}")).error()["code"] == "object_not_found"
