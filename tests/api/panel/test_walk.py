"""A panel that speaks the documented EcliPanel routes works against the gateway unchanged: the list, walked in order.

The panel has one service key and acts for its users; the gateway beside it is set up by the file that we deliver.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml
from api.admin.admin_kit import running_redis
from kit import KEYS, FakeUpstream, Reply, Stage, Wire, answer, request_bytes
from kit.answers import USAGE, as_openai
from panel_kit import told
from store.grants_kit import RedisServer

DELIVERED = Path(__file__).parents[3] / "config" / "gateway.beside-panel.yaml"
COOLDOWNS = "admin:ai:cooldowns"


def delivered(redis_url: str) -> dict[str, Any]:
    """The sections of config/gateway.beside-panel.yaml, with a test's own Redis, key and places to write."""
    sections: dict[str, Any] = yaml.safe_load(DELIVERED.read_text())
    sections["server"] = {"private_endpoints": ["127.0.0.1/32"]}  # where the fake upstream is
    sections["store"]["url"] = redis_url
    sections["usage"] = {"url": "sqlite:///data/usage.db", "journal": "data/journal"}
    sections["keys"][0]["key"] = KEYS["panel"]
    return {name: sections[name] for name in ("server", "store", "usage", "tiers", "studio", "keys")} | {"users": []}


def nothing(_: FakeUpstream) -> list[dict[str, Any]]:
    """The panel makes the models."""
    return []


class EcliPanel:
    """What the panel's back end does: its key, and the user for whom it asks."""

    def __init__(self, stage: Stage, redis: RedisServer) -> None:
        self.stage = stage
        self.redis = redis

    async def call(self, method: str, path: str, body: Any = None, *, user: str | None = None) -> Reply:
        acting = [] if user is None else [("x-gateway-user", user)]
        payload = None if body is None else json.dumps(body).encode()
        async with Wire.open(self.stage.port) as wire:
            await wire.send(request_bytes(method, path, payload, key=KEYS["panel"], headers=acting))
            return await wire.reply()

    async def good(
        self, method: str, path: str, body: Any = None, *, status: int = 200, user: str | None = None
    ) -> Any:
        reply = await self.call(method, path, body, user=user)
        assert reply.status == status, reply
        return reply.json()

    def cooldowns(self) -> list[dict[str, Any]]:
        with self.redis.client() as client:
            entries: Any = client.lrange(COOLDOWNS, 0, -1)
        return [json.loads(entry) for entry in entries]


@pytest_asyncio.fixture(loop_scope="session")
async def ecli(tmp_path: Path) -> AsyncIterator[EcliPanel]:
    """A panel, and beside it a gateway that knows of no model."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as redis:
        async with Stage.open(tmp_path, nothing, **delivered(redis.url)) as stage:
            yield EcliPanel(stage, redis)


async def set_up(panel: EcliPanel) -> None:
    """A model, an organisation and a user with a link each, all through the admin routes."""
    fake = panel.stage.upstream.endpoint("primary").always(as_openai("Hello Ada"))
    spare = panel.stage.upstream.endpoint("spare").always(as_openai("Hello from the spare"))
    endpoints = [
        {"id": "primary", "endpoint": fake.url, "apiKey": "sk-upstream-secret-1"},
        {"id": "spare", "endpoint": spare.url, "apiKey": "sk-upstream-secret-2", "priority": 1},
    ]
    made = {"id": 1, "name": "gpt-4o", "config": {"modelId": "gpt-4o-2024-11-20"}, "endpoints": endpoints}
    await panel.good("POST", "/api/admin/ai/models", made, status=201)
    await panel.good("PUT", "/api/admin/organisations/10", {"name": "Example Org"}, status=201)
    user = {"name": "Ada", "tier": "paid", "organisations": [10]}
    await panel.good("PUT", "/api/admin/users/42", user, status=201)
    await panel.good("POST", "/api/admin/users/42/ai/new", {"modelId": 1, "limits": {"rpm": 60}}, status=201)


async def test_the_documented_routes_work_in_their_order(ecli: EcliPanel) -> None:
    """Chat, studio, discovery, the OpenAI pair, administration, usage, cooldowns."""
    await set_up(ecli)
    await walk_chat(ecli)
    await walk_discovery(ecli)
    await walk_openai(ecli)
    await walk_administration(ecli)
    await walk_usage(ecli)
    await walk_cooldowns(ecli)


async def walk_chat(panel: EcliPanel) -> None:
    asked = {"message": "Hi", "systemPrompt": "Be brief.", "history": [{"role": "assistant", "content": "Yes?"}]}
    assert await panel.good("POST", "/api/ai/chat", asked, user="42") == {"reply": "Hello Ada"}
    sent = panel.stage.upstream.endpoint("primary").requests[-1].json()
    assert [turn["role"] for turn in sent["messages"]] == ["system", "assistant", "user"]
    assert sent["model"] == "gpt-4o-2024-11-20"
    streamed = await panel.call("POST", "/api/ai/chat", asked | {"stream": True}, user="42")
    events = told(streamed.body)
    assert "".join(each["delta"] for each in events if isinstance(each, dict) and "delta" in each) == "Hello Ada"
    assert events[-2]["reply"] == "Hello Ada"
    assert events[-1] == "[DONE]"
    studio = {"message": "Hi", "maxTokens": 50, "temperature": 0.5}
    answered = await panel.good("POST", "/api/ai/studio", studio, user="42")
    assert answered == {"reply": "Hello Ada", "model": "gpt-4o", "usage": USAGE, "finishReason": "stop"}


async def walk_discovery(panel: EcliPanel) -> None:
    (one,) = await panel.good("GET", "/api/ai/models")
    assert (one["id"], one["name"]) == (1, "gpt-4o")
    assert "endpoints" not in one
    (mine,) = await panel.good("GET", "/api/ai/my-models", user="42")
    assert (mine["model"]["id"], mine["source"], mine["limits"]["rpm"]) == (1, "user", 60)
    assert mine["used"]["requests"] == 3


async def walk_openai(panel: EcliPanel) -> None:
    """The pair: chat completions and models, under the panel's prefix."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    chat = await panel.good("POST", "/api/ai/openai/v1/chat/completions", body, user="42")
    assert chat["choices"][0]["message"]["content"] == "Hello Ada"
    models = await panel.good("GET", "/api/ai/openai/v1/models", user="42")
    assert [each["id"] for each in models["data"]] == ["gpt-4o"]


async def walk_administration(panel: EcliPanel) -> None:
    (one,) = await panel.good("GET", "/api/admin/ai/models")
    assert [each["api_key"] for each in one["endpoints"]] == ["set", "set"]
    user = await panel.good("GET", "/api/admin/users/42")
    link = user["grants"][0]["id"]
    changed = await panel.good("POST", f"/api/admin/users/42/ai/{link}", {"limits": {"rpm": 30}})
    assert changed["link"]["limits"] == {"rpm": 30}
    (mine,) = await panel.good("GET", "/api/ai/my-models", user="42")
    assert (mine["linkId"], mine["limits"]["rpm"]) == (link, 30)


async def walk_usage(panel: EcliPanel) -> None:
    """Chat twice, studio, chat completions: each is counted once, for the user and for its first organisation."""
    today = datetime.now(UTC).date()
    days = f"?from={today.replace(day=1)}&to={today}&group=model"
    for whose, name, number in (("user", "user", 42), ("org", "organisation", 10)):
        report = await until_counted(panel, f"/api/soc/usage/{whose}/{number}{days}", 4)
        assert report[name] == number
        assert [(row["model"], row["requests"]) for row in report["rows"]] == [(1, 4)]
        assert report["totals"]["tokens"] == 4 * USAGE["total_tokens"]


async def until_counted(panel: EcliPanel, path: str, requests: int) -> Any:
    """Usage counts what ended up to a second ago, so it is asked again until it has caught up."""
    for _ in range(500):
        report = await panel.good("GET", path)
        if report["totals"]["requests"] >= requests:
            break
    return report


async def walk_cooldowns(panel: EcliPanel) -> None:
    """A 429 of the primary is answered by the spare, and the panel finds it in its list in Redis."""
    assert panel.cooldowns() == []
    limited = answer(429, {"error": {"message": "slow down"}}, [("retry-after", "30")])
    panel.stage.upstream.endpoint("primary").replies(limited)
    reply = await panel.good("POST", "/api/ai/chat", {"message": "Hi"}, user="42")
    assert reply == {"reply": "Hello from the spare"}
    (told_by_route,) = await panel.good("GET", "/api/admin/ai/cooldowns")
    (entry,) = panel.cooldowns()
    assert entry == told_by_route
    assert set(entry) == {"timestamp", "modelId", "modelName", "endpoint", "waitMs"}
    assert (entry["modelId"], entry["modelName"], entry["waitMs"]) == (1, "gpt-4o", 30_000)
    assert entry["endpoint"] == panel.stage.upstream.endpoint("primary").url


async def test_a_panel_grants_a_model_with_one_write_to_redis(ecli: EcliPanel) -> None:
    """`SET gw:user:43 …` and a word on `gw:changed`, as docs/beside-a-panel.md says: no admin route is needed."""
    await set_up(ecli)
    refused = await ecli.good("POST", "/api/ai/chat", {"message": "Hi"}, user="43")
    assert refused["reply"] != "Hello Ada"
    assert await ecli.good("GET", "/api/ai/my-models", user="43") == []
    with ecli.redis.client() as client:
        client.set("gw:user:43", json.dumps({"id": 43, "tier": "paid", "grants": [{"model": 1}]}))
        client.publish("gw:changed", json.dumps({"kind": "user", "id": 43}))
    for _ in range(500):
        granted = await ecli.good("GET", "/api/ai/my-models", user="43")
        if granted:
            break
    assert [each["source"] for each in granted] == ["user"]
    assert await ecli.good("POST", "/api/ai/chat", {"message": "Hi"}, user="43") == {"reply": "Hello Ada"}
