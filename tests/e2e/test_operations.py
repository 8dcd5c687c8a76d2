"""A model's `operations`: what it serves, what it is assigned to, and the requests that name no model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Reply, Stage, answer, assert_error
from kit.answers import upstream_error
from kit.books import acting_for, fresh_user
from kit.forms import Field, form_request
from kit.stage import Record, endpoint, model
from kit.wire import Wire

BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": []},
    "responses": {"input": "Hi"},
    "completions": {"prompt": "Hi"},
    "embeddings": {"input": "Hi"},
    "moderations": {"input": "Hi"},
    "rerank": {"query": "a", "documents": ["b"]},
    "images/generations": {"prompt": "a"},
    "audio/speech": {"input": "Hi", "voice": "x"},
}
SERVED_BY = {
    "chat/completions": "talker",
    "responses": "talker",
    "completions": "jack",
    "embeddings": "vectors",
    "moderations": "judge",
    "rerank": "sorter",
    "images/generations": "painter",
    "images/edits": "painter",
    "images/variations": "painter",
    "audio/speech": "voice",
    "audio/transcriptions": "ear",
    "audio/translations": "ear",
}
OPERATIONS = {
    "vectors": ["embeddings"],
    "talker": ["chat", "realtime"],
    "judge": ["moderations"],
    "sorter": ["rerank"],
    "painter": ["images"],
    "voice": ["speech"],
    "ear": ["transcriptions"],
}


def specialists(upstream: FakeUpstream) -> Iterator[Record]:
    """One of each, and one for everything behind them."""
    for name, operations in OPERATIONS.items():
        fallbacks = ["jack", "talker"] if name in ("painter", "judge") else []
        yield model(name, [endpoint(upstream, name)], operations=operations, fallbacks=fallbacks)
        upstream.endpoint(name).always(answer())
    yield model("jack", [endpoint(upstream, "jack")])
    upstream.endpoint("jack").always(answer())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guild(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("guild"), specialists) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Models that say nothing of what they serve."""

    def models(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("jack", [endpoint(upstream, "jack")])
        upstream.endpoint("jack").always(answer())

    async with Stage.open(tmp_path_factory.mktemp("plain"), models) as stage:
        yield stage


async def ask(stage: Stage, route: str, **fields: str) -> Reply:
    """One request to a route, JSON or a form."""
    headers = acting_for(fresh_user())
    if route in BODIES:
        return await stage.post(BODIES[route] | fields, route, key=KEYS["panel"], headers=headers)
    parts = [Field("file", b"x", "x"), *(Field(name, text.encode()) for name, text in fields.items())]
    async with Wire.open(stage.port) as wire:
        await wire.send(form_request(f"/v1/{route}", parts, key=KEYS["panel"], headers=headers))
        return await wire.reply()


@pytest.mark.parametrize("route", SERVED_BY)
async def test_without_a_model_the_first_that_serves_it_is_assigned(guild: Stage, route: str) -> None:
    reply = await ask(guild, route)
    assert (reply.status, reply.header("x-gateway-model")) == (200, SERVED_BY[route])


@pytest.mark.parametrize("route", SERVED_BY)
async def test_a_model_that_does_not_serve_it_is_not_found(guild: Stage, route: str) -> None:
    """By its name, again by its name, and by its id; the message says what it serves."""
    other = "vectors" if SERVED_BY[route] == "talker" else "talker"
    for fields in ({"model": other}, {"model": other}, {"modelId": f"id-{other}"}):
        reply = await ask(guild, route, **fields)
        assert_error(reply, 404, "model_not_found", param="model")
        assert all(f"`{each}`" in reply.json()["error"]["message"] for each in OPERATIONS[other])


async def test_what_was_found_for_one_route_is_not_taken_for_another(guild: Stage) -> None:
    assert (await guild.post(BODIES["chat/completions"] | {"model": "talker"})).status == 200
    refused = await guild.post(BODIES["embeddings"] | {"model": "talker"}, "embeddings")
    assert_error(refused, 404, "model_not_found", param="model")
    assert (await guild.post(BODIES["chat/completions"] | {"model": "talker"})).status == 200


@pytest.mark.parametrize("route", SERVED_BY)
async def test_a_model_of_everything_serves_everything(guild: Stage, route: str) -> None:
    reply = await ask(guild, route, model="jack")
    assert (reply.status, reply.header("x-gateway-model")) == (200, "jack")


async def test_only_fallbacks_that_serve_it_are_asked(guild: Stage) -> None:
    guild.upstream.endpoint("judge").replies(upstream_error(503))
    guild.upstream.endpoint("jack").replies(upstream_error(503))
    before = len(guild.upstream.endpoint("talker").requests)
    assert_error(await ask(guild, "moderations", model="judge"), 502, "upstream_error")
    assert len(guild.upstream.endpoint("talker").requests) == before


async def test_the_models_path_of_the_panel_asks_what_it_serves(guild: Stage) -> None:
    reply = await guild.post(BODIES["embeddings"], "embeddings", prefix="/api/ai/proxy/id-talker/")
    assert reply.status == 404
    assert reply.json()["error"] == "model_not_found"


async def test_the_panel_chats_with_a_model_that_chats(guild: Stage) -> None:
    """The first of all makes vectors alone."""
    before = len(guild.upstream.endpoint("talker").requests)
    await guild.post({"message": "Hi"}, "chat", prefix="/api/ai/")
    assert len(guild.upstream.endpoint("talker").requests) == before + 1


TEXT = ("chat/completions", "responses", "completions", "audio/transcriptions", "audio/translations")


@pytest.mark.parametrize("route", SERVED_BY)
async def test_routes_without_text_need_a_model_that_says_it_serves_them(plain: Stage, route: str) -> None:
    """Routes of text are served by the first of all, as ever; an unknown name there is served by it as well."""
    reply = await ask(plain, route)
    unknown = await ask(plain, route, model="nobody")
    if route in TEXT:
        assert (reply.status, unknown.status) == (200, 200)
    else:
        assert_error(reply, 400, "model_required", param="model")
        assert_error(unknown, 404, "model_not_found", param="model")


async def test_whoever_has_no_model_is_not_asked_for_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    def models(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("secret", [endpoint(upstream, "secret")]) | {"global": False}

    async with Stage.open(tmp_path_factory.mktemp("none"), models) as stage:
        for route in BODIES:
            reply = await ask(stage, route)
            assert_error(reply, 403, "no_model_granted", "permission_error")


async def test_whoever_has_no_model_that_chats_is_told_so_in_the_panel(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """As a caller without any model is: nothing that a user could mend went wrong."""

    def models(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("vectors", [endpoint(upstream, "vectors")], operations=["embeddings"])

    async with Stage.open(tmp_path_factory.mktemp("mute"), models) as stage:
        reply = await stage.post({"message": "Hi"}, "chat", prefix="/api/ai/")
        assert (reply.status, list(reply.json())) == (200, ["reply"])
        assert_error(await ask(stage, "chat/completions"), 400, "model_required", param="model")
        assert_error(await ask(stage, "chat/completions", model="nobody"), 404, "model_not_found", param="model")


async def test_an_admin_may_say_what_a_model_serves(tmp_path_factory: pytest.TempPathFactory) -> None:
    manager = {
        "id": "boss",
        "user": "boss",
        "key": "sk-boss-0123456789abcdefghijklm",
        "scopes": ["ai:manage", "ai:use"],
    }
    key = str(manager["key"])

    def models(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("jack", [endpoint(upstream, "jack")])

    sections: dict[str, Any] = {"keys": [manager], "server": {"private_endpoints": ["127.0.0.1/32"]}}
    async with Stage.open(tmp_path_factory.mktemp("admin"), models, **sections) as stage:
        stage.upstream.endpoint("brush").always(answer())
        body = {
            "name": "brush",
            "global": True,
            "operations": ["images"],
            "endpoints": [{"id": "brush", "url": stage.upstream.endpoint("brush").url}],
        }
        made = await stage.post(body, "models", key=key, prefix="/api/admin/ai/")
        assert (made.status, made.json()["operations"]) == (201, ["images"])
        wrong = await stage.post(
            body | {"name": "b", "operations": ["paint"]}, "models", key=key, prefix="/api/admin/ai/"
        )
        assert wrong.status == 400
        reply = await stage.post(BODIES["images/generations"], "images/generations", key=key)
        assert (reply.status, reply.header("x-gateway-model")) == (200, "brush")
