"""GET /api/ai/models and /api/ai/my-models; acting for users; the feature switched off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, FakeUpstream, Stage, Wire, events, request_bytes
from kit.answers import USAGE, delta
from kit.stage import Record, endpoint, model
from panel_kit import ACTING_KEY, BOSS_KEY, CHAT, flat, post, talk

MODELS, MINE = "/api/ai/models", "/api/ai/my-models"


async def get(stage: Stage, target: str, *, key: str = KEYS["panel"], user: str | None = None) -> Any:
    acting = [] if user is None else [("x-gateway-user", user)]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", target, key=key, headers=acting))
        return await wire.reply()


def shown(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name, "aliases": [f"{name}-latest"], "tags": ["chat", name], "operations": None}


async def test_every_model_is_listed_without_its_endpoints(modest: Stage) -> None:
    """Whoever may use it; the id keeps its type, and no address or credential comes out."""
    reply = await get(modest, MODELS)
    assert reply.json() == [shown(1, "own"), shown(2, "shared"), shown(3, "planned"), shown(4, "nobodys")]
    for private in (b"127.0.0.1", b"provider", b"secret", b"endpoint"):
        assert private not in reply.body


async def test_ones_own_models_with_their_source(modest: Stage) -> None:
    """One entry a model, that of the winning source, in order of assignment; global models come last."""
    rows = (await get(modest, MINE, user="42")).json()
    assert [each.pop("used").keys() for each in rows] == [{"requests", "tokens", "cost"}] * 3
    assert rows == [
        {"model": shown(1, "own"), "limits": None, "source": "user", "linkId": 7},
        {
            "model": shown(2, "shared"),
            "limits": {"period": "day", "requests": 100, "tokens": 5000},
            "source": "organisation",
            "linkId": 20,
        },
        {
            "model": shown(3, "planned"),
            "limits": {"period": "month", "rpm": 9},
            "source": "plan",
            "linkId": 30,
        },
    ]
    colleague = (await get(modest, MINE, user="colleague")).json()
    assert [(each["source"], each["linkId"]) for each in colleague] == [("organisation", 20), ("organisation", 21)]
    assert (await get(modest, MINE, user="newcomer")).json() == []


async def test_what_was_used_is_counted(tmp_path: Path) -> None:
    """By the organisation together where it grants; by each user else, with or without limits; in currency too."""

    def two(upstream: FakeUpstream) -> Iterator[Record]:
        price = {"input": 1_000_000, "output": 2_000_000}
        yield model("together", [endpoint(upstream, "together")], price=price) | {"global": False}
        yield model("each", [endpoint(upstream, "each")], limits={"tokens": 1000, "period": "day"})
        yield model("free", [endpoint(upstream, "free")])

    async with Stage.open(
        tmp_path,
        two,
        organisations=[{"id": 10, "grants": [{"model": "together"}]}],
        users=[{"id": 42, "organisations": [10]}, {"id": 43, "organisations": [10]}],
    ) as stage:
        for user in ("42", "43", "43"):
            for name in ("together", "each", "free"):
                assert (await post(stage, CHAT, talk(modelId=f"id-{name}"), user=user)).status == 200
        tokens = USAGE["total_tokens"]
        cost = USAGE["prompt_tokens"] + 2 * USAGE["completion_tokens"]

        async def used(user: str) -> dict[str, Any]:
            return {each["model"]["name"]: each["used"] for each in (await get(stage, MINE, user=user)).json()}

        assert await used("43") == {
            "together": {"requests": 3, "tokens": 3 * tokens, "cost": 3 * cost},
            "each": {"requests": 2, "tokens": 2 * tokens, "cost": 0.0},
            "free": {"requests": 2, "tokens": 2 * tokens, "cost": 0.0},
        }
        assert (await used("42"))["together"]["requests"] == 3
        assert (await used("42"))["each"] == {"requests": 1, "tokens": tokens, "cost": 0.0}


async def test_the_models_own_limits_where_the_grant_has_none(panel: Stage) -> None:
    """They are what holds, so they are what is shown; a global model has no link."""
    rows = {each["model"]["name"]: each for each in (await get(panel, MINE, key=KEYS["user"])).json()}
    assert rows["rationed"]["limits"] == {"period": "month", "rpm": 1}
    assert (rows["rationed"]["source"], rows["rationed"]["linkId"]) == ("global", None)
    assert "private" not in rows


@pytest.mark.parametrize("target", [MODELS, MINE])
async def test_keys_and_scopes(panel: Stage, target: str) -> None:
    """What models there are is told to those who may use some."""
    assert flat(await panel.get(target, key=None)) == (401, "missing_api_key")
    assert flat(await panel.get(target, key=KEYS["reader"])) == (403, "insufficient_scope")


# --- acting for a user


async def test_acting_for_a_user_nobody_knows(modest: Stage, panel: Stage) -> None:
    """It has the lowest tier and no grants of its own: global models, or a friendly reply."""
    assert (await post(panel, CHAT, talk(), user="nobody-knows-this-one")).status == 200
    assert "administrator" in (await post(modest, CHAT, talk(), user="nobody-knows-this-one")).json()["reply"]
    assert (await get(modest, MINE, user="nobody-knows-this-one")).json() == []


async def test_acting_for_an_admin_adds_no_scope(panel: Stage) -> None:
    """What counts is the key that was shown: user `boss` has one that may read usage, this one may not."""
    assert (await get(panel, MINE, key=ACTING_KEY, user="boss")).status == 200
    assert "detail" in (await get(panel, "/readyz", key=BOSS_KEY)).json()
    assert "detail" not in (await get(panel, "/readyz", key=ACTING_KEY, user="boss")).json()
    assert flat(await get(panel, "/api/soc/usage/user/42", key=ACTING_KEY, user="boss")) == (403, "insufficient_scope")


@pytest.mark.parametrize("target", [MODELS, MINE])
async def test_acting_without_the_scope(panel: Stage, target: str) -> None:
    """Refused, also for oneself: the header is a claim that the key does not cover."""
    for user in ("42", "boss"):
        assert flat(await get(panel, target, key=KEYS["user"], user=user)) == (403, "insufficient_scope")


async def test_usage_is_that_of_the_user_acted_for(panel: Stage) -> None:
    """The log names both: the user served and the panel's key."""
    reply = await post(panel, CHAT, talk(panel.model()), user="rich")
    line = await panel.gateway.log(
        lambda each: each.get("request_id") == reply.header("x-request-id") and "path" in each
    )
    assert (line["user"], line["key"]) == ("rich", "panel")


# --- the feature flag


@pytest.mark.parametrize("key", [None, KEYS["user"]])
async def test_every_panel_route_says_that_the_feature_is_off(off: Stage, key: str | None) -> None:
    """This very body, before authentication tells anything, whatever the method."""
    for method, target in [
        ("POST", "/api/ai/chat"),
        ("POST", "/api/ai/studio"),
        ("GET", "/api/ai/chat"),
        ("GET", "/api/ai/models"),
        ("GET", "/api/ai/my-models"),
        ("GET", "/api/ai/usage"),
        ("POST", "/api/ai/proxy/1/chat/completions"),
        ("POST", "/api/ai/nowhere"),
        ("POST", "/api/ai/openai/v1/chat/completions"),
    ]:
        async with Wire.open(off.port) as wire:
            await wire.send(request_bytes(method, target, b"{", key=key))
            reply = await wire.reply()
        assert (reply.status, reply.body) == (503, b'{"error":"feature_disabled"}')
        assert reply.header("x-should-retry") == "false"


# --- draining


async def test_a_chat_that_outlives_the_drain(tmp_path: Path) -> None:
    """It ends as incomplete, in the panel's words."""

    def one(upstream: FakeUpstream) -> list[Record]:
        return [model("only", [endpoint(upstream, "only")])]

    async with Stage.open(tmp_path, one, may_end=True, server={"drain_seconds": 0.2}) as stage:
        stage.upstream.endpoint("only").replies(events(delta("One"), asyncio.Event()))
        async with Wire.open(stage.port) as wire:
            await wire.send(request_bytes("POST", CHAT, talk(stream=True), key=KEYS["user"]))
            await wire.head()
            assert await wire.event() == b'data: {"delta":"One"}\n\n'
            stage.gateway.process.terminate()
            assert b'"error":"stream_incomplete"' in await wire.event()
            assert await wire.event() == b""
        assert await stage.gateway.wait() == 0
