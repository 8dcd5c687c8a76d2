"""The official `anthropic` library works by setting `base_url` and the key: answers, streams, each class of error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from kit import KEYS, RESET, Behaviour, FreshModel, Stage, answer, events
from kit.messages import USAGE, block, delta, ending, fresh, fresh_pair, message, named, refusal, spoken, start, text

HELLO = "Hello from the fake upstream"
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
TOOLS: Any = [{"name": "weather", "description": "Of a place", "input_schema": {"type": "object"}}]


def said(*content: Any) -> Any:
    return [{"role": "user", "content": list(content) or "Hi"}]


@pytest.fixture(scope="module", params=["", "/api/ai/anthropic"])
def base_url(stage: Stage, request: pytest.FixtureRequest) -> str:
    return stage.url + str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(base_url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bearer(base_url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """With an authorization header in the key's place."""
    async with anthropic.AsyncAnthropic(
        base_url=base_url, api_key=None, auth_token=KEYS["user"], max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="module")
def blocking(base_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=base_url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


def only_text(got: Any) -> str:
    return "".join(each.text for each in got.content if each.type == "text")


async def test_a_message(stage: Stage, client: anthropic.AsyncAnthropic, bearer: anthropic.AsyncAnthropic) -> None:
    for each in (client, bearer):
        model = fresh(stage)
        got = await each.messages.create(model=model.name, max_tokens=64, messages=said())
        assert only_text(got) == HELLO
        assert got.usage.cache_read_input_tokens == USAGE["cache_read_input_tokens"]
        assert got._request_id
        assert model.a.requests[0].json() == {"max_tokens": 64, "messages": said(), "model": model.provider_name}


async def test_a_stream(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    model = fresh(stage)
    async with client.messages.stream(model=model.name, max_tokens=64, messages=said()) as stream:
        words = [word async for word in stream.text_stream]
        final = await stream.get_final_message()
    assert words == HELLO.split(" ")
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 12)


async def test_tools_thinking_and_pictures(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    model = fresh(stage)
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    given = [{"type": "input_json_delta", "partial_json": part} for part in ('{"city":', '"Bern"}')]
    thought = [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "sig"}]
    thinking = block(0, {"type": "thinking", "thinking": "", "signature": ""}, *thought)
    model.a.replies(events(start(), *thinking, *block(1, tool, *given), *ending(reason="tool_use")))
    async with client.messages.stream(
        model=model.name,
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        system=[{"type": "text", "text": "Be kind", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=said(PICTURE, {"type": "text", "text": "What is it?"}),
        tools=TOOLS,
    ) as stream:
        final = await stream.get_final_message()
    kinds = [each.type for each in final.content]
    assert kinds == ["thinking", "tool_use"]
    assert final.content[1].input == {"city": "Bern"}  # type: ignore[union-attr]
    sent = model.a.requests[0].json()
    assert sent["messages"][0]["content"][0] == PICTURE
    assert (sent["tools"], sent["system"][0]["cache_control"]["ttl"]) == (TOOLS, "1h")


async def test_counting_tokens(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(model=fresh(stage).name, messages=said(), tools=TOOLS)
    assert counted.input_tokens == 14


async def test_beta_messages(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    model = fresh(stage)
    got = await client.beta.messages.create(
        model=model.name, max_tokens=9, messages=said(), betas=["a-1", "b-2"], extra_query={"beta": "true"}
    )
    assert only_text(got) == HELLO
    request = model.a.requests[0]
    assert request.target.endswith("/messages?beta=true")
    assert request.header("anthropic-beta") == "a-1,b-2"


async def test_models(client: anthropic.AsyncAnthropic) -> None:
    """Page by page, each once."""
    names = [model.id async for model in client.models.list(limit=50)]
    assert len(names) == len(set(names)) > 200
    one = await client.models.retrieve("mixed")
    assert (one.type, one.display_name, one.lifecycle) == ("model", "mixed", "active")
    assert one.created_at.year == 1970
    before = [model.id async for model in client.models.list(before_id=names[7], limit=3)]
    assert sorted(before) == sorted(names[:7])


async def test_the_blocking_client(stage: Stage, blocking: anthropic.Anthropic) -> None:
    model = fresh(stage)

    def everything() -> list[object]:
        got = blocking.messages.create(model=model.name, max_tokens=64, messages=said())
        stream = blocking.messages.create(model=model.name, max_tokens=64, messages=said(), stream=True)
        words = [each.delta.text for each in stream if each.type == "content_block_delta"]  # type: ignore[union-attr]
        with blocking.messages.stream(model=model.name, max_tokens=64, messages=said()) as helper:
            final = helper.get_final_text()
        counted = blocking.messages.count_tokens(model=model.name, messages=said())
        first = next(iter(blocking.models.list(limit=1)))
        return [only_text(got), " ".join(words), final.replace(" ", ""), counted.input_tokens, first.type]

    told = await asyncio.get_running_loop().run_in_executor(None, everything)
    assert told == [HELLO, HELLO, HELLO.replace(" ", ""), 14, "model"]


def at_both(model: FreshModel, behaviour: Behaviour) -> None:
    for each in model.endpoints:
        each.replies(behaviour)


@pytest.mark.parametrize(
    ("status", "kind", "expected", "code"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError, None),
        (403, "permission_error", anthropic.PermissionDeniedError, None),
        (404, "not_found_error", anthropic.NotFoundError, None),
        (409, "conflict_error", anthropic.ConflictError, None),
        (413, "request_too_large", anthropic.RequestTooLargeError, None),
        (422, "invalid_request_error", anthropic.UnprocessableEntityError, None),
        (429, "rate_limit_error", anthropic.RateLimitError, "upstream_rate_limited"),
        (500, "api_error", anthropic.InternalServerError, "upstream_error"),
        (529, "overloaded_error", anthropic.InternalServerError, "upstream_error"),
    ],
)
async def test_errors_of_upstreams(
    stage: Stage, client: anthropic.AsyncAnthropic, status: int, kind: str, expected: type[Exception], code: str | None
) -> None:
    model = fresh_pair(stage)
    at_both(model, refusal(status, kind))
    with pytest.raises(expected) as raised:
        await client.messages.create(model=model.name, max_tokens=1, messages=said())
    error = raised.value.body["error"]  # type: ignore[attr-defined]
    assert error.get("code") == code
    assert error["type"] == (kind if code is None else {429: kind}.get(status, "api_error"))


async def test_errors_of_our_own(stage: Stage, base_url: str, client: anthropic.AsyncAnthropic) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=base_url, api_key="sk-nobody-0123456789abcdef", max_retries=0
    ) as other:
        with pytest.raises(anthropic.AuthenticationError):
            await other.messages.create(model="m", max_tokens=1, messages=said())
    with pytest.raises(anthropic.PermissionDeniedError):
        await client.messages.create(model="secret", max_tokens=1, messages=said())
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("nobody")
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.list()
    with pytest.raises(anthropic.BadRequestError) as raised:
        await client.messages.create(model=fresh(stage).name, max_tokens=1, messages=said(), extra_body={"route": "x"})
    assert raised.value.request_id == raised.value.response.headers["x-request-id"]


async def test_a_stream_that_breaks_raises(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    model = fresh(stage)
    model.a.replies(events(start(), delta("Hel"), RESET))
    stream = await client.messages.create(model=model.name, max_tokens=64, messages=said(), stream=True)
    with pytest.raises(anthropic.APIStatusError, match="api_error"):
        [each async for each in stream]


class Tap:
    """A client that keeps what it was sent."""

    def __init__(self, base_url: str, key: str) -> None:
        self.client = anthropic.AsyncAnthropic(base_url=base_url, api_key=key, max_retries=0)

    async def bytes_of(self, **asked: Any) -> bytes:
        raw = self.client.messages.with_streaming_response
        async with raw.create(**asked) as response:
            return await response.read()


@pytest.mark.parametrize("streams", [False, True])
async def test_direct_and_through_are_the_same_bytes(stage: Stage, streams: bool) -> None:
    """What the library reads from the upstream itself, and what the gateway hands on."""
    model: FreshModel = fresh(stage)
    odd = [start(), b": note\n\n", *spoken("a b")[2:-2], named("unknown_event", x=1.0), *ending()]
    whole = json.dumps(message(text("é 1.10"), usage=USAGE), ensure_ascii=False, indent=1).encode()

    async def behave(request: Any) -> None:
        await (events(*odd) if request.json().get("stream") else answer(200, whole))(request)

    model.a.always(behave)
    asked = {"model": model.name, "max_tokens": 9, "messages": said(), "stream": streams}
    direct, through = Tap(model.a.url.removesuffix("/v1"), "sk"), Tap(stage.url, KEYS["user"])
    try:
        assert await direct.bytes_of(**asked) == await through.bytes_of(**asked)
    finally:
        await direct.client.close()
        await through.client.close()
    sent, relayed = model.a.requests
    assert relayed.json() == sent.json() | {"model": model.provider_name}
