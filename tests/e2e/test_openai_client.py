"""The official `openai` library works by setting `base_url`: answers, streams and every class of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from kit import KEYS, RESET, Behaviour, Stage, events
from kit.answers import TOOL_CALL, delta, response_events, upstream_error
from kit.stage import SLASHED

HELLO = "Hello from the fake upstream"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module", params=["/v1", "/api/ai/openai/v1"])
def base_url(stage: Stage, request: pytest.FixtureRequest) -> str:
    return stage.url + str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def blocking(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


async def test_chat(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """A chat gets the upstream's answer, and the upstream the provider's name of the model."""
    model = stage.model()
    answer = await client.chat.completions.create(model=model.name, messages=MESSAGES)
    assert answer.choices[0].message.content == HELLO
    assert answer.usage is not None
    assert answer.usage.total_tokens == 21
    assert model.a.requests[0].json() == {"model": model.provider_name, "messages": MESSAGES}


async def test_chat_stream(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """A streamed chat arrives word by word, without a usage event that nobody asked for."""
    stream = await client.chat.completions.create(model=stage.model().name, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == HELLO
    assert len(chunks) == len(HELLO.split())


async def test_chat_stream_with_usage(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """A client that asks for usage gets it as the last chunk."""
    stream = await client.chat.completions.create(
        model=stage.model().name, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 21


async def test_tools(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """Tools go up as they were written, and the tool call comes back."""
    model = stage.model()
    answer = await client.chat.completions.create(model=model.name, messages=MESSAGES, tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].to_dict() == TOOL_CALL
    assert model.a.requests[0].json()["tools"] == TOOLS


async def test_completions(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """The older completions route, plain and streamed."""
    model = stage.model()
    plain = await client.completions.create(model=model.name, prompt="Say")
    assert plain.choices[0].text == HELLO
    stream = await client.completions.create(model=model.name, prompt="Say", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == HELLO


async def test_embeddings(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """Vectors come back as numbers."""
    answer = await client.embeddings.create(model=stage.model().name, input="words", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -0.25]


async def test_responses(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """The responses route, plain and streamed; the stream's last event bears the usage."""
    model = stage.model()
    plain = await client.responses.create(model=model.name, input="Hi")
    assert plain.output_text == HELLO
    stream = await client.responses.create(model=model.name, input="Hi", stream=True)
    got = [each async for each in stream]
    assert "".join(each.delta for each in got if each.type == "response.output_text.delta") == HELLO
    assert got[-1].type == "response.completed"
    assert got[-1].response.usage is not None
    assert got[-1].response.usage.total_tokens == 21
    assert "stream_options" not in model.a.requests[-1].json(), "include_usage is no field of this route"


async def test_moderations_images_speech(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """The routes without text: JSON results and audio bytes."""
    model = stage.model().name
    assert not (await client.moderations.create(model=model, input="peace")).results[0].flagged
    images = await client.images.generate(model=model, prompt="a gate")
    assert images.data is not None
    assert images.data[0].b64_json == "aGVsbG8="
    speech = await client.audio.speech.create(model=model, voice="alloy", input="Hi")
    assert speech.content.startswith(b"ID3\x04\x00\xff\xfb")


async def test_models(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """`models` lists public names, and one can be fetched by its name, slashes included."""
    listed = {model.id async for model in client.models.list()}
    assert {SLASHED, stage.model().name} <= listed
    assert not [name for name in listed if name.startswith("provider/")]
    one = await client.models.retrieve(SLASHED)
    assert (one.id, one.object) == (SLASHED, "model")


async def test_a_model_with_a_slash_in_its_name_chats(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """The name is used as it is, not as a path."""
    answer = await client.chat.completions.create(model=SLASHED, messages=MESSAGES)
    assert answer.model == f"provider/{SLASHED}"


async def test_the_blocking_client(stage: Stage, blocking: openai.OpenAI) -> None:
    """The synchronous client does the same: chat, stream, completions, embeddings, responses, models."""
    model = stage.model().name

    def everything() -> list[object]:
        chat = blocking.chat.completions.create(model=model, messages=MESSAGES)
        stream = blocking.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        words = blocking.responses.create(model=model, input="Hi", stream=True)
        return [
            chat.choices[0].message.content,
            "".join(chunk.choices[0].delta.content or "" for chunk in stream),
            blocking.completions.create(model=model, prompt="Say").choices[0].text,
            blocking.embeddings.create(model=model, input="x", encoding_format="float").data[0].embedding,
            blocking.responses.create(model=model, input="Hi").output_text,
            "".join(each.delta for each in words if each.type == "response.output_text.delta"),
            model in {each.id for each in blocking.models.list()},
            blocking.models.retrieve(SLASHED).id,
        ]

    assert await asyncio.to_thread(everything) == [HELLO] * 3 + [[0.5, -0.25], HELLO, HELLO, True, SLASHED]


async def test_authentication_error(client: openai.AsyncOpenAI) -> None:
    """A key that nobody knows: AuthenticationError."""
    stranger = client.with_options(api_key="sk-nobody-knows-this-key")
    with pytest.raises(openai.AuthenticationError) as caught:
        await stranger.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


async def test_permission_denied_error(client: openai.AsyncOpenAI) -> None:
    """A key without `ai:use`: PermissionDeniedError."""
    reader = client.with_options(api_key=KEYS["reader"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await reader.chat.completions.create(model="m", messages=MESSAGES)
    assert (caught.value.code, caught.value.type) == ("insufficient_scope", "permission_error")


async def test_not_found_error(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """A model that does not exist: NotFoundError."""
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("no-such/model")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("behaviour", "expected", "code"),
    [
        (upstream_error(429, retry_after="1"), openai.RateLimitError, "upstream_rate_limited"),
        (upstream_error(400), openai.BadRequestError, "upstream_code"),
        (upstream_error(422), openai.UnprocessableEntityError, "upstream_code"),
        (upstream_error(500), openai.InternalServerError, "upstream_error"),
        (upstream_error(401), openai.InternalServerError, "upstream_credentials_rejected"),
    ],
    ids=["429", "400", "422", "500", "401"],
)
async def test_upstream_errors_become_the_librarys_errors(
    stage: Stage,
    client: openai.AsyncOpenAI,
    behaviour: Behaviour,
    expected: type[openai.APIError],
    code: str,
) -> None:
    """What an upstream says arrives as the exception that a user of the library expects."""
    model = stage.model()
    model.a.always(behaviour)
    with pytest.raises(expected) as caught:
        await client.chat.completions.create(model=model.name, messages=MESSAGES)
    assert caught.value.code == code


async def test_api_error_in_mid_stream(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """A stream that dies raises APIError after the words that came; nobody takes it for the whole."""
    model = stage.model()
    model.a.replies(events(delta("Hel"), delta("lo"), RESET))
    words: list[str | None] = []
    stream = await client.chat.completions.create(model=model.name, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012  # what came before the error counts as well
        async for chunk in stream:
            words.append(chunk.choices[0].delta.content)
    assert caught.value.code == "stream_incomplete"
    assert words == ["Hel", "lo"]


async def test_api_error_in_mid_stream_of_responses(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """The same on the responses route, whose errors are events with a name."""
    model = stage.model()
    model.a.replies(events(*response_events(model.provider_name, "Hello there")[:2], RESET))
    stream = await client.responses.create(model=model.name, input="Hi", stream=True)
    with pytest.raises(openai.APIError) as caught:
        _ = [each async for each in stream]
    assert "stream_incomplete" in str(caught.value.body)
