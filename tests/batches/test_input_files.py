"""A batch's file is judged line by line, and goes up with its provider's names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_kit import CHAT, Batching, batching, jsonl, line


def sent(shop: Batching, file: str) -> bytes:
    """What the provider has of a file."""
    return next(files[file] for files in shop.provider.files.values() if file in files)


async def test_lines_are_rewritten_and_nothing_else_of_them(shop: Batching) -> None:
    """Numbers, spaces and the order of members stay; `modelId` goes; a missing model is the other lines'."""
    strange = (
        b'{ "body": {"temperature": 1.10, "messages": [], "modelId": "id-second"}, "url": "/v1/chat/completions",'
        b'  "method":"POST", "custom_id" : "\\u0031", "more": 1e400}'
    )
    plain = b'{"custom_id":"2","method":"POST","url":"/v1/chat/completions","body":{"messages":[]}}'
    made = await shop.upload(jsonl(strange, plain) + b"\r\n\n")
    assert made.status == 200, made.body
    assert made.json()["purpose"] == "batch"
    assert sent(shop, made.json()["id"]) == (
        b'{ "body": {"model":"provider/second","temperature": 1.10, "messages": []}, "url": "/v1/chat/completions",'
        b'  "method":"POST", "custom_id" : "\\u0031", "more": 1e400}\n'
        b'{"custom_id":"2","method":"POST","url":"/v1/chat/completions",'
        b'"body":{"model":"provider/second","messages":[]}}\n'
    )


async def test_each_endpoint_gets_its_own_names(shop: Batching) -> None:
    names = set()
    for _ in range(2):
        file = (await shop.upload(jsonl(line(model="pair")))).json()["id"]
        names.add((file.split("_")[1], json.loads(sent(shop, file))["body"]["model"]))
    assert names == {("a", "provider/pair"), ("b", "b-calls-it")}


async def test_a_file_of_lines_without_a_model_is_for_the_assigned_one(shop: Batching) -> None:
    file = (await shop.upload(jsonl(line(1), line(2)))).json()["id"]
    bodies = [json.loads(each)["body"] for each in sent(shop, file).splitlines()]
    assert {each["model"] for each in bodies} <= {"provider/pair", "b-calls-it"}


GOOD = line(1, model="pair")
WRONG: dict[str, Any] = {
    "not JSON": b"{",
    "no object": b"[]",
    "a key twice": b'{"custom_id":"1","custom_id":"2","method":"POST","url":"/v1/chat/completions","body":{}}',
    "a key twice within": b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"a":1,"a":2}}',
    "no custom_id": {key: value for key, value in GOOD.items() if key != "custom_id"},
    "another method": GOOD | {"method": "GET"},
    "a path of no batch": GOOD | {"url": "/v1/files"},
    "a path with more": GOOD | {"url": f"{CHAT}?model=other"},
    "another path": GOOD | {"url": "/v1/embeddings"},
    "no body": GOOD | {"body": "text"},
    "a body in another case": GOOD | {"Body": {"model": "closed"}},
    "another model": line(model="second"),
    "a model that is not granted": line(model="closed"),
    "an unknown modelId": line(modelId="none"),
    "a refused field": line(model="pair", api_base="http://elsewhere"),
    "a refused field beside": GOOD | {"provider": "x"},
    "a field in another case": line(Model="closed"),
    "a tool's model": line(model="pair", tools=[{"type": "image_generation", "model": "closed"}]),
    "another's file": line(
        model="pair", messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-strange"}}]}]
    ),
    "blank": b"  ",
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_with_a_line_is_said_with_its_number(shop: Batching, wrong: str) -> None:
    before = len(shop.provider.asked)
    refused = await shop.upload(jsonl(GOOD, line(2, model="pair"), WRONG[wrong], line(4, model="pair")))
    assert (refused.status, refused.error()["code"]) == (400, "invalid_batch"), refused.body
    assert refused.error()["type"] == "invalid_request_error"
    assert "line 3" in refused.error()["message"].lower()
    assert len(shop.provider.asked) == before  # no upstream has seen any of it


async def test_a_model_that_is_not_granted_is_named(shop: Batching) -> None:
    refused = await shop.upload(jsonl(*(line(number, model="pair") for number in range(4_999)), line(model="closed")))
    assert "Line 5000" in refused.error()["message"]
    assert "`closed`" in refused.error()["message"]


async def test_an_empty_file_is_no_batch(shop: Batching) -> None:
    for content in (b"", b"\n\n"):
        refused = await shop.upload(content)
        assert (refused.status, refused.error()["code"]) == (400, "invalid_batch")


async def test_a_model_whose_endpoints_keep_nothing_takes_no_batches(shop: Batching) -> None:
    refused = await shop.upload(jsonl(line(model="poor")))
    assert (refused.status, refused.error()["code"]) == (400, "invalid_batch")
    assert "`poor`" in refused.error()["message"]


async def test_a_file_in_parts_is_refused(shop: Batching) -> None:
    asked = {"filename": "in.jsonl", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
    refused = await shop.ask("POST", "/uploads", asked)
    assert (refused.status, refused.error()["code"]) == (400, "invalid_batch")
    assert refused.error()["param"] == "input_file_id"


async def test_a_batchs_file_as_json_is_refused_before_any_upstream_has_it(shop: Batching) -> None:
    """There are no lines that could be read, so nobody knows what they would ask for."""
    before = len(shop.provider.asked)
    refused = await shop.ask("POST", "/files", {"purpose": "batch", "file": '{"custom_id":"1"}'})
    assert (refused.status, refused.error()["code"]) == (400, "invalid_batch")
    assert refused.error()["param"] == "input_file_id"
    assert len(shop.provider.asked) == before


async def test_other_files_keep_their_bytes(shop: Batching) -> None:
    made = await shop.upload(b'{"model": "pair"}\n', purpose="user_data")
    assert sent(shop, made.json()["id"]) == b'{"model": "pair"}\n'


MIB = 2**20


def peak_bytes(shop: Batching) -> int:
    """The most that the gateway has held since the last reset."""
    status = Path(f"/proc/{shop.gateway.process.pid}/status").read_text().splitlines()
    return next(int(each.split()[1]) << 10 for each in status if each.startswith("VmHWM:"))


def reset_peak(shop: Batching) -> None:
    Path(f"/proc/{shop.gateway.process.pid}/clear_refs").write_text("5")


@pytest.mark.parametrize(("lines", "size"), [(10_000, 1_000), (40, 500_000)], ids=["many", "long"])
async def test_a_file_costs_no_memory_by_its_length(tmp_path: Path, lines: int, size: int) -> None:
    content = jsonl(*(line(number, model="pair", user="x" * size) for number in range(lines)))
    async with batching(tmp_path) as shop:
        assert (await shop.upload(content[: content.index(b"\n")])).status == 200
        reset_peak(shop)
        before = peak_bytes(shop)
        file = (await shop.upload(content)).json()["id"]
        assert peak_bytes(shop) - before < 20 * MIB
        bodies = [json.loads(each)["body"] for each in sent(shop, file).splitlines()]
        assert len(bodies) == lines
        assert {each["model"] for each in bodies} in ({"provider/pair"}, {"b-calls-it"})


async def test_a_line_longer_than_a_body_may_be_is_named(tmp_path: Path) -> None:
    async with batching(tmp_path, server={"max_body_mb": 1}) as shop:
        refused = await shop.upload(jsonl(GOOD, line(2, model="pair", user="x" * MIB)))
        assert refused.error()["code"] == "invalid_batch"
        assert "Line 2" in refused.error()["message"]
