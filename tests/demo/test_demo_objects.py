"""Files, uploads, batches and vector stores of the demo's upstream; its refusals and its bounds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from typing import Any

import httpx2 as httpx
import openai
import pytest
from kit.gateway import KEYS
from kit.wire import DEADLINE_SECONDS
from openai import AsyncOpenAI

from gateway.demo.upstream import desk as desks
from gateway.demo.upstream import loopback_upstream
from gateway.demo.upstream.desk import Refused, Shelf

BEARER = {"authorization": f"Bearer {KEYS['user']}"}
CHAT = "/v1/chat/completions"


def lines(count: int, url: str = CHAT) -> bytes:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
    requests = [{"custom_id": f"r{number}", "method": "POST", "url": url, "body": body} for number in range(count)]
    return b"\n".join(json.dumps(each).encode() for each in requests)


async def test_files(client: AsyncOpenAI) -> None:
    made = [await client.files.create(file=(f"{n}.txt", b"x" * n), purpose="user_data") for n in range(1, 4)]
    assert {each.id async for each in client.files.list(limit=2, order="asc")} == {each.id for each in made}
    assert (await client.files.retrieve(made[2].id)).bytes == 3
    content = await client.files.content(made[2].id)
    assert content.content == b"xxx"
    assert content.response.headers["content-disposition"] == 'attachment; filename="3.txt"'
    assert (await client.files.delete(made[0].id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.content(made[0].id)
    assert caught.value.param == "file_id"


async def test_uploads(client: AsyncOpenAI) -> None:
    whole = b"one" + b"two"
    upload = await client.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="user_data")
    parts = [(await client.uploads.parts.create(upload.id, data=data)).id for data in (b"two", b"one")]
    sums = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    done = await client.uploads.complete(upload.id, part_ids=parts[::-1], md5=sums)
    assert done.file is not None
    assert (await client.files.content(done.file.id)).content == whole
    with pytest.raises(openai.BadRequestError):
        await client.uploads.cancel(upload.id)
    other = await client.uploads.create(bytes=6, filename="a", mime_type="text/plain", purpose="user_data")
    assert (await client.uploads.cancel(other.id)).status == "cancelled"


async def test_a_batch_answers_its_lines(client: AsyncOpenAI, request: pytest.FixtureRequest) -> None:
    """A gateway takes no file with a line that is none."""
    content, wrong = lines(3), 2
    bad = content + b"\nno json\n" + lines(1, "/v1/embeddings")
    if request.node.callspec.params["url"] == "through":
        with pytest.raises(openai.BadRequestError, match="Line 4"):
            await client.files.create(file=("in.jsonl", bad), purpose="batch")
        wrong = 0
    else:
        content = bad
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"a": "b"}
    )
    assert batch.status == "validating"
    while (batch := await client.batches.retrieve(batch.id)).status != "completed":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, wrong)
    answers = [json.loads(line) for line in (await client.files.content(batch.output_file_id or "")).text.splitlines()]
    assert [each["custom_id"] for each in answers] == ["r0", "r1", "r2"]
    used = sum(each["response"]["body"]["usage"]["total_tokens"] for each in answers)
    assert batch.usage is not None
    assert batch.usage.total_tokens == used
    if wrong:
        assert len((await client.files.content(batch.error_file_id or "")).text.splitlines()) == wrong
    assert [each.id async for each in client.batches.list()] == [batch.id]
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)
    plain = await client.files.create(file=("in.jsonl", content), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.batches.create(input_file_id=plain.id, endpoint=CHAT, completion_window="24h")
    assert caught.value.param == "input_file_id"


async def test_a_batch_is_cancelled() -> None:
    async with (
        loopback_upstream(pause_seconds=0.05) as base,
        AsyncOpenAI(base_url=f"{base}/steady/v1", api_key="none", max_retries=0) as client,
    ):
        file = await client.files.create(file=("in.jsonl", lines(2_000)), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        while (batch := await client.batches.retrieve(batch.id)).status != "cancelled":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert batch.request_counts is not None
        assert batch.request_counts.completed < 2_000


async def test_vector_stores(client: AsyncOpenAI) -> None:
    texts = (b"a red boat", b"a tower")
    files = [(await client.files.create(file=("a.txt", text), purpose="assistants")).id for text in texts]
    store = await client.vector_stores.create(name="notes", file_ids=files[:1])
    assert store.file_counts.completed == 1
    added = await client.vector_stores.files.create_and_poll(files[1], vector_store_id=store.id)
    assert added.status == "completed"
    batch = await client.vector_stores.file_batches.create_and_poll(store.id, file_ids=files)
    assert batch.file_counts.total == 2
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert [each.id async for each in listed] == files[::-1]
    found = await client.vector_stores.search(store.id, query="red boat")
    assert (found.data[0].file_id, found.data[0].score) == (files[0], 1.0)
    assert [each.id async for each in client.vector_stores.files.list(store.id, limit=1)] == files[::-1]
    changed = await client.vector_stores.files.update(files[0], vector_store_id=store.id, attributes={"a": 1})
    assert changed.attributes == {"a": 1}
    page = await client.vector_stores.files.content(files[0], vector_store_id=store.id)
    assert page.data[0].text == "a red boat"
    assert (await client.vector_stores.files.delete(files[0], vector_store_id=store.id)).deleted
    assert (await client.vector_stores.update(store.id, name="more")).name == "more"
    assert [each.id async for each in client.vector_stores.list()] == [store.id]
    assert (await client.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.retrieve(store.id)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", "chat/completions", {"content": b"{"}, 400),
        ("POST", "chat/completions", {"content": b"[]"}, 400),
        ("POST", "chat/completions", {"json": {"model": "demo"}}, 400),
        ("POST", "chat/completions", {"json": {"model": "demo", "messages": "x"}}, 400),
        ("POST", "responses", {"json": {"model": "demo", "input": 5}}, 400),
        ("POST", "files", {"json": {}}, 400),
        ("POST", "files", {"files": {"file": ("a", b"x")}}, 400),
        ("POST", "files", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ("GET", "nothing", {}, 404),
        ("PUT", "chat/completions", {}, 405),
        ("GET", "batches/batch_1", {}, 404),
        ("POST", "audio/transcriptions", {"data": {"model": "demo"}, "files": {"x": ("a", b"x")}}, 400),
    ],
)
async def test_refusals_have_openais_shape(url: str, method: str, path: str, sent: dict[str, Any], status: int) -> None:
    async with httpx.AsyncClient(headers=BEARER) as client:
        reply = await client.request(method, f"{url}/{path}", **sent)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_bodies_to_32_mb(steady: str) -> None:
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS, headers=BEARER) as client:
        for megabytes, status in ((31, 200), (34, 413)):
            body = {"model": "demo", "messages": [{"role": "user", "content": "x" * (megabytes << 20)}]}
            assert (await client.post(f"{steady}/chat/completions", json=body)).status_code == status


def test_a_shelf_keeps_the_newest_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MOST_RECORDS", 3)
    monkeypatch.setattr(desks, "MOST_BYTES", 100)
    shelf = Shelf("thing")
    for name in "abcd":
        shelf.put(name, {"id": name}, 10)
    assert [each["id"] for each in shelf.all()] == ["b", "c", "d"]
    shelf.put("e", {"id": "e"}, 95)
    assert [each["id"] for each in shelf.all()] == ["e"], "the others made room"
    shelf.put("f", {"id": "f"}, 900)
    assert [each["id"] for each in shelf.all()] == ["f"], "one alone may be larger than all"
    with pytest.raises(Refused, match="No thing found with id 'a'"):
        shelf.get("a")


def test_the_server_never_imports_the_demo() -> None:
    """What serves clients carries none of it."""
    program = "import sys, gateway.app; sys.exit(any(name.startswith('gateway.demo') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
