"""Azure's clients work by setting the endpoint: their paths, their key's header, their api-version."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from kit import KEYS, Stage, Wire, assert_error, request_bytes
from kit.answers import answer
from kit.stage import SLASHED, ask

HELLO = "Hello from the fake upstream"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
VERSION = "2024-10-21"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(stage: Stage) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    """As its users make one: it writes the deployment into the path from each request's model."""
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=stage.url, api_key=KEYS["user"], api_version=VERSION, max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="module")
def blocking(stage: Stage) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=stage.url, api_key=KEYS["user"], api_version=VERSION, max_retries=0
    ) as client:
        yield client


async def test_chat_and_its_stream(stage: Stage, client: openai.AsyncAzureOpenAI) -> None:
    model = stage.model()
    answer = await client.chat.completions.create(model=model.name, messages=MESSAGES)
    assert answer.choices[0].message.content == HELLO
    request = model.a.requests[0]
    assert request.json() == {"model": model.provider_name, "messages": MESSAGES}
    assert request.route == "chat/completions"
    assert "api-version" not in request.target
    assert request.header("api-key") is None
    stream = await client.chat.completions.create(model=model.name, messages=MESSAGES, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == HELLO


async def test_every_kind_of_answer(stage: Stage, client: openai.AsyncAzureOpenAI) -> None:
    model = stage.model()
    assert (await client.completions.create(model=model.name, prompt="Hi")).choices[0].text
    assert (await client.embeddings.create(model=model.name, input="Hi")).data
    assert (await client.responses.create(model=model.name, input="Hi")).output_text == HELLO
    assert (await client.moderations.create(model=model.name, input="Hi")).results
    assert (await client.images.generate(model=model.name, prompt="Hi")).data
    assert (await client.audio.speech.create(model=model.name, input="Hi", voice="alloy")).content
    assert any(each.id == model.name for each in (await client.models.list()).data)
    assert (await client.models.retrieve(model.name)).id == model.name
    stream = await client.responses.create(model=model.name, input="Hi", stream=True)
    assert [event.type async for event in stream][-1] == "response.completed"


async def test_the_blocking_client(stage: Stage, blocking: openai.AzureOpenAI) -> None:
    model = stage.model()

    def ask_for_all() -> str:
        picture = blocking.images.generate(model=model.name, prompt="Hi")
        assert base64.b64decode((picture.data or [])[0].b64_json or "") is not None
        assert blocking.audio.speech.create(model=model.name, input="Hi", voice="alloy").content
        stream = blocking.chat.completions.create(model=model.name, messages=MESSAGES, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert await asyncio.to_thread(ask_for_all) == HELLO


async def test_forms(stage: Stage, client: openai.AsyncAzureOpenAI) -> None:
    """Sound and pictures are sent as forms; the model of the path is written into them."""
    model = stage.model()
    model.a.always(answer(200, {"text": "Hi", "created": 1, "data": []}))
    heard = await client.audio.transcriptions.create(model=model.name, file=("a.wav", b"RIFF"))
    assert heard.text == "Hi"
    await client.images.edit(model=model.name, prompt="Hi", image=("a.png", b"\x89PNG"))
    sent = [(request.route, request.body) for request in model.a.requests]
    assert [route for route, _ in sent] == ["audio/transcriptions", "images/edits"]
    assert all(f"\r\n\r\n{model.provider_name}\r\n".encode() in body for _, body in sent)


async def test_a_client_of_one_deployment(stage: Stage) -> None:
    """`azure_deployment` goes into the base URL, and before whatever a request's body says."""
    model, other = stage.model(), stage.model()
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=stage.url,
        azure_deployment=model.name,
        api_key=KEYS["user"],
        api_version=VERSION,
        max_retries=0,
    ) as client:
        await client.chat.completions.create(model=other.name, messages=MESSAGES)
        assert (model.asked(), other.asked()) == ([1], [0])
        assert model.a.requests[0].json()["model"] == model.provider_name
        assert any(each.id == model.name for each in (await client.models.list()).data)


async def test_a_bearer_token_as_of_entra(stage: Stage) -> None:
    model = stage.model()
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=stage.url, azure_ad_token=KEYS["user"], api_version=VERSION, max_retries=0
    ) as client:
        assert (await client.chat.completions.create(model=model.name, messages=MESSAGES)).choices


@pytest.mark.parametrize("base", ["/openai/v1/", "/openai/"])
async def test_the_plain_client_below_azures_paths(stage: Stage, base: str) -> None:
    model = stage.model()
    async with openai.AsyncOpenAI(base_url=stage.url + base, api_key=KEYS["user"], max_retries=0) as client:
        assert (await client.chat.completions.create(model=model.name, messages=MESSAGES)).choices
        assert (await client.models.retrieve(SLASHED)).id == SLASHED


@pytest.mark.parametrize("name", [SLASHED, SLASHED.replace("/", "%2F")])
async def test_a_deployment_with_a_slash_and_no_model_in_the_body(stage: Stage, name: str) -> None:
    reply = await stage.post(ask(), f"openai/deployments/{name}/chat/completions?api-version=1", prefix="/")
    assert (reply.status, reply.header("x-gateway-model")) == (200, SLASHED)


async def test_a_deployment_that_does_not_exist(stage: Stage, strict: Stage) -> None:
    """It is a model's name like any other; `modelId` goes before it, as it does before `model`."""
    model = stage.model()
    reply = await strict.post(ask(strict.model().name), "openai/deployments/nobody/chat/completions", prefix="/")
    assert_error(reply, 404, "model_not_found", param="model")
    reply = await stage.post({"input": "x"}, "openai/deployments/nobody/embeddings", prefix="/")
    assert_error(reply, 404, "model_not_found", param="model")
    body = ask(modelId=f"id-{model.name}")
    reply = await stage.post(body, "openai/deployments/nobody/chat/completions", prefix="/")
    assert (reply.status, model.asked()) == (200, [1])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/openai/v1/embeddings", 405, "method_not_allowed"),
        ("GET", "/openai/deployments/m/chat/completions", 405, "method_not_allowed"),
        ("POST", "/openai/deployments//chat/completions", 404, "not_found"),
        ("POST", "/openai/deployments/m/models", 404, "not_found"),
        ("POST", "/openai/deployments/m/", 404, "not_found"),
        ("GET", "/openai/me", 404, "not_found"),
        ("POST", "/openai/v1/openai/v1/chat/completions", 404, "not_found"),
    ],
)
async def test_only_relayed_routes_have_deployments(
    stage: Stage, method: str, path: str, status: int, code: str
) -> None:
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, path, ask("m"), key=KEYS["user"]))
        assert_error(await wire.reply(), status, code)


async def test_the_feature_switches_these_paths_off_too(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, features={"ai": False}) as stage, Wire.open(stage.port) as wire:
        for path in ("/openai/v1/responses", "/openai/deployments/m/chat/completions", "/openai/nothing"):
            await wire.send(request_bytes("POST", path, ask("m"), key=KEYS["user"]))
            reply = await wire.reply()
            assert (reply.status, reply.body) == (503, b'{"error":"feature_disabled"}')
            assert reply.header("x-should-retry") == "false"


# --- a base URL that is almost right


@pytest.mark.parametrize(
    ("path", "base_url"),
    [
        ("/chat/completions", "/v1"),
        ("//chat/completions", "/v1"),
        ("/v1/v1/chat/completions", "/v1"),
        ("/v1/v1/v1/embeddings", "/v1"),
        ("/v1//chat/completions", "/v1"),
        ("//v1/chat/completions", "/v1"),
        ("/v1/chat//completions", "/v1"),
        ("/api/ai/openai/chat/completions", "/api/ai/openai/v1"),
        ("/api/ai/openai/v1/v1/chat/completions", "/api/ai/openai/v1"),
        ("/api/ai/openai//v1/chat/completions", "/api/ai/openai/v1"),
        ("/openai/v1/v1/chat/completions", "/openai/v1"),
        ("/openai//v1/chat/completions", "/openai/v1"),
        ("//openai/deployments/m/chat/completions", "/openai"),
        ("/openai/deployments/m//chat/completions", "/openai"),
        ("/openai/v1/deployments/m/chat/completions", "/openai"),
        ("/v1/nothing", None),
        ("/openai/nothing", None),
        ("/v2/chat/completions", None),
    ],
)
async def test_the_message_of_a_404_has_the_right_base_url(stage: Stage, path: str, base_url: str | None) -> None:
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", path, ask("m"), key=KEYS["user"]))
        reply = await wire.reply()
    assert_error(reply, 404, "not_found")
    message = reply.error()["message"]
    assert ("base_url" in message) == (base_url is not None)
    if base_url is not None:
        assert message.endswith(f"http://gateway.test{base_url}")


@pytest.mark.parametrize("path", ["/models", "/v1/v1/models", "/models/a/b", "/v1//models/x", "/openai/v1/v1/models/x"])
async def test_a_get_is_helped_as_well(stage: Stage, path: str) -> None:
    reply = await stage.get(path)
    assert_error(reply, 404, "not_found")
    assert "base_url" in reply.error()["message"]
