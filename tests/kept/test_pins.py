"""An object is reached by its owner alone, at the endpoint that holds it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from kept_kit import KeepingGateway
from kit.keeping import MADE

from gateway.dialects.openai import KEPT_OPERATIONS

FAMILIES = [row for row in KEPT_OPERATIONS if row.segments and row.body != "multipart/form-data"]
PINNING: list[dict[str, Any]] = [
    {"previous_response_id": "{}"},
    {"conversation": "{}"},
    {"conversation": {"id": "{}"}},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "{}"}]}]},
    {"input": [{"type": "item_reference", "id": "{}"}]},
    {"tools": [{"type": "file_search", "vector_store_ids": ["{}"]}]},
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["{}"]}}]},
    {"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "{}"}}]},
]


def filled(body: Any, object_id: str) -> Any:
    """The body with an id in its place."""
    if isinstance(body, dict):
        return {key: filled(value, object_id) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(each, object_id) for each in body]
    return object_id if body == "{}" else body


async def made(kept: KeepingGateway, model: str = "pair", **fields: Any) -> str:
    """The id of a new response."""
    answer = await kept.ask("POST", "/responses", {"model": model, "input": "Hi", **fields})
    assert answer.status == 200, answer.body
    return str(answer.json()["id"])


def endpoint_of(object_id: str) -> str:
    """The endpoint that made it, by its id."""
    return object_id.split("_")[1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chain_of_responses_stays_where_it_began(kept: KeepingGateway, stream: bool) -> None:
    previous: Any = None
    seen = set()
    async with kept.client() as client:
        for _ in range(5):
            asked: Any = {"model": "pair", "input": "Hi", "previous_response_id": previous}
            if stream:
                said: Any = [each async for each in await client.responses.create(**asked, stream=True)]
                previous = said[-1].response.id
            else:
                previous = (await client.responses.create(**asked)).id
            seen.add(endpoint_of(previous))
    assert len(seen) == 1
    assert {endpoint_of(await made(kept)) for _ in range(4)} == {"a", "b"}


@pytest.mark.parametrize("fields", PINNING, ids=str)
async def test_an_id_in_a_body_pins_and_a_foreign_or_unknown_one_is_404(
    kept: KeepingGateway, fields: dict[str, Any]
) -> None:
    """Whatever kind of object it is: whose it is, and where, is known by its id."""
    mine = await made(kept)
    for _ in range(3):
        answer = await kept.ask("POST", "/responses", {"model": "pair", "input": "Hi"} | filled(fields, mine))
        assert "conversation" in fields or answer.status == 200, answer.body
        assert kept.keeping.asked[-1][0] == endpoint_of(mine)
    asked = len(kept.keeping.asked)
    for key, named in (("stranger", mine), ("user", "resp_unknown")):
        answer = await kept.ask("POST", "/responses", {"model": "pair", "input": "Hi"} | filled(fields, named), key=key)
        error = answer.error()
        assert (answer.status, error["code"]) == (404, "object_not_found")
        assert error["param"].split("[")[0].split(".")[0] in fields
        assert error["message"].count(mine) == 0
    assert len(kept.keeping.asked) == asked


async def test_unknown_and_foreign_are_one_and_the_same_answer(kept: KeepingGateway) -> None:
    mine = await made(kept)
    foreign = await kept.ask("GET", f"/responses/{mine}", key="stranger")
    unknown = await kept.ask("GET", "/responses/resp_unknown", key="stranger")
    assert foreign.status == 404
    assert foreign.body == unknown.body
    assert foreign.error()["param"] == "response_id"


async def test_ids_elsewhere_neither_pin_nor_are_refused(kept: KeepingGateway) -> None:
    mine = await made(kept)
    body = {"model": "pair", "input": "Hi", "metadata": {"previous_response_id": "resp_unknown", "file_id": mine}}
    assert {endpoint_of(await made(kept, **body)) for _ in range(4)} == {"a", "b"}


async def test_objects_of_two_accounts_are_apart(kept: KeepingGateway) -> None:
    near, far = await made(kept, "near"), await made(kept, "far")
    bodies: list[dict[str, Any]] = [
        {"model": "far", "input": "Hi", "previous_response_id": near},
        {"model": "near", "input": [{"id": far}], "previous_response_id": near},
    ]
    for body in bodies:
        answer = await kept.ask("POST", "/responses", body)
        assert (answer.status, answer.error()["code"]) == (400, "objects_apart")
    # Another model's endpoint of the same account will do.
    assert (await kept.ask("POST", "/responses", {"model": "pair", "input": "Hi", "previous_response_id": near})).json()


async def test_sealed_content_pins_where_it_is_known(kept: KeepingGateway) -> None:
    """Also of a response that is not stored: of that nothing else is known."""
    first = (await kept.ask("POST", "/responses", {"model": "pair", "input": "Hi", "store": False})).json()
    reasoning = first["output"][0]
    for _ in range(4):
        again = await kept.ask("POST", "/responses", {"model": "pair", "input": [reasoning], "store": False})
        assert endpoint_of(again.json()["id"]) == endpoint_of(first["id"])
    assert (await kept.ask("GET", f"/responses/{first['id']}")).error()["code"] == "object_not_found"
    unknown = [{**reasoning, "encrypted_content": "never seen"}]
    answers = [await kept.ask("POST", "/responses", {"model": "pair", "input": unknown}) for _ in range(4)]
    assert {endpoint_of(each.json()["id"]) for each in answers} == {"a", "b"}


async def test_a_stored_response_is_read_and_deleted_where_it_lies(kept: KeepingGateway) -> None:
    async with kept.client() as client:
        for _ in range(3):
            mine = await made(kept)
            assert (await client.responses.retrieve(mine)).id == mine
            said = [each async for each in await client.responses.retrieve(mine, stream=True, starting_after=0)]
            assert [each.type for each in said][-1] == "response.completed"
            assert [each.id async for each in client.responses.input_items.list(mine)] == []
            assert (await client.responses.cancel(mine)).status == "cancelled"
            await client.responses.delete(mine)
            with pytest.raises(openai.NotFoundError) as refusal:
                await client.responses.retrieve(mine)
            assert refusal.value.code == "object_not_found"
            assert kept.keeping.asked[-1][:2] == (endpoint_of(mine), "DELETE")


async def test_an_endpoint_that_keeps_nothing_teaches_nothing(kept: KeepingGateway) -> None:
    mine = await made(kept, "poor")
    assert (await kept.ask("GET", f"/responses/{mine}")).error()["code"] == "object_not_found"


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: f"{row.method} {row.path}")
async def test_a_foreign_user_gets_404_for_every_operation(open_house: KeepingGateway, row: Any) -> None:
    """Of every family, and the upstream is not asked; its owner is served."""
    names = {segment.name: f"{segment.name}-{abs(hash(row.path))}" for segment in row.segments}
    first = row.segments[0].name
    stem = row.path.partition("{")[0]
    if stem == "/fine_tuning/checkpoints/":  # what a job has come to
        await open_house.ask("GET", "/fine_tuning/jobs/ftjob-of-mine")
        names[first] = "ft:made"
    elif stem == "/uploads/":  # which cannot be read
        names[first] = (await open_house.ask("POST", "/uploads", {"purpose": "user_data"})).json()["id"]
    else:
        assert (await open_house.ask("GET", f"{stem}{names[first]}")).status == 200  # that makes it the first asker's
    path, body = row.path.format(**names), row.request.example if row.request is not None else None
    asked = len(open_house.keeping.asked)
    answer = await open_house.ask(row.method, path, body, key="stranger")
    assert (answer.status, answer.error()["code"]) == (404, "object_not_found"), answer.body
    assert answer.error()["param"] == first
    assert len(open_house.keeping.asked) == asked
    assert (await open_house.ask(row.method, path, body)).status in (200, 404)
    assert len(open_house.keeping.asked) == asked + 1


async def test_the_collections_of_the_kit_are_rows() -> None:
    paths = {row.path for row in KEPT_OPERATIONS} | {"/responses", "/chat/completions"}
    assert {f"/{each}" for each in MADE} <= paths
