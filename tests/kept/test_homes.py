"""What needs no model is made at its user's home; what is away is said to be away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from kept_kit import KeepingGateway, started
from kit.answers import upstream_error

from gateway.limits import CALLS_A_MINUTE


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeepingGateway]:
    """A gateway whose cooldowns and counts are this test's own."""
    async with started(tmp_path_factory.mktemp("fresh")) as one:
        yield one


async def test_a_users_things_are_made_at_one_endpoint(kept: KeepingGateway) -> None:
    async with kept.client() as client, kept.client("stranger") as other:
        for one in (client, other):
            made = [(await one.vector_stores.create(name="x")).id for _ in range(3)]
            made.append((await one.conversations.create()).id)
            assert len({each.split("_")[1] for each in made}) == 1, made
            assert {each.split("_")[1] for each in made} <= {"a", "b"}  # of the assigned model


async def test_another_model_can_be_named_and_the_header_stays_here(kept: KeepingGateway) -> None:
    async with kept.client(default_headers={"x-gateway-model": "far"}) as client:
        made = await client.vector_stores.create(name="far away")
        assert made.id.split("_")[1] == "c"
    request = kept.upstream.endpoint("c").requests[-1]
    assert request.header("x-gateway-model") is None
    assert request.json() == {"name": "far away"}  # and no model is put into the body
    # The home stays where it was.
    assert (await kept.ask("POST", "/vector_stores", {})).json()["id"].split("_")[1] != "c"


@pytest.mark.parametrize(
    ("name", "status", "code"), [("poor", 400, "model_required"), ("none", 404, "model_not_found")]
)
async def test_a_model_that_keeps_nothing_is_no_home(kept: KeepingGateway, name: str, status: int, code: str) -> None:
    answer = await kept.ask("POST", "/vector_stores", {}, headers=(("x-gateway-model", name),))
    assert (answer.status, answer.error()["code"]) == (status, code)
    assert "x-gateway-model" in answer.error()["message"]


async def test_an_upload_brings_its_file(kept: KeepingGateway) -> None:
    upload = (await kept.ask("POST", "/uploads", {"purpose": "user_data", "bytes": 1})).json()["id"]
    done = (await kept.ask("POST", f"/uploads/{upload}/complete", {"part_ids": ["p"]})).json()
    file = done["file"]["id"]
    assert (await kept.ask("GET", f"/files/{file}")).json()["id"] == file
    content = await kept.ask("GET", f"/files/{file}/content")
    assert (content.body, content.header("x-gateway-model")) == (b"what it holds", None)
    refused = await kept.ask("POST", "/batches", {"input_file_id": file}, key="stranger")
    assert (refused.status, refused.error()["param"]) == (404, "input_file_id")


async def test_a_stored_chat_completion_is_its_makers(kept: KeepingGateway) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    stored = await kept.ask("POST", "/chat/completions", {"model": "pair", "messages": messages, "store": True})
    passing = await kept.ask("POST", "/chat/completions", {"model": "pair", "messages": messages})
    mine = stored.json()["id"]
    async with kept.client() as client:
        assert (await client.chat.completions.retrieve(mine)).id == mine
        changed = await client.chat.completions.update(mine, metadata={"topic": "demo"})
        assert changed.metadata == {"topic": "demo"}
        await client.chat.completions.delete(mine)
    for gone in (mine, passing.json()["id"]):
        assert (await kept.ask("GET", f"/chat/completions/{gone}")).status == 404


async def test_an_object_whose_endpoint_is_away_is_unavailable_for_a_while(fresh: KeepingGateway) -> None:
    """Never another endpoint's 400, and an error that clients ask again after."""
    mine = (await fresh.ask("POST", "/responses", {"model": "pair", "input": "Hi"})).json()["id"]
    home = fresh.upstream.endpoint(mine.split("_")[1])
    home.always(upstream_error(503))
    asked = len(fresh.keeping.asked)
    for _ in range(5):  # also once it cools
        for method, path, body in (
            ("POST", "/responses", {"model": "pair", "input": "Hi", "previous_response_id": mine}),
            ("GET", f"/responses/{mine}", None),
        ):
            answer = await fresh.ask(method, path, body)
            assert (answer.status, answer.error()["code"]) == (503, "object_unavailable")
            assert 1 <= int(answer.header("retry-after") or 0) <= 60
            assert answer.header("x-should-retry") is None
    assert len(fresh.keeping.asked) == asked  # the other one was never asked


async def test_reading_is_free_and_bounded(fresh: KeepingGateway) -> None:
    """The key alone is needed; a user reads so often a minute and no oftener."""
    mine = (await fresh.ask("POST", "/responses", {"model": "pair", "input": "Hi"})).json()["id"]
    first = await fresh.ask("GET", f"/responses/{mine}")
    assert first.header("x-ratelimit-limit-requests") == str(CALLS_A_MINUTE)
    async with fresh.client() as client:
        answers = [(await client.responses.with_raw_response.retrieve(mine)) for _ in range(CALLS_A_MINUTE - 1)]
        assert answers[-1].headers["x-ratelimit-remaining-requests"] == "0"
    refused = await fresh.ask("GET", f"/responses/{mine}")
    assert (refused.status, refused.error()["code"]) == (429, "rate_limit_exceeded")
    assert (await fresh.ask("POST", "/responses", {"model": "pair", "input": "Hi"})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/assistants", "retired"),
        ("GET", "/organization/usage/costs", "administration"),
        ("POST", "/realtime/client_secrets", "credentials"),
        ("DELETE", "/models/pair", "everybody"),
        ("GET", "/files/../models/x", "not_served"),
        ("GET", "/nothing/of/the/kind", "not_served"),
        ("GET", "/evals/e", "surface.extra"),
        ("POST", "/containers", "surface.extra"),
        ("PUT", "/evals/e", "surface.extra"),
        ("PATCH", "/videos", "surface.extra"),
    ],
)
async def test_what_has_no_row_is_not_passed_on(kept: KeepingGateway, method: str, path: str, said: str) -> None:
    asked = len(kept.keeping.asked)
    answer = await kept.ask(method, path, None if method in ("GET", "DELETE") else {})
    assert (answer.status, answer.error()["code"]) == (404, "not_found")
    assert "not_served" in answer.error()["message"]
    assert said in answer.error()["message"]
    assert len(kept.keeping.asked) == asked


@pytest.mark.parametrize("object_id", ["..%2F..", "%2e%2e", "a%2Fb", "a%3Fb", "a%00b", "a%20b"])
async def test_an_id_cannot_lead_elsewhere(open_house: KeepingGateway, object_id: str) -> None:
    asked = len(open_house.keeping.asked)
    answer = await open_house.ask("GET", f"/responses/{object_id}")
    assert (answer.status, answer.error()["code"]) == (404, "not_found" if "%2F" in object_id else "object_not_found")
    assert len(open_house.keeping.asked) == asked


async def test_a_wrong_method_is_told_which_ones_there_are(kept: KeepingGateway) -> None:
    answer = await kept.ask("PUT", "/files/file_x", {})
    assert (answer.status, answer.header("allow")) == (405, "DELETE, GET, HEAD")
