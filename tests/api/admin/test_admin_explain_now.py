"""`explain` says what the next request would get: each answer is held against that request's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from admin_kit import Admin, fresh
from kit import FakeEndpoint, Wire, answer, ask, raw, request_bytes
from kit.answers import full


class Somebody:
    """A user with a key and a model of their own, granted with limits."""

    def __init__(self, admin: Admin, key: str, key_id: str, model: dict[str, Any], fake: FakeEndpoint) -> None:
        self.admin, self.key, self.key_id, self.model, self.fake = admin, key, key_id, model, fake

    @classmethod
    async def of(
        cls,
        admin: Admin,
        *,
        limits: Any = None,
        key_limits: Any = None,
        endpoint: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Somebody:
        name = fresh("explained")
        fake = admin.stage.upstream.endpoint(name)
        own = {"id": "a", "url": fake.url} | (endpoint or {})
        model = await admin.post("ai/models", {"name": name, "endpoints": [own]} | fields)
        user, key_id = fresh("somebody"), fresh("key")
        key = await admin.new_key(user, id=key_id, **({} if key_limits is None else {"limits": key_limits}))
        link = {"userId": user} | ({} if limits is None else {"limits": limits})
        await admin.post(f"ai/models/{model['id']}/link-user", link)
        return cls(admin, key, key_id, model, fake)

    async def explained(self) -> dict[str, Any]:
        told: dict[str, Any] = await self.admin.get(f"explain?key={self.key_id}&model={self.model['name']}")
        return told

    async def expect(self, status: int, code: str | None) -> dict[str, Any]:
        """The explanation, once a request was answered as it says. Asked for first: a request may change things."""
        told = await self.explained()
        assert (told["verdict"]["served"], told["verdict"]["code"]) == (code is None, code), told["verdict"]
        reply = await self.admin.chat(self.model["name"], self.key)
        assert reply.status == status
        assert (told["verdict"]["model"], told["verdict"]["source"]) == (self.model["name"], "user")
        if code is not None:
            assert reply.error()["code"] == code
            assert reply.error()["message"].startswith(told["verdict"]["why"][:30])
        return told

    @asynccontextmanager
    async def running(self, **fields: Any) -> AsyncIterator[None]:
        """While it lasts, a request of theirs waits for its upstream."""
        release = asyncio.Event()
        self.fake.replies(raw(release, full(200, b"{}")))
        body, before = ask(self.model["name"], **fields), len(self.fake.requests)
        async with Wire.open(self.admin.stage.port) as wire:
            await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=self.key))
            await self.fake.request(before + 1)
            yield
            release.set()
            assert (await wire.reply()).status == 200


USED_UP = {"requests": 1, "period": "month"}


@pytest.mark.parametrize("of", ["limits", "key_limits"])
async def test_a_total_that_is_used_up(admin: Admin, of: str) -> None:
    """Of the grant, or of the key."""
    one = await Somebody.of(admin, **{of: USED_UP})
    await one.expect(200, None)
    told = await one.expect(429, "insufficient_quota")
    assert [(each["limit"], each["used"]) for each in told["limits"]] == [("requests", 1)]
    assert "resets at" in told["verdict"]["why"]


async def test_a_minute_that_is_full(admin: Admin) -> None:
    one = await Somebody.of(admin, limits={"rpm": 1})
    await one.expect(200, None)
    await one.expect(429, "rate_limit_exceeded")


async def test_what_runs_is_counted_by_what_it_reserved(admin: Admin) -> None:
    """Tokens and cost that a running request holds are not free, though nothing of them is used yet."""
    one = await Somebody.of(admin, limits={"tokens": 500, "period": "month"})
    async with one.running(max_tokens=100_000):
        told = await one.expect(429, "rate_limit_exceeded")
        (tokens,) = told["limits"]
        assert tokens["used"] >= 500
    await one.expect(200, None)


async def test_a_budget_that_is_held(admin: Admin) -> None:
    """The dearest that the running request can get, by the model's price."""
    price = {"input": 0, "output": 1_000_000}
    one = await Somebody.of(admin, limits={"cost": 5, "period": "month"}, price=price)
    async with one.running(max_tokens=100_000):
        told = await one.expect(429, "rate_limit_exceeded")
        assert [(each["limit"], each["used"] >= 5) for each in told["limits"]] == [("cost", True)]


async def test_one_at_a_time(admin: Admin) -> None:
    one = await Somebody.of(admin, key_limits={"concurrency": 1})
    async with one.running():
        await one.expect(429, "rate_limit_exceeded")
    await one.expect(200, None)


async def test_a_pool_that_cools_after_429(admin: Admin) -> None:
    """With the end of the cooldown; and free again it is served again."""
    one = await Somebody.of(admin)
    one.fake.replies(answer(429, headers=[("retry-after", "300")]))
    await admin.chat(one.model["name"], one.key)
    told = await one.expect(429, "upstream_rate_limited")
    (endpoint,) = told["pools"][0]["endpoints"]
    assert (endpoint["state"], endpoint["cause"], told["pools"][0]["order"]) == ("cooling", "rate_limited", [])
    assert 290 < endpoint["secondsLeft"] <= 300
    await admin.delete(f"ai/endpoints/{one.model['id']}/a/cooldown")
    await one.expect(200, None)


async def test_a_pool_whose_credential_is_refused(admin: Admin) -> None:
    one = await Somebody.of(admin, endpoint={"api_key": admin.plant("refused-credential")})
    one.fake.replies(answer(401))
    await admin.chat(one.model["name"], one.key)
    await one.expect(502, "upstream_credentials_rejected")


async def test_a_pool_that_is_full(admin: Admin) -> None:
    one = await Somebody.of(admin, endpoint={"max_in_flight": 1})
    async with one.running():
        told = await one.expect(503, "overloaded")
        assert told["pools"][0]["endpoints"][0]["state"] == "full"
    await one.expect(200, None)


async def test_a_user_who_is_switched_off(admin: Admin) -> None:
    """All their keys with them, at once; and on again."""
    user, key_id = fresh("switched"), fresh("key")
    key = await admin.new_key(user, id=key_id)
    await admin.put(f"users/{user}", {"enabled": False, "grants": [{"model": "free"}]}, 201)
    assert (await admin.get(f"users/{user}"))["enabled"] is False
    assert (await admin.get(f"explain?key={key_id}&model=free"))["verdict"]["code"] == "invalid_api_key"
    assert (await admin.chat("free", key)).error()["code"] == "invalid_api_key"
    await admin.put(f"users/{user}", {})
    assert (await admin.get(f"explain?key={key_id}&model=free"))["verdict"]["served"] is True
    assert (await admin.chat("free", key)).status == 200


async def test_it_says_how_old_what_it_used_is(admin: Admin) -> None:
    """Of what was read from the run-time store; what gateway.yaml says has no age."""
    somebody = await Somebody.of(admin)
    user = (await somebody.explained())["user"]["id"]
    await admin.put(f"users/{user}", {"tier": "paid"})
    await somebody.expect(200, None)
    told = await somebody.explained()
    ages = [told["key"]["ageSeconds"], told["user"]["ageSeconds"], told["sources"][0]["ageSeconds"]]
    assert all(0 <= age < 5 for age in ages), "what is older is asked for again"
    of_file = (await admin.get("explain?key=user&model=open"))["key"]
    assert (of_file["id"], of_file["ageSeconds"]) == ("user", None)


# --- a key that a key made: it may no more than its maker


async def made_by(one: Somebody) -> Somebody:
    """Somebody's second key, which the first has made and which names no bounds of its own."""
    async with Wire.open(one.admin.stage.port) as wire:
        await wire.send(request_bytes("POST", "/api/ai/keys", {"name": "second"}, key=one.key))
        made = (await wire.reply()).json()
    return Somebody(one.admin, one.admin.plant_key(made), made["id"], one.model, one.fake)


async def test_what_a_maker_has_used_up_is_used_up_for_what_it_made(admin: Admin) -> None:
    one = await Somebody.of(admin, key_limits=USED_UP)
    second = await made_by(one)
    await one.expect(200, None)
    told = await second.expect(429, "insufficient_quota")
    assert [(each["limit"], each["used"]) for each in told["limits"]] == [("requests", 1)]


async def test_a_model_that_the_maker_may_not_use(admin: Admin) -> None:
    one, other = await Somebody.of(admin), await Somebody.of(admin)
    key_id = fresh("narrow")
    one.key = await admin.new_key(one.model["name"], id=key_id, models=[other.model["name"]])
    await admin.post(f"ai/models/{one.model['id']}/link-user", {"userId": one.model["name"]})
    second = await made_by(one)
    told = await second.explained()
    assert (told["verdict"]["served"], told["verdict"]["code"]) == (False, "model_not_accessible"), told["verdict"]
    assert (await admin.chat(one.model["name"], second.key)).error()["code"] == "model_not_accessible"


async def test_a_key_ends_with_its_maker(admin: Admin) -> None:
    """It shows that one's end and scopes; and is refused once that one's user is switched off."""
    one = await Somebody.of(admin)
    maker = await admin.new_key(one.model["name"], id=fresh("brief"), expires="2099-01-02")
    one.key = maker
    await admin.post(f"ai/models/{one.model['id']}/link-user", {"userId": one.model["name"]})
    second = await made_by(one)
    assert (await second.expect(200, None))["key"]["expires"] == "2099-01-02T00:00:00Z"
    await admin.put(f"users/{one.model['name']}", {"enabled": False})
    told = await second.explained()
    assert (told["verdict"]["served"], told["verdict"]["code"]) == (False, "invalid_api_key"), told["verdict"]
    assert (await admin.chat(one.model["name"], second.key)).status == 401
