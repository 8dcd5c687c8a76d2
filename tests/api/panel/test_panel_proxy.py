"""POST /api/ai/proxy/{modelId}/{path}: the same relay with the model in the URL, and no way past it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kit import KEYS, UPSTREAM_WORDS, Reply, Stage, Wire, answer, ask, request_bytes
from kit.answers import upstream_error
from panel_kit import flat, post

PATHS = [
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "rerank",
    "images/generations",
    "audio/speech",
]


async def send(stage: Stage, method: str, target: str, body: Any = b"{}") -> Reply:
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, body, key=KEYS["user"]))
        return await wire.reply()


@pytest.mark.parametrize("version", ["", "v1/"])
@pytest.mark.parametrize("path", PATHS)
async def test_every_path_of_the_openai_surface(panel: Stage, path: str, version: str) -> None:
    """With or without `v1/`: the upstream is asked for that path, and its answer comes back byte for byte."""
    model = panel.model()
    body = b'{ "spaced" :  [1.10] }'
    model.a.replies(answer(200, body))
    reply = await post(panel, f"/api/ai/proxy/id-{model.name}/{version}{path}", {"input": "x"})
    assert (reply.status, reply.body) == (200, body)
    assert model.a.requests[0].route == path
    assert model.a.requests[0].json() == {"input": "x", "model": model.provider_name}


async def test_the_url_wins_over_the_body(panel: Stage) -> None:
    """Neither `model` nor `modelId` of the body matter, whatever they are, and `modelId` is not forwarded."""
    model, other = panel.model(), panel.model()
    for said in (
        {"model": other.name},
        {"modelId": f"id-{other.name}"},
        {"modelId": ["odd"], "model": 7},
        {"modelId": None},
    ):
        reply = await post(panel, f"/api/ai/proxy/id-{model.name}/chat/completions", ask(**said))
        assert reply.header("x-gateway-model") == model.name
        assert reply.header("x-gateway-requested-model") is None
        assert model.a.requests[-1].json() == ask(model.provider_name)
    assert other.asked() == [0]


async def test_streams_pass_as_they_are(panel: Stage) -> None:
    """This is OpenAI's wire, not the panel's."""
    model = panel.model()
    reply = await post(panel, f"/api/ai/proxy/id-{model.name}/chat/completions", ask(stream=True))
    direct = await panel.post(panel.model().chat(stream=True))
    assert reply.body.replace(model.provider_name.encode(), b"") == direct.body.replace(
        json.loads(direct.body.split(b"\n\n")[0][6:])["model"].encode(), b""
    )


async def test_what_an_upstream_refuses_is_relayed(panel: Stage) -> None:
    """Byte for byte, unlike on the chat route: who calls this speaks OpenAI's wire."""
    model = panel.model()
    model.a.replies(upstream_error(422))
    reply = await post(panel, f"/api/ai/proxy/id-{model.name}/chat/completions", ask())
    assert (reply.status, reply.error()["message"]) == (422, UPSTREAM_WORDS)


async def test_our_own_errors_are_flat(panel: Stage) -> None:
    """With the codes of the OpenAI routes."""
    model = panel.model("single")
    target = f"/api/ai/proxy/id-{model.name}/chat/completions"
    assert flat(await post(panel, target, b"{")) == (400, "invalid_json")
    assert flat(await post(panel, target, ask(models=["x"]))) == (400, "field_not_allowed")
    assert flat(await post(panel, target, ask(), key=None)) == (401, "missing_api_key")
    assert flat(await post(panel, target, ask(), key=KEYS["reader"])) == (403, "insufficient_scope")
    model.a.replies(upstream_error(500))
    assert flat(await post(panel, target, ask())) == (502, "upstream_error")


async def test_models_that_are_not_there_or_not_granted(panel: Stage) -> None:
    """An id is asked for, and nothing serves in its place; names are no ids."""
    for unknown in ("77", panel.model().name, "%2e%2e", ".."):
        reply = await send(panel, "POST", f"/api/ai/proxy/{unknown}/chat/completions")
        assert flat(reply) == (404, "model_not_found")
    reply = await send(panel, "POST", "/api/ai/proxy/id-private/chat/completions")
    assert flat(reply) == (403, "model_not_accessible")


async def test_an_id_with_a_slash(panel: Stage) -> None:
    """Escaped, it is part of the id and not of the path."""
    reply = await send(panel, "POST", "/api/ai/proxy/id-meta-llama%2FLlama-3.1-8B/chat/completions")
    assert reply.header("x-gateway-model") == "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/models",
        "/v1",
        "/v1/models",
        "/files",
        "/v1/files",
        "/v2/chat/completions",
        "/v1/v1/chat/completions",
        "/chat",
        "/chat/completions/",
        "//chat/completions",
        "/chat//completions",
        "/v1//chat/completions",
        "/chat%2Fcompletions",
        "/chat%2fcompletions",
        "/%63hat/completions",
        "/chat/completions%00",
        "/chat/completions%20",
        "/chat/completions;x",
        "/chat/completions%3Fx",
        "/CHAT/completions",
        "/./chat/completions",
        "/v1/../chat/completions",
        "/v1/%2e%2e/chat/completions",
        "/%2e%2e/%2e%2e/chat/completions",
        "/..%2fchat/completions",
        "/chat/completions/../../files",
        "/chat/completions/%2e%2e/%2e%2e/files",
        "/chat\\completions",
        "/chat%5Ccompletions",
        "/http://elsewhere.test/chat/completions",
        "/@elsewhere.test/chat/completions",
    ],
)
async def test_no_other_path_leads_anywhere(panel: Stage, path: str) -> None:
    """Only the paths of the table, spelled as they are there; nothing is asked of any upstream."""
    model = panel.model()
    accepted = panel.upstream.accepted
    reply = await send(panel, "POST", f"/api/ai/proxy/id-{model.name}{path}")
    assert flat(reply) == (404, "not_found")
    assert (model.asked(), panel.upstream.accepted) == ([0], accepted)


@pytest.mark.parametrize("target", ["/api/ai/proxy/../chat", "/api/ai/proxy", "/api/ai/proxy/", "/api/ai//proxy/1/x"])
async def test_odd_ways_to_the_proxy_itself(panel: Stage, target: str) -> None:
    assert flat(await send(panel, "POST", target)) == (404, "not_found")


async def test_a_query_is_not_passed_on(panel: Stage) -> None:
    """What an endpoint is asked with is the operator's to say."""
    model = panel.model()
    reply = await send(panel, "POST", f"/api/ai/proxy/id-{model.name}/chat/completions?api-version=evil", ask())
    assert reply.status == 200
    assert "?" not in model.a.requests[0].target


async def test_the_wrong_method(panel: Stage) -> None:
    """A path that is there takes POST alone."""
    for method in ("GET", "PUT", "DELETE"):
        reply = await send(panel, method, "/api/ai/proxy/1/chat/completions")
        assert flat(reply) == (405, "method_not_allowed")
        assert reply.header("allow") == "POST"
