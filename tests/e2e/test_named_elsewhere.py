"""A model may be named beside `model`, in a tool or a moderation: it is granted and replaced like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Stage, ask, assert_error
from kit.stage import Record, endpoint, model


def registered(upstream: FakeUpstream) -> Iterator[Record]:
    """`main` at two accounts; `painter` at the second of them, `elsewhere` at a third; `private` is nobody's."""
    key = "sk-upstream-secret-shared"
    yield model("main", [endpoint(upstream, "first"), endpoint(upstream, "second", priority=1, api_key=key)], id=1)
    yield model("painter", [endpoint(upstream, "second", api_key=key)], id=2, aliases=["brush"])
    yield model("elsewhere", [endpoint(upstream, "third")], id=3)
    yield model("private", [endpoint(upstream, "second", api_key=key)], id=4) | {"global": False}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("places"), registered) as stage:
        yield stage


def sent(places: Stage, name: str) -> bytes:
    return places.upstream.endpoint(name).requests[-1].body


@pytest.mark.parametrize("name", ['"painter"', '"brush"', "2", '"p\\u0061inter"'])
async def test_the_endpoint_that_serves_both_is_asked(places: Stage, name: str) -> None:
    """The first would be asked otherwise; the named model gets its provider's name, and nothing else changes."""
    body = '{"model":"main", "messages":[] ,"tools":[{"type":"x","size":1.10,"model" : %s }],"e":1E400}'
    reply = await places.post((body % name).encode())
    assert reply.status == 200
    expected = body.replace('"main"', '"provider/main"') % '"provider/painter"'
    assert sent(places, "second") == expected.encode()
    assert (await places.post(ask("main"))).status == 200
    assert places.upstream.endpoint("first").requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "image_generation", "model": "unknown"}]}, "tools[0].model"),
        ({"tools": [{"type": "image_generation", "model": "private"}]}, "tools[0].model"),
        ({"tools": [{"type": "function"}, {"type": "image_generation", "model": "elsewhere"}]}, "tools[1].model"),
        ({"tools": [{"type": "image_generation", "model": True}]}, "tools[0].model"),
        ({"moderation": {"model": "private"}}, "moderation.model"),
        ({"audio": {"input": {"transcription": {"model": "elsewhere"}}}}, "audio.input.transcription.model"),
        ({"tools": [{"model": "painter"}, {"model": "elsewhere"}]}, "tools[1].model"),
    ],
)
async def test_a_model_that_may_not_come_along(places: Stage, fields: dict[str, Any], param: str) -> None:
    """Unknown, not granted, not there: one answer, which says where; the assigned model never takes its place."""
    endpoints = [places.upstream.endpoint(name) for name in ("first", "second", "third")]
    before = [len(one.requests) for one in endpoints]
    reply = await places.post(ask("main", **fields))
    assert_error(reply, 403, "model_not_accessible", "permission_error", param)
    assert [len(one.requests) for one in endpoints] == before


async def test_the_route_with_the_model_in_its_path_asks_the_same(places: Stage) -> None:
    target = "/api/ai/proxy/1/chat/completions"
    reply = await places.post(ask(tools=[{"type": "x", "model": "private"}]), target[1:], prefix="/")
    assert (reply.status, reply.json()["error"]) == (403, "model_not_accessible")
    assert (await places.post(ask(tools=[{"type": "x", "model": "painter"}]), target[1:], prefix="/")).status == 200
    assert b"provider/painter" in sent(places, "second")


async def test_a_key_in_another_case_reaches_no_upstream(places: Stage) -> None:
    """What Go's decoder would read as `model` is refused by name."""
    reply = await places.post(ask("main", Model="private"), key=KEYS["user"])
    assert_error(reply, 400, "field_not_allowed", param="Model")
    reply = await places.post('{"model":"main","messages":[],"\u017ftream":true}'.encode())
    assert_error(reply, 400, "field_not_allowed", param="\u017ftream")
