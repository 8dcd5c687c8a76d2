"""Who may ask for what, which model answers, and which headers travel: sections 3 and 4 of the contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Stage, Wire, answer, ask, assert_error, raw, request_bytes
from kit.answers import full
from kit.stage import SLASHED, Record, endpoint, model, upstream_key

CHAT = "/v1/chat/completions"
NOT_TEXT = ("embeddings", "rerank", "moderations", "images/generations", "audio/speech")


def registered(upstream: FakeUpstream) -> Iterator[Record]:
    """Five models of which none is global."""
    for number, name in enumerate(["gpt-4o", "local-llama", "org-model", "plan-model"], start=1):
        aliases = [f"{name}-latest"]
        yield model(name, [endpoint(upstream, name)], id=number, aliases=aliases) | {"global": False}
    yield model("odd", [endpoint(upstream, "odd")], id="x-9") | {"global": False}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def registry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """User 42 has local-llama and odd of its own, org-model by organisation 10, plan-model by plan pro; not gpt-4o."""
    async with Stage.open(
        tmp_path_factory.mktemp("registry"),
        registered,
        organisations=[{"id": 10, "name": "Example Org", "grants": [{"model": "org-model"}]}],
        plans=[{"id": "pro", "grants": [{"model": 4}]}],
        users=[
            {
                "id": 42,
                "tier": "paid",
                "organisations": [10],
                "plans": ["pro"],
                "grants": [{"model": "local-llama"}, {"model": "x-9"}],
            },
            {"id": "by-org", "organisations": [10], "plans": ["pro"]},
            {"id": "by-plan", "plans": ["pro"]},
        ],
    ) as stage:
        yield stage


# --- keys


@pytest.mark.parametrize(
    "form", ["authorization: Bearer {}", "authorization: ApiKey {}", "x-api-key: {}", "api-key: {}"]
)
@pytest.mark.parametrize("spelling", [str, str.upper], ids=["as written", "name in capitals"])
async def test_four_ways_to_show_a_key(stage: Stage, form: str, spelling: Any) -> None:
    """All four work on both prefixes; header names have no case."""
    name, value = form.format(KEYS["user"]).split(": ")
    for prefix in ("/v1/", "/api/ai/openai/v1/"):
        headers = [(spelling(name), value)]
        assert (await stage.post(stage.model().chat(), key=None, prefix=prefix, headers=headers)).status == 200


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer ")], [("authorization", "Basic dTpw")]])
async def test_no_key(stage: Stage, headers: list[tuple[str, str]]) -> None:
    """401 that says how to authenticate."""
    reply = await stage.post(ask(), key=None, headers=headers)
    assert_error(reply, 401, "missing_api_key")
    assert reply.header("www-authenticate") == "Bearer"


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-gateway-user"])
@pytest.mark.parametrize("values", [("a", "a"), ("",), ("u" * 5000,)], ids=["twice", "empty", "too long"])
async def test_a_header_that_tells_who_asks_is_clear(stage: Stage, name: str, values: tuple[str, ...]) -> None:
    """400 whatever else is shown, and the connection goes on: what a proxy in front read may have been the other."""
    key = None if name == "authorization" else KEYS["panel"]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", "/v1/models", key=key, headers=[(name, value) for value in values]))
        assert_error(await wire.reply(), 400, "invalid_request")
        await wire.send(request_bytes("GET", "/v1/models", key=KEYS["user"]))
        assert (await wire.reply()).status == 200


async def test_unknown_and_expired_keys_look_the_same(stage: Stage) -> None:
    """One body for both: nobody learns whether a key once was good."""
    expired = await stage.post(ask(), key=KEYS["expired"])
    assert_error(expired, 401, "invalid_api_key")
    for unknown in ("sk-nobody-knows-this-key", KEYS["user"] + "x", KEYS["user"][:-1], "é" * 30):
        reply = await stage.post(ask(), key=unknown)
        assert (reply.status, reply.body) == (401, expired.body)


async def test_a_key_without_the_scope(stage: Stage) -> None:
    """403 insufficient_scope, for models as for chats."""
    assert_error(await stage.post(ask(), key=KEYS["reader"]), 403, "insufficient_scope", "permission_error")
    assert_error(await stage.get("/v1/models", key=KEYS["reader"]), 403, "insufficient_scope", "permission_error")


@pytest.mark.parametrize(
    ("method", "target", "key", "body", "code"),
    [
        ("POST", "/v1/nowhere", None, b"{", "not_found"),
        ("PUT", CHAT, None, b"{", "method_not_allowed"),
        ("POST", CHAT, None, b"{", "missing_api_key"),
        ("POST", CHAT, "sk-nobody-knows-this-key", b"{", "invalid_api_key"),
        ("POST", CHAT, KEYS["reader"], b"{", "insufficient_scope"),
        ("POST", CHAT, KEYS["stranger"], b"{", "invalid_json"),
        ("POST", CHAT, KEYS["stranger"], b'{"models":[],"modelId":77}', "field_not_allowed"),
        ("POST", CHAT, KEYS["stranger"], b'{"modelId":77}', "model_not_found"),
        ("POST", CHAT, KEYS["stranger"], b'{"model":"gpt-4o"}', "model_not_accessible"),
        ("POST", CHAT, KEYS["stranger"], b'{"model":"gpt-77"}', "no_model_granted"),
    ],
)
async def test_refusals_come_in_the_contracts_order(
    registry: Stage, method: str, target: str, key: str | None, body: bytes, code: str
) -> None:
    """Route and method, key, scope, body, model: of several faults the first is told."""
    async with Wire.open(registry.port) as wire:
        await wire.send(request_bytes(method, target, body, key=key))
        assert (await wire.reply()).error()["code"] == code


async def test_a_body_that_is_too_large_is_no_matter_without_a_key(stage: Stage) -> None:
    """The key comes before the body, also where the body's size is known."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", CHAT, headers=[("content-length", str(33 << 20))]))
        assert (await wire.head()).status == 401


async def test_a_field_that_would_choose_past_the_grant(registry: Stage) -> None:
    """400 that names the field; nothing goes upstream."""
    before = len(registry.upstream.endpoint("local-llama").requests)
    reply = await registry.post(ask(model="local-llama", models=["gpt-4o"]))
    assert_error(reply, 400, "field_not_allowed", param="models")
    assert len(registry.upstream.endpoint("local-llama").requests) == before


# --- acting for a user


async def test_a_panel_acts_for_its_users(registry: Stage) -> None:
    """`act:as` uses the user's grants: the user's assigned model serves, the user's models are listed."""
    acting = [("x-gateway-user", "42")]
    reply = await registry.post(ask(), key=KEYS["panel"], headers=acting)
    assert reply.header("x-gateway-model") == "local-llama"
    request = registry.upstream.endpoint("local-llama").requests[-1]
    assert request.header("x-gateway-user") is None
    assert_error(await registry.post(ask(), key=KEYS["panel"]), 403, "no_model_granted", "permission_error")


@pytest.mark.parametrize(
    ("user", "serves"), [("42", "local-llama"), ("by-org", "org-model"), ("by-plan", "plan-model")]
)
async def test_the_assigned_model_comes_from_the_first_source(registry: Stage, user: str, serves: str) -> None:
    """The user's own grants, then the organisations', then the plans'."""
    reply = await registry.post(ask(), key=KEYS["panel"], headers=[("x-gateway-user", user)])
    assert (reply.status, reply.header("x-gateway-model")) == (200, serves)


async def test_acting_needs_its_scope(registry: Stage) -> None:
    """A key without `act:as` cannot choose whom it is."""
    reply = await registry.post(ask(), headers=[("x-gateway-user", "by-plan")])
    assert_error(reply, 403, "insufficient_scope", "permission_error")


# --- which model


@pytest.mark.parametrize(
    ("fields", "serves"),
    [
        ({"modelId": 2}, "local-llama"),
        ({"modelId": "2"}, "local-llama"),
        ({"modelId": "x-9"}, "odd"),
        ({"modelId": 3, "model": "local-llama"}, "org-model"),
        ({"modelId": 2, "model": "gpt-4o"}, "local-llama"),
        ({"model": "plan-model"}, "plan-model"),
        ({"model": "plan-model-latest"}, "plan-model"),
        ({"model": "x-9"}, "odd"),
        ({"model": "3"}, "org-model"),
        ({"model": "gpt-77"}, "local-llama"),
        ({"model": ""}, "local-llama"),
        ({}, "local-llama"),
    ],
)
async def test_which_model_serves(registry: Stage, fields: dict[str, Any], serves: str) -> None:
    """`modelId`, else `model` by id, name or alias, else the assigned one; upstream goes its provider's name alone."""
    reply = await registry.post(ask(**fields))
    assert (reply.status, reply.header("x-gateway-model")) == (200, serves)
    assert registry.upstream.endpoint(serves).requests[-1].json() == ask(model=f"provider/{serves}")


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"model": "gpt-77"}, "gpt-77"), ({"model": "plan-model-latest"}, None), ({"model": "x-9"}, None), ({}, None)],
)
async def test_another_model_than_the_named_one_is_told(
    registry: Stage, fields: dict[str, Any], told: str | None
) -> None:
    """An alias or an id names its model; a model that nobody knows is served by another, and that is said."""
    reply = await registry.post(ask(**fields))
    assert reply.header("x-gateway-requested-model") == told


@pytest.mark.parametrize("model_id", [77, "77", "gpt-77"])
async def test_an_unknown_model_id(registry: Stage, model_id: object) -> None:
    """`modelId` is meant: nothing else serves in its place."""
    reply = await registry.post(ask(modelId=model_id))
    assert_error(reply, 404, "model_not_found", param="model")


@pytest.mark.parametrize("fields", [{"model": "gpt-4o"}, {"model": "gpt-4o-latest"}, {"modelId": 1}, {"model": "1"}])
async def test_a_model_that_is_not_granted(registry: Stage, fields: dict[str, Any]) -> None:
    """Known, but not this caller's: 403, and it is not replaced by another."""
    reply = await registry.post(ask(**fields))
    assert_error(reply, 403, "model_not_accessible", "permission_error", param="model")


@pytest.mark.parametrize("route", NOT_TEXT)
async def test_an_unknown_model_is_never_replaced_where_results_are_not_text(registry: Stage, route: str) -> None:
    """Vectors, verdicts, images and sound of another model would be wrong in silence."""
    reply = await registry.post({"model": "gpt-77", "input": "x"}, route)
    assert_error(reply, 404, "model_not_found", param="model")


async def test_unknown_models_can_be_refused(strict: Stage) -> None:
    """`routing.unknown_model: reject`."""
    reply = await strict.post(ask(model="gpt-77"))
    assert_error(reply, 404, "model_not_found", param="model")


async def test_global_models_come_last_and_in_order(stage: Stage) -> None:
    """Without any grant the first global model serves."""
    reply = await stage.post(ask(), key=KEYS["stranger"])
    assert reply.header("x-gateway-model") == SLASHED


# --- models


async def test_each_caller_sees_its_own_models(registry: Stage) -> None:
    """`models` lists what this caller may use, by public name, and no credential or address."""
    reply = await registry.get("/v1/models")
    listed = reply.json()
    assert listed["object"] == "list"
    assert {each["id"] for each in listed["data"]} == {"local-llama", "odd", "org-model", "plan-model"}
    assert all(each["object"] == "model" and isinstance(each["created"], int) for each in listed["data"])
    assert b"127.0.0.1" not in reply.body
    assert (await registry.get("/api/ai/openai/v1/models")).body == reply.body
    assert (await registry.get("/v1/models", key=KEYS["stranger"])).json()["data"] == []


async def test_one_model(registry: Stage) -> None:
    """A model of the caller's, one that is not, and one that is not there."""
    assert (await registry.get("/v1/models/org-model")).json()["id"] == "org-model"
    assert_error(
        await registry.get("/v1/models/gpt-4o"), 403, "model_not_accessible", "permission_error", param="model"
    )
    assert_error(await registry.get("/v1/models/no/such"), 404, "model_not_found", param="model")


@pytest.mark.parametrize("path", ["meta-llama/Llama-3.1-8B", "meta-llama%2FLlama-3.1-8B"])
async def test_one_model_with_a_slash(stage: Stage, path: str) -> None:
    """Names with slashes are found, written either way."""
    assert (await stage.get(f"/api/ai/openai/v1/models/{path}")).json()["id"] == SLASHED


# --- the feature flag


async def test_the_ai_feature_switched_off(tmp_path: Path) -> None:
    """Every AI route says so with this very body, before anything else; the rest of the gateway lives."""
    async with Stage.open(tmp_path, registered, features={"ai": False}) as off:
        for method, target in [
            ("POST", CHAT),
            ("GET", "/v1/models"),
            ("GET", "/v1/nowhere"),
            ("GET", "/api/ai/models"),
        ]:
            async with Wire.open(off.port) as wire:
                await wire.send(request_bytes(method, target))
                reply = await wire.reply()
            assert (reply.status, reply.body) == (503, b'{"error":"feature_disabled"}')
            assert reply.header("x-should-retry") == "false"
        assert (await off.get("/healthz", key=None)).status == 200


# --- load


async def test_too_many_requests_in_flight(tmp_path: Path) -> None:
    """Beyond `server.max_in_flight`: 503 overloaded; when the others are done, everything is as before."""

    def one(upstream: FakeUpstream) -> list[Record]:
        return [model("only", [endpoint(upstream, "only")])]

    async with Stage.open(tmp_path, one, server={"max_in_flight": 2}) as small:
        release = asyncio.Event()
        only = small.upstream.endpoint("only").replies(*[raw(release, full(200, b"{}"))] * 2)
        async with small.asking(ask(model="only")) as first, small.asking(ask(model="only")) as second:
            await only.request(2)
            reply = await small.post(ask(model="only"))
            assert_error(reply, 503, "overloaded")
            assert reply.header("retry-after") == "1"
            release.set()
            assert [(await each.reply()).status for each in (first, second)] == [200, 200]
        assert (await small.post(ask(model="only"))).status == 200


# --- headers

PASSED = {
    "content-language": "de",
    "content-disposition": "inline",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
}
HELD_BACK = {
    "set-cookie": "session=1",
    "server": "upstream/1.0",
    "x-powered-by": "something",
    "openai-organization": "org-secret",
    "x-ratelimit-remaining-requests": "7",
    "access-control-allow-origin": "*",
    "location": "http://elsewhere.test/",
    "x-gateway-model": "forged",
    "keep-alive": "timeout=5",
}


async def test_response_headers_pass_by_a_list(stage: Stage) -> None:
    """Of the upstream's headers only those of the contract arrive; its request id under a name of its own."""
    fresh = stage.model()
    fresh.a.replies(answer(200, b"{}", [*PASSED.items(), *HELD_BACK.items(), ("x-request-id", "upstream-1")]))
    reply = await stage.post(fresh.chat())
    assert {name: reply.header(name) for name in PASSED} == PASSED
    assert [name for name, value in HELD_BACK.items() if value in reply.all(name)] == []
    assert reply.header("x-upstream-request-id") == "upstream-1"
    assert reply.all("x-gateway-model") == [fresh.name]
    assert len(reply.all("x-request-id")) == 1
    assert reply.header("x-request-id") != "upstream-1"


async def test_nothing_private_of_the_clients_goes_upstream(stage: Stage) -> None:
    """Not the key, nor cookies, nor where the client is."""
    fresh = stage.model()
    private = {
        "cookie": "session=1",
        "x-api-key": KEYS["user"],
        "x-forwarded-for": "10.9.8.7",
        "proxy-authorization": "Basic dTpw",
        "referer": "http://panel.test/",
        "origin": "http://panel.test",
        "x-anything": "else",
        "openai-organization": "org-of-the-client",
    }
    assert (await stage.post(fresh.chat(), headers=private.items())).status == 200
    request = fresh.a.requests[0]
    assert [name for name in private if request.header(name) is not None] == []
    assert request.header("authorization") == f"Bearer {upstream_key(fresh.a.name)}"
    assert request.header("host") == f"127.0.0.1:{stage.upstream.port}"
    assert request.header("content-type") == "application/json"
    assert KEYS["user"].encode() not in request.head + request.body


async def test_every_answer_has_its_own_request_id(stage: Stage) -> None:
    """Good answers, streams, refusals and pages of ours: always one, never the same."""
    replies = [
        await stage.post(stage.model().chat()),
        await stage.post(stage.model().chat(stream=True)),
        await stage.post(ask(), key=None),
        await stage.post(b"{"),
        await stage.get("/v1/models"),
        await stage.get("/v1/nowhere"),
    ]
    ids = [reply.header("x-request-id") for reply in replies]
    assert None not in ids
    assert len(set(ids)) == len(ids)


async def test_a_clients_own_request_id_is_logged_beside_ours(stage: Stage) -> None:
    """A caller can find its request in the log by the id that it gave; the answer bears ours."""
    mine = "my-request-8c1f"
    reply = await stage.post(stage.model().chat(), headers=[("x-request-id", mine)])
    assert reply.header("x-request-id") != mine
    line = await stage.gateway.log(lambda each: mine in map(str, each.values()))
    assert reply.header("x-request-id") in line.values()


@pytest.mark.parametrize("given", ["x" * 129, "tab\there", "caf\xe9"], ids=["too long", "a tab", "not ASCII"])
async def test_a_request_id_that_is_none_is_not_logged(stage: Stage, given: str) -> None:
    """Only 1 to 128 printable characters are taken for an id; the request is served all the same."""
    reply = await stage.post(stage.model().chat(), headers=[("x-request-id", given)])
    assert reply.status == 200
    ours = reply.header("x-request-id")
    line = await stage.gateway.log(lambda each: each.get("event") == "request" and ours in each.values())
    assert given not in map(str, line.values())


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_gateways_own_share_of_the_time(stage: Stage, streamed: bool) -> None:
    """`server-timing` tells it in milliseconds."""
    reply = await stage.post(stage.model().chat(stream=streamed))
    assert re.fullmatch(r"gateway;dur=\d+(\.\d+)?", reply.header("server-timing") or "")


async def test_alive_and_ready_need_no_key(stage: Stage) -> None:
    """Load balancers have none."""
    assert [(await stage.get(page, key=None)).status for page in ("/healthz", "/readyz")] == [200, 200]
