"""Tokens of an identity provider on every door: who they are, what they may, where they are booked (contract §16)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from kit import KEYS, Reply, Stage, Wire, ask, assert_error, request_bytes
from kit.books import until
from kit.issuer import AUDIENCE, ISSUER, JwksServer, jwk, key_id, token
from kit.stage import endpoint, model

ALICE = f"{ISSUER}:alice"
WIDE = {"scope": "ai:use ai:manage usage:read act:as", "groups": ["red"]}


def entry(**changes: Any) -> dict[str, Any]:
    """An entry of `auth.jwt`."""
    return {"issuer": ISSUER, "audience": AUDIENCE} | changes


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def issuer() -> AsyncIterator[JwksServer]:
    async with JwksServer.serving(jwk("RS256"), jwk("ES256")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doors(tmp_path_factory: pytest.TempPathFactory, issuer: JwksServer) -> AsyncIterator[Stage]:
    """Alice is listed with a tier and a grant, Carl is switched off, of Bob nothing is written down."""
    wide = {"scopes": "scope", "scopes_max": ["ai:use", "ai:manage", "usage:read", "act:as"]}
    grouped = {"organisations": "groups", "organisations_max": ["red"]}
    async with Stage.open(
        tmp_path_factory.mktemp("doors"),
        lambda upstream: [
            model("open", [endpoint(upstream, "open")]),
            model("alices", [endpoint(upstream, "alices")], **{"global": False}),
            model("reds", [endpoint(upstream, "reds")], **{"global": False}),
            model("tight", [endpoint(upstream, "tight")], limits={"rpm": 2}),
        ],
        organisations=[{"id": "red", "grants": [{"model": "reds"}]}],
        users=[
            {"id": 42, "tier": "paid"},
            {"id": ALICE, "tier": "enterprise", "name": "Alice", "grants": [{"model": "alices"}]},
            {"id": f"{ISSUER}:carl", "enabled": False},
        ],
        routing={"unknown_model": "reject"},
        auth={
            "jwt": [
                entry(jwks_url=issuer.url),
                entry(jwks_url=issuer.url, audience="wide", user_prefix=f"{ISSUER}:", **wide, **grouped),
            ]
        },
    ) as stage:
        yield stage


async def send(stage: Stage, method: str, target: str, body: Any = None, **headers: str) -> Reply:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, body, headers=named))
        return await wire.reply()


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256"])
async def test_a_token_opens_every_door_that_a_key_does(doors: Stage, algorithm: str) -> None:
    good = token(algorithm)
    for headers in (bearer(good), {"authorization": f"ApiKey {good}"}, {"x_api_key": good}, {"api_key": good}):
        assert (await send(doors, "POST", "/v1/chat/completions", ask("open"), **headers)).status == 200
    azure = await send(doors, "POST", "/openai/deployments/open/chat/completions?api-version=1", ask(), api_key=good)
    assert azure.status == 200
    message = {"model": "open", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    assert (await send(doors, "POST", "/v1/messages", message, x_api_key=good)).status == 200
    assert (await send(doors, "GET", "/v1/models", **bearer(good))).status == 200
    for request in doors.upstream.endpoint("open").requests:
        assert good.encode() not in request.head


async def test_a_token_opens_a_websocket(doors: Stage) -> None:
    good, bad = token(), token(aud="other")
    async with aiohttp.ClientSession() as session:
        protocols = ("realtime", f"openai-insecure-api-key.{good}")
        async with session.ws_connect(f"{doors.url}/v1/responses", protocols=protocols) as socket:
            await socket.send_json({"type": "response.create", "model": "open", "input": "Hi"})
            kinds = [json.loads((await socket.receive()).data)["type"]]
            assert kinds[0] != "error" or "token" not in kinds
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{doors.url}/v1/responses", protocols=(f"openai-insecure-api-key.{bad}",))
        assert refused.value.status == 401


async def test_who_a_token_is_and_what_its_record_gives(doors: Stage) -> None:
    me = (await send(doors, "GET", "/api/ai/me", **bearer(token()))).json()
    assert (me["user"], me["name"], me["tier"], me["scopes"]) == (ALICE, "Alice", "enterprise", ["ai:use"])
    bob = (await send(doors, "GET", "/api/ai/me", **bearer(token(sub="bob")))).json()
    assert (bob["user"], bob["tier"]) == (f"{ISSUER}:bob", "free")
    assert (await send(doors, "POST", "/v1/chat/completions", ask("alices"), **bearer(token()))).status == 200
    refused = await send(doors, "POST", "/v1/chat/completions", ask("alices"), **bearer(token(sub="bob")))
    assert_error(refused, 403, "model_not_accessible", "permission_error", "model")


async def test_an_organisation_that_a_token_names_grants_its_models(doors: Stage) -> None:
    of_red = token(sub="bob", aud="wide", groups=["blue", "red"], scope="ai:use")
    assert (await send(doors, "POST", "/v1/chat/completions", ask("reds"), **bearer(of_red))).status == 200
    for other in (token(sub="bob", aud="wide", groups=["blue"], scope="ai:use"), token(sub="bob", groups=["red"])):
        reply = await send(doors, "POST", "/v1/chat/completions", ask("reds"), **bearer(other))
        assert_error(reply, 403, "model_not_accessible", "permission_error", "model")
    acting = bearer(token(sub="root", aud="wide", **WIDE)) | {"x_gateway_user": "somebody"}
    reply = await send(doors, "POST", "/v1/chat/completions", ask("reds"), **acting)
    assert_error(reply, 403, "model_not_accessible", "permission_error", "model")


async def test_limits_count_the_tokens_user_whatever_its_token(doors: Stage) -> None:
    statuses = [
        (await send(doors, "POST", "/v1/chat/completions", ask("tight"), **bearer(token(sub=sub, jti=str(n))))).status
        for n, sub in enumerate(["dora", "dora", "dora", "emil"])
    ]
    assert statuses == [200, 200, 429, 200]


async def test_a_token_is_booked_and_has_its_receipt(doors: Stage) -> None:
    good = token(sub="fred", aud="wide", groups=["red"], scope="ai:use usage:read")
    reply = await send(doors, "POST", "/v1/chat/completions", ask("reds"), **bearer(good))
    number = reply.header("x-request-id")

    async def receipt() -> dict[str, Any] | None:
        found = await send(doors, "GET", f"/api/ai/usage/requests/{number}", **bearer(token(sub="fred")))
        return dict(found.json()) if found.status == 200 else None

    await until(receipt)
    of_red = (await send(doors, "GET", "/api/soc/usage/org/red?group=user", **bearer(good))).json()
    assert f"{ISSUER}:fred" in [each["user"] for each in of_red["rows"]]
    rows = (await send(doors, "GET", "/api/soc/usage?group=user&group=key", **bearer(good))).json()
    assert {"user": f"{ISSUER}:fred", "key": f"jwt:{ISSUER}"}.items() <= next(
        each for each in rows["rows"] if each["user"] == f"{ISSUER}:fred"
    ).items()
    other = await send(doors, "GET", f"/api/ai/usage/requests/{number}", **bearer(token(sub="gina")))
    assert (other.status, other.json()["error"]) == (404, "receipt_not_found")


FAULTY = {
    "ended": {"exp": 1_700_000_000, "iat": 1_699_999_000},
    "of another audience": {"aud": ["other"]},
    "of nobody": {"sub": None},
    "with a line end": {"sub": "a\r\nb"},
}


@pytest.mark.parametrize("name", FAULTY)
async def test_a_faulty_token_is_an_invalid_key(doors: Stage, name: str) -> None:
    """With the very body of an unknown key."""
    unknown = await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer("sk-unknown-0123456789abcdef"))
    reply = await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer(token(**FAULTY[name])))
    assert_error(reply, 401, "invalid_api_key")
    assert reply.body == unknown.body


async def test_a_user_that_is_switched_off_has_no_tokens(doors: Stage) -> None:
    reply = await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer(token(sub="carl")))
    assert_error(reply, 401, "invalid_api_key")


async def test_a_long_token_is_read_and_an_endless_one_is_refused(doors: Stage) -> None:
    long = token(groups=["g" * 30] * 130)
    assert 4096 < len(long) < 8000
    assert (await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer(long))).status == 200
    reply = await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer("k" * 5000))
    assert_error(reply, 400, "invalid_request")


async def test_a_token_makes_nothing_that_would_outlive_it(doors: Stage) -> None:
    """No key, no rotation, no ticket, no session: whatever its scopes."""
    strong = bearer(token(sub="root", aud="wide", **WIDE))
    for target, body, code in (
        ("/api/ai/keys", {"name": "mine"}, "insufficient_scope"),
        ("/api/admin/keys", {"user": 42}, "insufficient_scope"),
        ("/api/admin/keys/user/rotate", {}, "insufficient_scope"),
        ("/api/ai/keys/none/rotate", {}, "insufficient_scope"),
        ("/api/ai/tickets", {}, "insufficient_scope"),
    ):
        reply = await send(doors, "POST", target, body, **strong, x_gateway_user="42")
        assert (reply.status, reply.json()["error"]) == (403, code), target
    origin = {"origin": doors.url, "sec_fetch_site": "same-origin"}
    reply = await send(doors, "POST", "/dashboard/session", {"key": token()}, **origin)
    assert reply.status == 401
    assert "provider" in reply.json()["message"]


async def test_admin_routes_and_acting_for_others_go_by_the_tokens_scopes(doors: Stage) -> None:
    strong = bearer(token(sub="root", aud="wide", **WIDE))
    assert (await send(doors, "GET", "/api/admin/keys", **strong)).status == 200
    me = (await send(doors, "GET", "/api/ai/me", **strong, x_gateway_user=ALICE)).json()
    assert me["user"] == ALICE
    weak = await send(doors, "GET", "/api/admin/keys", **bearer(token(**WIDE)))
    assert weak.status == 403
    weak = await send(doors, "GET", "/api/ai/me", **bearer(token()), x_gateway_user="42")
    assert weak.status == 403


async def test_readiness_tells_of_the_keys(doors: Stage, issuer: JwksServer) -> None:
    strong = bearer(token(sub="root", aud="wide", **WIDE))
    found = (await send(doors, "GET", "/readyz", **strong)).json()["detail"]["issuers"]
    assert [(each["url"], each["keys"], each["fault"]) for each in found] == [(issuer.url, 2, None)]


async def test_a_users_record_may_be_made_and_switched_off_at_run_time(doors: Stage) -> None:
    """Within P5's second, on a socket that is open too."""
    strong, hugo = bearer(token(sub="root", aud="wide", **WIDE)), token(sub="hugo")
    path = "/api/admin/users/https%3A%2F%2Fid.example.org%3Ahugo"
    assert (await send(doors, "PUT", path, {"tier": "paid"}, **strong)).status in (200, 201)
    me = (await send(doors, "GET", "/api/ai/me", **bearer(hugo))).json()
    assert (me["user"], me["tier"]) == (f"{ISSUER}:hugo", "paid")
    async with aiohttp.ClientSession() as session:
        protocols = (f"openai-insecure-api-key.{hugo}",)
        async with session.ws_connect(f"{doors.url}/v1/responses", protocols=protocols) as socket:
            assert (await send(doors, "PUT", path, {"tier": "paid", "enabled": False}, **strong)).status == 200
            async with asyncio.timeout(10):
                while not socket.closed:
                    await socket.receive()
            assert socket.close_code == 1008
    assert_error(await send(doors, "POST", "/v1/chat/completions", ask("open"), **bearer(hugo)), 401, "invalid_api_key")


async def test_keys_go_on_beside_tokens(doors: Stage) -> None:
    assert (await doors.post(ask("open"), key=KEYS["user"])).status == 200
    assert_error(await doors.post(ask("open"), key=KEYS["expired"]), 401, "invalid_api_key")


async def test_no_token_is_in_the_log(doors: Stage) -> None:
    """P7; the file is run in order, so the log has all of the above in it."""
    output = doors.gateway.output()
    assert token().split(".")[0] not in output
    assert token(header={"kid": key_id("RS256")}).split(".")[1][:40] not in output
    assert ALICE in output
