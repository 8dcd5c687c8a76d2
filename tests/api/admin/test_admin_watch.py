"""Features, endpoints, cooldowns, explanations and the audit trail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from admin_kit import ADMIN_KEYS, SECRET, Admin, fresh
from kit import KEYS, answer

from gateway.api.admin import admin_routes


async def test_a_feature_is_switched(admin: Admin) -> None:
    """Off at once on every AI route, with the body that panels look for; admin routes go on; and on again at once."""
    assert await admin.get("features/ai") == {"name": "ai", "enabled": True}
    try:
        assert await admin.put("features/ai", {"enabled": False}) == {"name": "ai", "enabled": False}
        off = await admin.chat("listed")
        assert (off.status, off.body) == (503, b'{"error":"feature_disabled"}')
        assert (await admin.get("explain?user=42&model=listed"))["verdict"]["code"] == "feature_disabled"
    finally:
        await admin.put("features/ai", {"enabled": True})
    assert (await admin.chat("listed")).status == 200


async def test_other_features(admin: Admin) -> None:
    """The file's value holds until it is set; one that nobody mentions is on; a name must be one."""
    assert await admin.get("features/beta") == {"name": "beta", "enabled": False}
    await admin.put("features/beta", {"enabled": True})
    assert (await admin.get("features/beta"))["enabled"] is True
    await admin.put("features/beta", {"enabled": False})
    assert (await admin.get("features/unheard-of"))["enabled"] is True
    await admin.refused("PUT", "features/beta", {"enabled": "yes"}, status=400, code="invalid_request")
    await admin.refused("PUT", "features/%20x", {"enabled": True}, status=400, code="invalid_request")


async def endpoint_of(admin: Admin, model: str) -> dict[str, Any]:
    found = [each for each in await admin.get("ai/endpoints") if each["modelName"] == model]
    assert len(found) == 1
    return dict(found[0])


async def test_a_cooldown_is_seen_and_ended(admin: Admin) -> None:
    """A 429 cools the endpoint: the routes say so, an admin ends it, and the next request goes there again."""
    fake = admin.stage.upstream.endpoint("tired").replies(answer(429, headers=[("retry-after", "300")]))
    assert (await endpoint_of(admin, "tired"))["state"] == "available"
    assert (await admin.chat("tired")).status == 429
    cooling = await endpoint_of(admin, "tired")
    assert (cooling["modelId"], cooling["endpointId"], cooling["url"]) == ("id-tired", "tired", fake.url)
    assert (cooling["state"], cooling["cause"], cooling["inFlight"]) == ("cooling", "rate_limited", 0)
    assert 290 < cooling["secondsLeft"] <= 300
    newest = (await admin.get("ai/cooldowns"))[0]
    assert (newest["modelId"], newest["modelName"], newest["endpoint"]) == ("id-tired", "tired", fake.url)
    assert newest["waitMs"] == 300_000
    assert newest["timestamp"].endswith("Z")
    explained = await admin.get("explain?user=42&model=tired")
    assert explained["pools"][0]["order"] == []
    await admin.delete("ai/endpoints/id-tired/tired/cooldown")
    assert (await endpoint_of(admin, "tired"))["state"] == "available"
    assert (await admin.chat("tired")).status == 200
    await admin.refused("DELETE", "ai/endpoints/id-tired/none/cooldown", status=404, code="not_found")
    await admin.refused("DELETE", "ai/endpoints/none/tired/cooldown", status=404, code="not_found")


async def test_explain_walks_every_source_in_order(admin: Admin) -> None:
    """User, organisations, plans, global: granted or not and why; the first that grants wins."""
    told = await admin.get("explain?key=user&model=planned")
    assert [(each["source"], each["id"], each["granted"], each["wins"]) for each in told["sources"]] == [
        ("user", 42, False, False),
        ("organisation", 10, False, False),
        ("plan", "pro", True, True),
        ("global", None, False, False),
    ]
    assert all(each["why"] for each in told["sources"])
    assert (told["verdict"]["served"], told["verdict"]["source"], told["verdict"]["model"]) == (True, "plan", "planned")
    assert (told["key"]["id"], told["key"]["refusal"], told["user"]["id"]) == ("user", None, 42)


async def test_explain_says_where_limits_stand(admin: Admin) -> None:
    """The limits that hold, of the grant and of the key, and what is used of them; asking uses nothing."""
    user, key_id = fresh("limited"), fresh("key")
    key = await admin.new_key(user, id=key_id, limits={"rpm": 9})
    limits = {"requests": 5, "tokens": 100_000, "period": "day"}
    await admin.post("ai/models/id-free/link-user", {"userId": user, "limits": limits})
    assert (await admin.chat("free", key)).status == 200
    for _ in range(2):
        told = await admin.get(f"explain?key={key_id}&model=free")
        stands = {(each["counts"], each["limit"]): (each["most"], each["used"]) for each in told["limits"]}
        assert stands["you", "requests"] == (5, 1)
        assert stands["this key", "rpm"] == (9, 1)
    assert next(each for each in told["limits"] if each["limit"] == "tokens")["resetsAt"].endswith("T00:00:00Z")


async def test_explain_knows_the_pools(admin: Admin) -> None:
    """The order of attempts, then the fallbacks; no upstream is asked for it."""
    fakes = [admin.stage.upstream.endpoint(name) for name in ("open.a", "open.b", "listed")]
    before = [len(fake.requests) for fake in fakes]
    told = await admin.get("explain?user=nobody&model=open")
    assert [(pool["model"], pool["fallback"], pool["order"]) for pool in told["pools"]] == [
        ("open", False, ["open.a", "open.b"]),
        ("listed", True, ["listed"]),
    ]
    assert told["verdict"]["source"] == "global"
    assert [len(fake.requests) for fake in fakes] == before


REFUSALS = {
    "user=42&model=free": "model_not_accessible",
    "key=old&model=listed": "invalid_api_key",
    "key=manager&model=open": "insufficient_scope",
}


@pytest.mark.parametrize("query", REFUSALS)
async def test_explain_says_why_not(admin: Admin, query: str) -> None:
    """The code is that of the refusal that a request would get."""
    told = await admin.get(f"explain?{query}")
    assert (told["verdict"]["served"], told["verdict"]["code"]) == (False, REFUSALS[query])
    assert told["verdict"]["why"]


async def test_explain_without_a_model_or_with_an_unknown_one(admin: Admin) -> None:
    """Both mean the assigned model, and it is said that it is."""
    for query in ("user=42", "user=42&model=gpt-99"):
        verdict = (await admin.get(f"explain?{query}"))["verdict"]
        assert (verdict["model"], verdict["source"]) == ("listed", "user")
        assert "assigned" in verdict["why"]


async def test_explain_must_know_whom(admin: Admin) -> None:
    """Neither or both of key and user, or a key that there is not."""
    for query in ("", "?model=open", "?user=1&key=user"):
        await admin.refused("GET", f"explain{query}", status=400, code="invalid_request")
    await admin.refused("GET", "explain?key=none", status=404, code="not_found")


async def test_every_change_is_written_down(admin: Admin) -> None:
    """Who changed what, before and after, newest first, in the store and in the log; credentials are masked."""
    made, _ = await admin.new_model()
    await admin.put(f"ai/models/{made['id']}", made | {"tags": ["changed"]})
    owner = fresh("audited")
    link = (await admin.post(f"users/{owner}/ai/new", {"modelId": made["id"]}))["link"]
    await admin.delete(f"users/{owner}/ai/{link['id']}")
    await admin.delete(f"ai/models/{made['id']}")
    trail = await admin.get("audit?limit=5")
    assert [(each["action"], each["kind"], each["id"]) for each in trail] == [
        ("delete", "model", made["id"]),
        ("delete", "link", link["id"]),
        ("create", "link", link["id"]),
        ("replace", "model", made["id"]),
        ("create", "model", made["id"]),
    ]
    assert {(each["key"], each["user"]) for each in trail} == {("admin", "root")}
    assert (trail[3]["before"]["tags"], trail[3]["after"]["tags"]) == ([], ["changed"])
    assert (trail[4]["before"], trail[0]["after"]) == (None, None)
    assert trail[0]["before"]["endpoints"][0]["api_key"] == "set"
    assert trail[2]["after"] == {"owner": owner, "kind": "user", "link": link}
    line = await admin.stage.gateway.log(lambda each: each.get("requestId") == trail[0]["requestId"])
    assert (line["event"], line["action"], line["kind"]) == ("audit", "delete", "model")
    assert SECRET not in str(trail)


async def test_a_refused_change_is_no_change(admin: Admin) -> None:
    """What was refused leaves no entry."""
    before = await admin.get("audit?limit=1")
    await admin.refused("PUT", "users/42", {}, status=409, code="defined_in_file")
    await admin.refused("POST", "ai/models", {}, status=400, code="invalid_request")
    assert await admin.get("audit?limit=1") == before


ROWS = [(route.method, route.path.removeprefix("/api/admin/")) for route in admin_routes()]


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_only_those_who_may_manage(admin: Admin, method: str, path: str) -> None:
    """Every admin route wants a key, and a key that may manage; even the body is looked at later."""
    target = path.replace("{", "").replace("}", "")
    for key, status, code in ((None, 401, "missing_api_key"), (KEYS["user"], 403, "insufficient_scope")):
        reply = await admin.call(method, target, b"not even JSON", key=key)
        assert (reply.status, reply.json()["error"]) == (status, code)


async def test_every_row_says_what_goes_in_and_out() -> None:
    """The rows are what the schema of the routes is made from."""
    for route in admin_routes():
        assert route.summary
        assert route.answer is not None
        assert (route.body is not None) == (route.method in ("POST", "PUT"))
    types = {each for route in admin_routes() for each in (route.body, route.answer) if each is not None}
    schemas, components = msgspec.json.schema_components(types, ref_template="#/{name}")
    assert len(schemas) == len(types)
    assert {"ModelBody", "ModelShown", "KeyMade", "Explanation"} <= set(components)


async def test_unknown_routes_and_methods_are_told_in_our_shape(admin: Admin) -> None:
    """404 and 405 in the flat shape."""
    await admin.refused("GET", "nothing", status=404, code="not_found")
    await admin.refused("PATCH", "keys", {}, status=405, code="method_not_allowed")
    reply = await admin.call("GET", "keys", key=ADMIN_KEYS["manager"])
    assert reply.status == 200
